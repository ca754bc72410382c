"""Training: later rows are held back, everything is recorded, and tables that cannot teach anything are refused."""

import json
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow.models import get_model_info

from model_name.core import errors, models, schemas
from model_name.core import metrics as metrics_
from model_name.io import datasets, registries, services
from model_name.jobs import evaluations, promotion, training
from model_name.utils import splitters


def job(
    store: services.MlflowService, reader: datasets.Reader, **settings: Any
) -> training.TrainingJob:
    """A small training job on one table."""
    defaults: dict[str, Any] = {
        "inputs": reader,
        "targets": reader,
        "model": models.GradientBoostingModel(max_iter=10),
        "splitter": splitters.TrainTestSplitter(test_size=48),
        "mlflow_service": store,
        "logger_service": services.LoggerService(level="ERROR"),
    }
    return training.TrainingJob(**(defaults | settings))


def train(
    store: services.MlflowService, reader: datasets.Reader, **settings: Any
) -> training.TrainingResult:
    with job(store, reader, **settings) as made:
        return made.run()


@pytest.fixture(scope="module")
def table(hours: datasets.SimulatedReader) -> pd.DataFrame:
    """Ten days, as a file would have them."""
    return hours.read().head(240)


@pytest.fixture
def write(tmp_path: Path) -> Any:
    """Write a table to a file and return its reader."""

    def write(data: pd.DataFrame, name: str = "table") -> datasets.ParquetReader:
        path = tmp_path / f"{name}.parquet"
        data.to_parquet(path, index=False)
        return datasets.ParquetReader(path=str(path))

    return write


def runs(store: services.MlflowService) -> list[Any]:
    experiment = store.client().get_experiment_by_name("model_name")
    return list(store.client().search_runs([experiment.experiment_id]))


# ------------------------------------------------------------------------------------------------------- it works
def test_everything_about_a_training_run_is_recorded(
    store: services.MlflowService,
    table: pd.DataFrame,
    write: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    reader = write(table)
    result = train(store, reader, registry=registries.MlflowRegister(tags={"team": "bikes"}))
    client = store.client()
    run = client.get_run(result.run_id)
    assert (run.info.run_name, run.info.status) == ("Training", "FINISHED")
    assert (result.train_rows, result.test_rows, result.model_version) == (192, 48, 1)
    assert {"model.KIND", "model.max_iter", "splitter.test_size", "rows"} <= set(run.data.params)
    assert (run.data.params["model.max_iter"], run.data.params["rows"]) == ("10", "192")
    assert {name: run.data.metrics[name] for name in result.metrics} == result.metrics
    assert {file.path for file in client.list_artifacts(result.run_id)} == {
        "figures",
        "training",
        "provenance.json",
    }
    figures = [file.path for file in client.list_artifacts(result.run_id, "figures")]
    assert figures == [f"figures/{name}.png" for name in sorted(result.figures)]

    kept = json.loads(
        Path(run.info.artifact_uri.removeprefix("file://"), "provenance.json").read_text()
    )
    noted = {used.tags[0].value: used.dataset for used in run.inputs.dataset_inputs}
    assert set(noted) == set(kept["inputs"]) == {"inputs", "targets"}
    for name, lineage in noted.items():
        assert kept["inputs"][name]["rows"] == 240
        assert kept["inputs"][name]["sha256"].startswith(lineage.digest), (
            "lineage and provenance agree"
        )
        assert json.loads(lineage.source) == {"uri": Path(reader.path).absolute().as_uri()}
    version = client.get_model_version("model_name", "1")
    assert (version.run_id, version.tags["team"]) == (result.run_id, "bikes")
    assert capsys.readouterr().out == f"[model_name] Training finished: {result.summary}\n"


def test_the_later_rows_are_held_back_whatever_the_order_of_the_file(
    store: services.MlflowService, table: pd.DataFrame, write: Any
) -> None:
    """The score is that of a model which has seen only the earlier rows, computed by hand."""
    result = train(store, write(table.sample(frac=1, random_state=3)))
    assert set(result.scored.index) == set(table["instant"].tail(48))
    inputs, targets = schemas.InputsSchema.check(table), schemas.TargetsSchema.check(table)
    in_days = result.scored.index.to_numpy()
    assert (inputs.loc[in_days, "dteday"] >= inputs["dteday"].iloc[:-48].max()).all()
    seen = [label for label in inputs.index if label not in set(in_days)]
    assert len(seen) == 192
    error = (result.scored["prediction"] - targets.loc[in_days, "cnt"]).abs().mean()
    assert result.metrics["mean_absolute_error"] == pytest.approx(error)
    assert result.worst(3)["error"].is_monotonic_decreasing
    assert (
        result.worst(1)["error"].iloc[0]
        == (result.scored["prediction"] - result.scored["cnt"]).abs().max()
    )


def test_the_answers_of_the_test_rows_change_no_prediction(
    store: services.MlflowService, table: pd.DataFrame, write: Any
) -> None:
    """A leak of any kind would show: other answers in the test rows, and the model says what it said before."""
    changed = table.copy()
    changed.loc[changed.index[-48:], "cnt"] = np.random.default_rng(0).integers(0, 900, 48)
    honest, blind = train(store, write(table)), train(store, write(changed, "changed"))
    assert honest.scored["cnt"].tolist() != blind.scored["cnt"].tolist()
    assert honest.scored["prediction"].tolist() == blind.scored["prediction"].tolist()


def test_training_twice_gives_the_same_model_as_the_next_version(
    store: services.MlflowService, table: pd.DataFrame, write: Any
) -> None:
    first, second = (train(store, write(table)) for _ in range(2))
    assert (first.model_version, second.model_version) == (1, 2)
    assert first.metrics == second.metrics
    pd.testing.assert_frame_equal(first.scored, second.scored)


def test_the_configured_model_stays_unfitted(
    store: services.MlflowService, table: pd.DataFrame, write: Any
) -> None:
    model = models.GradientBoostingModel(max_iter=3)
    train(store, write(table), model=model)
    with pytest.raises(ValueError, match="Model is not fitted yet!"):
        model.predict(schemas.InputsSchema.check(table))


def test_metrics_splitter_and_saver_are_those_that_were_asked_for(
    store: services.MlflowService, table: pd.DataFrame, write: Any
) -> None:
    result = train(
        store,
        write(table),
        metrics=[metrics_.SklearnMetric(name="max_error", greater_is_better=False)],
        splitter=splitters.TimeSeriesSplitter(n_splits=2, test_size=40),
        saver=registries.BuiltinSaver(flavor="sklearn"),
    )
    assert list(result.metrics) == ["max_error"]
    assert result.scored.index.tolist() == table["instant"].tail(40).tolist(), "the last fold"
    loaded = registries.BuiltinLoader().load("models:/model_name/1")
    asked = schemas.InputsSchema.check(table).loc[result.scored.index]
    assert loaded.predict(asked)["prediction"].tolist() == result.scored["prediction"].tolist()


def test_targets_in_a_file_and_an_order_of_their_own(
    store: services.MlflowService, table: pd.DataFrame, write: Any
) -> None:
    together = train(store, write(table))
    inputs = write(table.drop(columns="cnt"), "inputs")
    targets = write(table[["instant", "cnt"]][::-1], "targets")
    apart = train(store, inputs, targets=targets)
    assert apart.metrics == together.metrics
    pd.testing.assert_frame_equal(apart.scored, together.scored)


def test_what_adds_up_to_the_target_is_not_a_feature(
    store: services.MlflowService, table: pd.DataFrame, write: Any
) -> None:
    train(
        store,
        write(table.assign(casual=table["cnt"] // 3, registered=table["cnt"] - table["cnt"] // 3)),
    )
    asked = get_model_info("models:/model_name/1").signature.inputs.input_names()
    assert asked == schemas.InputsSchema.features()
    assert not {"casual", "registered", "cnt"} & set(asked)


# ------------------------------------------------------------------------------------------------------ refusals
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.assign(hum=np.nan), "no row of the 192 has a value in 'hum'"),
        (
            lambda data: data.assign(cnt=7),
            "the target 'cnt' is .*7.* in all of the 192 training rows",
        ),
        (lambda data: data.drop(columns="temp"), "column 'temp' is missing"),
        (
            lambda data: data.assign(instant=5),
            "(?s)instant.*5.*(twice|more than once|duplicate|not unique)",
        ),
        (
            lambda data: data.assign(temp=["warm", *data["temp"][1:].astype(str)]),
            "(?s)temp.*'warm'.*row 1",
        ),
        (lambda data: data.head(48), r"too few rows \(48\)"),
    ],
    ids=[
        "all missing",
        "constant target",
        "missing column",
        "duplicate index",
        "wrong type",
        "too few",
    ],
)
def test_tables_that_cannot_teach_anything(
    change: Any, message: str, store: services.MlflowService, table: pd.DataFrame, write: Any
) -> None:
    with pytest.raises(errors.DataError, match=message):
        train(store, write(change(table)))
    assert [run.info.status for run in runs(store)] == ["FAILED"]
    assert store.client().search_registered_models() == []


def test_a_column_that_is_missing_only_in_the_training_rows(
    store: services.MlflowService, table: pd.DataFrame, write: Any
) -> None:
    late = table.assign(hum=table["hum"].where(table.index >= 200))
    with pytest.raises(errors.DataError, match="no row of the 192 has a value in 'hum'"):
        train(store, write(late))


def test_inputs_and_targets_about_different_rows(
    store: services.MlflowService, table: pd.DataFrame, write: Any
) -> None:
    inputs = write(table, "inputs")
    with pytest.raises(
        errors.DataError,
        match=r"inputs \(240 rows\) and targets \(230 rows\) are not about the same",
    ):
        train(store, inputs, targets=write(table.head(230), "targets"))
    with pytest.raises(
        errors.DataError,
        match=r"1 row\(s\) only in the inputs, such as 1 and 1 row\(s\) only in the",
    ):
        train(store, inputs, targets=write(table.assign(instant=table["instant"] + 1), "targets"))


def test_no_rows_after_the_limit(
    store: services.MlflowService, table: pd.DataFrame, write: Any
) -> None:
    with pytest.raises(errors.DataError, match="there are no rows"):
        train(store, write(table.head(0)).model_copy(update={"limit": 10}))
    limited = train(store, write(table).model_copy(update={"limit": 100}))
    assert (limited.train_rows, limited.test_rows) == (52, 48)


def test_a_table_is_fingerprinted_over_every_value(
    store: services.MlflowService, table: pd.DataFrame, write: Any
) -> None:
    """One value changed in the middle changes the fingerprint of the inputs, and of nothing else."""

    def digests(reader: datasets.Reader) -> dict[str, str]:
        run = store.client().get_run(train(store, reader).run_id)
        return {each.tags[0].value: each.dataset.digest for each in run.inputs.dataset_inputs}

    changed = table.copy()
    changed.loc[120, "windspeed"] = 0.123
    one, other = digests(write(table)), digests(write(changed, "changed"))
    assert one["inputs"] != other["inputs"]
    assert one["targets"] == other["targets"]


# ------------------------------------------------------------------------------------------------ too good to be true
@pytest.mark.parametrize(
    "model", [models.GradientBoostingModel(max_iter=60, learning_rate=0.2)], ids=["boosting"]
)
def test_a_leak_is_a_warning_that_names_it_from_training_to_promotion(
    store: services.MlflowService, write: Any, capsys: pytest.CaptureFixture[str], model: Any
) -> None:
    """The felt temperature is the target in another unit."""
    leaking = datasets.SimulatedReader(rows=24 * 40).read()
    leaking["cnt"] = leaking["cnt"] % 200
    leaking["atemp"] = leaking["cnt"] / 400
    reader = write(leaking)
    result = train(
        store,
        reader,
        model=model,
        splitter=splitters.TrainTestSplitter(test_size=240, shuffle=True),
    )
    [warning] = result.warnings
    assert warning.startswith("nearly perfect: ")
    assert " on 240 rows (1 is perfect); it is carried by 'atemp' (" in warning
    assert store.client().get_run(result.run_id).data.tags["nearly_perfect"] == warning
    assert result.facts()["warning 1"] == warning
    assert warning in capsys.readouterr().out, "the alert"
    quiet = {"mlflow_service": store, "logger_service": services.LoggerService(level="ERROR")}
    with evaluations.EvaluationsJob(inputs=reader, targets=reader, resamples=5, **quiet) as judge:
        judged = judge.run()
    assert judged.warnings == (warning,)
    run = store.client().get_run(judged.run_id)
    assert run.data.tags["nearly_perfect"] == warning
    assert json.loads(run.data.tags["greater_is_better"])["r2_score"] is True
    with promotion.PromotionJob(**quiet) as promote:
        assert promote.run().warnings == (f"the score of version 1 is {warning}",)


def test_an_honest_score_is_no_warning(
    store: services.MlflowService, hours: datasets.SimulatedReader
) -> None:
    result = train(store, hours, splitter=splitters.TrainTestSplitter(test_size=240))
    assert result.warnings == ()
    assert "nearly_perfect" not in store.client().get_run(result.run_id).data.tags


def test_the_notebook_rounds_the_worst_rows_of_a_table_with_dates() -> None:
    """A date is a column in many tables; rounding it as a number would put a warning into the page of the run."""
    notebook = Path(__file__).parents[2] / "nbs" / "runs" / "train.ipynb"
    sources = ["".join(cell["source"]) for cell in json.loads(notebook.read_text("utf-8"))["cells"]]
    shown, rounded = next(text for text in sources if "result.worst" in text).splitlines()
    day, label = pd.Timestamp("2025-01-01 06:30"), "left"
    table = pd.DataFrame({"day": [day], "outcome": [label], "error": [1.239]})
    names = {"result": SimpleNamespace(worst=table.head)}
    with warnings.catch_warnings(action="error"):
        exec(shown, names)
        found = eval(rounded, names)
    assert found.iloc[0].tolist() == [day, label, 1.24]
