"""Configurations in the form of other packages of this family run as they are: what the migration guide promises."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from model_name import steps
from model_name.core import errors, schemas
from model_name.io import datasets, osvariables
from model_name.scripts import main

SIDES = """
  inputs:
    KIND: ParquetReader
    path: data/inputs.parquet
  targets:
    KIND: ParquetReader
    path: data/targets.parquet"""
CONFIGURATIONS = {
    "tuning": f"""
job:
  KIND: TuningJob{SIDES}
  model:
    KIND: BaselineSklearnModel
    n_estimators: 3
  metric:
    KIND: SklearnMetric
    name: mean_squared_error
    greater_is_better: false
  holdout: {{KIND: TrainTestSplitter, shuffle: false, test_size: 168}}
  splitter:
    KIND: TimeSeriesSplitter
    gap: 0
    n_splits: 2
    test_size: 168
  searcher:
    KIND: GridCVSearcher
    param_grid:
      max_depth: [3, 5]
""",
    "training": f"""
job:
  KIND: TrainingJob{SIDES}
  run_config: {{name: Training, description: as before, tags: {{team: bikes}}, log_system_metrics: false}}
  model:
    KIND: BaselineSklearnModel
    max_depth: 5
    n_estimators: 5
    random_state: 42
  metrics:
    - KIND: SklearnMetric
      name: r2_score
      greater_is_better: true
  splitter:
    KIND: TrainTestSplitter
    shuffle: false
    test_size: 168
  saver: {{KIND: CustomSaver, path: model}}
  signer: {{KIND: InferSigner}}
  registry: {{KIND: MlflowRegister, tags: {{team: bikes}}}}
""",
    "evaluations": f"""
job:
  KIND: EvaluationsJob{SIDES}
  model_type: regressor
  alias_or_version: 1
  metrics:
    - KIND: SklearnMetric
      name: mean_squared_error
      greater_is_better: false
  evaluators: [default]
  thresholds:
    r2_score: {{threshold: 0.0, greater_is_better: true}}
  resamples: 5
  beat_naive: false
""",
    "promotion": "job:\n  KIND: PromotionJob\n  alias: Champion\n  version: null\n",
    "inference": """
job:
  KIND: InferenceJob
  inputs:
    KIND: ParquetReader
    path: data/inputs.parquet
    limit: 100
  outputs:
    KIND: ParquetWriter
    path: outputs/predictions.parquet
  alias_or_version: Champion
  loader: {KIND: CustomLoader}
""",
    "explanations": """
job:
  KIND: ExplanationsJob
  inputs_samples:
    KIND: ParquetReader
    path: data/inputs_test.parquet
    limit: 20
  models_explanations:
    KIND: ParquetWriter
    path: outputs/models_explanations.parquet
  samples_explanations:
    KIND: ParquetWriter
    path: outputs/samples_explanations.parquet
  alias_or_version: Champion
  loader: {KIND: CustomLoader}
""",
}


@pytest.fixture
def place(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of such a package: inputs and targets of five weeks apart, and one file per job in `confs`."""
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.setenv(name, f"sqlite:///{tmp_path.as_posix()}/mlflow.db")
    osvariables.env.cache_clear()
    Path("mlflow.db").write_bytes((empty_store / "mlflow.db").read_bytes())
    with contextlib.closing(sqlite3.connect("mlflow.db")) as database, database:
        database.execute(
            "DELETE FROM experiments WHERE name = 'model_name'"
        )  # its files would be elsewhere
    table = datasets.SimulatedReader(rows=24 * 35).read()
    target = schemas.target_name()
    Path("data").mkdir()
    Path("confs").mkdir()
    table.drop(columns=target).to_parquet("data/inputs.parquet", index=False)
    table.drop(columns=target).tail(168).to_parquet("data/inputs_test.parquet", index=False)
    table[["instant", target]].to_parquet("data/targets.parquet", index=False)
    for name, text in CONFIGURATIONS.items():
        Path("confs", f"{name}.yaml").write_text(text)
    yield tmp_path
    osvariables.env.cache_clear()


def test_every_job_runs_from_such_a_file(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [f"confs/{name}.yaml" for name in CONFIGURATIONS]
    code = main(["run", *files, "--in-process", "-s", "job.logger_service.level=ERROR"])
    shown = capsys.readouterr()
    assert code == 0, shown.err
    assert len(pd.read_parquet("outputs/predictions.parquet")) == 100
    importances = pd.read_parquet("outputs/models_explanations.parquet")
    assert set(importances["feature"]) == set(schemas.InputsSchema.features())
    assert len(pd.read_parquet("outputs/samples_explanations.parquet")) == 20


def test_a_file_with_other_names_is_merged_into_the_job_of_a_verb(place: Path) -> None:
    [step] = steps.load_steps(
        ["explain", "confs/explanations.yaml"], ["explain.inputs_samples.limit=7"]
    )
    assert (step.job.shap_values.path, step.job.inputs.limit) == (
        "outputs/samples_explanations.parquet",
        7,
    )
    assert step.job.feature_importances.path == "outputs/models_explanations.parquet"
    assert step.job.targets is None, (
        "such a file names no targets, and simulated ones are not those of its rows"
    )


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("sample_explanations: {}", "did you mean 'samples_explanations'"),
        ("model_explanation: {}", "did you mean 'model_explanations'"),
        ("input_samples: {}", "did you mean 'inputs_samples'"),
        ("sample: 5", "did you mean 'samples'"),
    ],
)
def test_hints_point_to_the_right_key(place: Path, written: str, told: str) -> None:
    Path("own.yaml").write_text(f"job:\n  KIND: ExplanationsJob\n  {written}\n")
    with pytest.raises(errors.ConfigError, match=f"own.yaml:3: .*{told}"):
        steps.load_steps(["own.yaml"])


def test_another_kind_of_model_than_the_schema_says_is_refused(place: Path) -> None:
    with pytest.raises(
        errors.ConfigError,
        match="evaluate.model_type: .classifier.: the target 'cnt' makes this a regression",
    ):
        steps.load_steps(["evaluate"], ["evaluate.model_type=classifier"])
