"""The project from a table to predictions, on simulated rows that follow the schema: add what matters about yours."""

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest

from model_name import scripts, settings
from model_name.core import errors, metrics, models, schemas
from model_name.io import datasets, registries, services
from model_name.utils import signers, splitters

ROOT = Path(__file__).parent.parent
ROWS = 1_500
QUICK = (
    *("-s", "tune.searcher.n_trials=2", "-s", "tune.model.max_iter=20"),
    *("-s", "tune.searcher.param_grid.max_iter=[20, 30]"),
    *("-s", "train.model.max_iter=40", "-s", "evaluate.resamples=20"),
)


@pytest.fixture(scope="session")
def rows() -> pd.DataFrame:
    return datasets.SimulatedReader(rows=ROWS).read()


@pytest.fixture(scope="session")
def checked(rows: pd.DataFrame) -> tuple[schemas.Inputs, schemas.Targets]:
    return schemas.InputsSchema.check(rows), schemas.TargetsSchema.check(rows)


@pytest.fixture(scope="session")
def table(rows: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "rows.parquet"
    rows.to_parquet(path, index=False)
    return path


def run(folder: Path, words: Sequence[str | Path]) -> int:
    """Run the command line in a folder with a record of its own; return the exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder.as_posix()}/mlflow.db")
        patch.setenv("MLFLOW_REGISTRY_URI", f"sqlite:///{folder.as_posix()}/mlflow.db")
        services.osvariables.env.cache_clear()
        try:
            return scripts.main([str(word) for word in words])
        finally:
            services.osvariables.env.cache_clear()


# -------------------------------------------------------------------------------------------------- schema and rows
def test_no_model_sees_the_target() -> None:
    assert schemas.target_name() not in schemas.InputsSchema.column_names()
    assert schemas.InputsSchema.features() != []
    assert schemas.InputsSchema.index_name() == schemas.TargetsSchema.index_name()


def test_simulated_rows_follow_the_schema_whatever_the_seed() -> None:
    for seed in range(3):
        rows = datasets.SimulatedReader(rows=200, seed=seed, missing=0.2).read()
        assert len(schemas.InputsSchema.check(rows)) == len(schemas.TargetsSchema.check(rows)) == 200


def test_a_missing_column_is_named(rows: pd.DataFrame) -> None:
    first = schemas.InputsSchema.features()[0]
    with pytest.raises(errors.DataError, match="is missing") as caught:
        schemas.InputsSchema.check(rows.drop(columns=first))
    assert repr(first) in str(caught.value)


def test_a_missing_target_is_refused(rows: pd.DataFrame) -> None:
    target = rows[schemas.target_name()].astype("object")
    target.iloc[4] = None
    with pytest.raises(errors.DataError, match="row 5"):
        schemas.TargetsSchema.check(rows.assign(**{schemas.target_name(): target}))


TABLE = ROOT / "{{path}}"

if TABLE.exists():  # git ignores it, so a fresh clone is without

    def test_the_table_follows_the_schema() -> None:
        reader = scripts.load_steps(["train"])[0].job.inputs.model_copy(update={"path": str(TABLE)})
        data = reader.read()
        assert len(schemas.InputsSchema.check(data)) == len(schemas.TargetsSchema.check(data)) == len(data)


# ---------------------------------------------------------------------------------------------------------- models
@pytest.mark.parametrize(
    "model",
    [models.GradientBoostingModel(max_iter=40), models.BaselineSklearnModel(n_estimators=20, n_jobs=1)],
    ids=lambda model: model.KIND,
)
def test_a_model_learns_the_rule_and_predicts_the_same_twice(
    model: models.Model, checked: tuple[schemas.Inputs, schemas.Targets]
) -> None:
    inputs, targets = checked
    train, test = next(splitters.TrainTestSplitter(test_size=0.3, shuffle=True).split(inputs, targets))
    fitted = model.fit(inputs.iloc[train], targets.iloc[train])
    outputs = fitted.predict(inputs.iloc[test])
    assert outputs.equals(fitted.predict(inputs.iloc[test]))
    name = schemas.target_name()
    truth, answers = targets.iloc[test][name], outputs["prediction"]
    if schemas.task() == "classification":
        most_frequent = (truth.astype("str") == str(targets.iloc[train][name].astype("str").mode()[0])).mean()
        assert (truth.astype("str") == answers.astype("str")).mean() > most_frequent + 0.05
    else:
        error, naive = (truth - answers).abs().mean(), (truth - targets.iloc[train][name].mean()).abs().mean()
        assert error < 0.9 * naive


def test_a_model_bears_missing_values_and_unknown_rows(checked: tuple[schemas.Inputs, schemas.Targets]) -> None:
    inputs, targets = checked
    model = models.GradientBoostingModel(max_iter=5).fit(inputs, targets)
    gaps = schemas.InputsSchema.check(datasets.SimulatedReader(rows=50, seed=9, missing=0.5).read())
    assert model.predict(gaps)["prediction"].notna().all()
    with pytest.raises(errors.ModelError, match="not fitted"):
        models.GradientBoostingModel().predict(inputs)


def test_the_signature_names_every_feature(checked: tuple[schemas.Inputs, schemas.Targets]) -> None:
    inputs, targets = checked
    features = schemas.InputsSchema.features()
    outputs = models.GradientBoostingModel(max_iter=2).fit(inputs, targets).predict(inputs)
    signature = signers.InferSigner().sign(inputs[features], outputs)
    assert signature.inputs.input_names() == features


def test_the_default_metrics_suit_the_task(checked: tuple[schemas.Inputs, schemas.Targets]) -> None:
    inputs, targets = checked
    scored = targets.join(models.GradientBoostingModel(max_iter=20).fit(inputs, targets).predict(inputs))
    values = {metric.name: metric.value(scored, scored) for metric in metrics.default_metrics()}
    assert all(pd.notna(value) for value in values.values())


# ------------------------------------------------------------------------------------------------------------ jobs
@pytest.fixture(scope="session")
def done(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which every step of the way was done once, without notebooks."""
    folder = tmp_path_factory.mktemp("done")
    steps = ["tune", "train", "evaluate", "promote", "infer", "explain", "stream"]
    assert run(folder, ["run", *steps, "--in-process", "--data", table, *QUICK]) == 0
    return folder


def test_every_row_gets_a_prediction(done: Path, checked: tuple[schemas.Inputs, schemas.Targets]) -> None:
    predictions = pd.read_parquet(done / "outputs/predictions.parquet")
    assert len(predictions) == ROWS
    assert predictions["prediction"].notna().all()
    name = schemas.InputsSchema.index_name()
    if name is not None:
        found = predictions.get(name, predictions.index)
        assert set(found.astype("str")) == set(checked[0].index.astype("str"))


def test_every_feature_is_explained(done: Path) -> None:
    importances = pd.read_parquet(done / "outputs/feature_importances.parquet")
    assert set(importances["feature"]) == set(schemas.InputsSchema.features())
    assert importances["importance"].ge(0).all()


def test_the_promoted_version_is_the_one_that_was_judged(done: Path) -> None:
    client = services.MlflowService(tracking_uri=f"sqlite:///{done.as_posix()}/mlflow.db").client()
    version = registries.find_version(client, "model_name", "Champion")
    verdict = registries.read_verdict(version)
    assert verdict is not None
    assert verdict.outcome == "passed"


def test_a_threshold_that_is_missed_holds_a_version_back(done: Path, table: Path) -> None:
    first = metrics.default_metrics()[0]
    unreachable = json.dumps(
        {"threshold": 1e9 if first.greater_is_better else -1e9, "greater_is_better": first.greater_is_better}
    )
    words = ["run", "evaluate", "--in-process", "--data", table, "-s", "job.resamples=20"]
    assert run(done, [*words, "-s", f"job.thresholds={{{first.name}: {unreachable}}}"]) == 3


def test_a_run_is_a_notebook(table: Path, tmp_path: Path) -> None:
    assert run(tmp_path, ["run", "train", "--data", table, "-s", "job.model.max_iter=20"]) == 0
    [path] = (tmp_path / "outputs/notebooks").glob("*.ipynb")
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not any(output["output_type"] == "error" for output in outputs)


# --------------------------------------------------------------------------------------------------- configurations
@pytest.mark.parametrize("verb", sorted(settings.verbs()))
def test_the_configuration_of_every_job_is_valid(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert scripts.main(["check", verb]) == 0
    assert "is valid" in capsys.readouterr().out


def test_a_mistake_is_named_with_what_was_meant(capsys: pytest.CaptureFixture[str]) -> None:
    assert scripts.main(["check", "train", "-s", "job.model.max_itr=3"]) == 2
    assert "max_iter" in capsys.readouterr().err
    assert scripts.main(["run", "trian"]) == 2
    assert "did you mean 'train'" in capsys.readouterr().err
