"""Evaluations: never on training rows, against a forecast checked by hand, with intervals, slices and gates."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pandera.pandas as pa
import pydantic as pdt
import pytest
from pandera.typing.pandas import Index, Series

from model_name.core import errors, schemas, words
from model_name.core import metrics as metrics_
from model_name.io import datasets, registries, services
from model_name.jobs import evaluations

MAE = metrics_.SklearnMetric(name="mean_absolute_error", greater_is_better=False)
R2 = metrics_.SklearnMetric(name="r2_score", greater_is_better=True)
TEST_ROWS = range(24 * 60 + 1, 24 * 70 + 1)  # labels of the rows that version 1 has not seen


def evaluate(
    store: services.MlflowService, reader: datasets.Reader, **settings: Any
) -> evaluations.EvaluationsResult:
    defaults: dict[str, Any] = {
        "inputs": reader,
        "targets": reader,
        "resamples": 20,
        "thresholds": {},
        "beat_naive": False,
        "mlflow_service": store,
        "logger_service": services.LoggerService(level="WARNING"),
    }
    with evaluations.EvaluationsJob(**(defaults | settings)) as job:
        return job.run()


def calendar(
    days: list[str], hours: list[int], workingday: bool | list[bool] = True
) -> schemas.Inputs:
    """Make inputs of which only the calendar matters."""
    return schemas.InputsSchema.check(
        pd.DataFrame(
            {
                "instant": range(len(days)), "dteday": days, "season": 1, "yr": 0, "mnth": 1, "hr": hours,
                "holiday": False, "weekday": 1, "workingday": workingday, "weathersit": 1, "temp": 0.3, "atemp": 0.3,
                "hum": 0.5, "windspeed": 0.1,
            }
        )
    )  # fmt: skip


# --------------------------------------------------------------------------------------------- the naive forecast
def test_the_naive_forecast_by_hand() -> None:
    """The mean of the same hour on the same kind of day, over the 28 days before; else the mean of the history."""
    rows = pd.DataFrame(
        [
            # day, hour, working day, value, evaluated, forecast
            (
                "2024-01-01",
                8,
                True,
                1000,
                False,
                None,
            ),  # 31 days before the first evaluated day: too old for it
            ("2024-01-10", 8, True, 10, False, None),
            ("2024-01-20", 8, True, 20, False, None),
            ("2024-01-20", 9, True, 500, False, None),  # another hour
            ("2024-01-21", 8, False, 700, False, None),  # another kind of day
            ("2024-02-01", 8, True, 60, True, 15.0),
            ("2024-02-02", 8, True, 90, True, 30.0),  # the day before is known by now
            ("2024-02-02", 9, True, 90, True, 500.0),
            ("2024-02-02", 7, True, 90, True, (1000 + 10 + 20 + 500 + 700) / 5),  # was never seen
            (
                "2024-02-17",
                8,
                True,
                90,
                True,
                (20 + 60 + 90) / 3,
            ),  # 28 days after January 20, which still counts
            ("2024-02-18", 8, True, 90, True, (60 + 90 + 90) / 3),
        ],
        columns=["day", "hour", "workingday", "value", "evaluated", "forecast"],
    )
    inputs = calendar(rows["day"].tolist(), rows["hour"].tolist(), rows["workingday"].tolist())
    targets = schemas.TargetsSchema.check(pd.DataFrame({"cnt": rows["value"]}, index=inputs.index))
    chosen = rows["evaluated"].to_numpy()
    forecast = evaluations.naive_forecast(inputs, targets, chosen)
    assert forecast.index.tolist() == inputs.index[chosen].tolist()
    np.testing.assert_allclose(forecast["prediction"], rows.loc[chosen, "forecast"].astype(float))


def test_the_naive_forecast_does_not_look_ahead() -> None:
    """What happens on a day or after it changes no forecast for the day."""
    days = pd.date_range("2024-01-01", periods=40).repeat(24).strftime("%Y-%m-%d").tolist()
    inputs = calendar(days, list(range(24)) * 40)
    counts = np.random.default_rng(1).integers(0, 500, len(days))
    chosen = np.arange(len(days)) >= 24 * 30
    for day in (30, 35, 39):
        changed = np.where(np.arange(len(days)) >= 24 * day, 9999, counts)
        forecasts = [
            evaluations.naive_forecast(
                inputs,
                schemas.TargetsSchema.check(pd.DataFrame({"cnt": values}, index=inputs.index)),
                chosen,
            )["prediction"].to_numpy()[: 24 * (day - 29)]
            for values in (counts, changed)
        ]
        np.testing.assert_array_equal(*forecasts)


def test_the_naive_forecast_of_another_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """What "same" means may be said by text, with gaps: a gap is a kind of its own."""

    class Inputs(schemas.Schema):
        """Sales a shop and day."""

        receipt: Index[str] = pa.Field(unique=True, check_name=True, description="Number.")
        day: Series[pa.DateTime] = pa.Field(
            metadata={"feature": False, "time": True}, description="Day."
        )
        shop: Series[str] = pa.Field(metadata={"season": True}, nullable=True, description="Where.")

    class Targets(schemas.Schema):
        """Sales."""

        receipt: Index[str] = pa.Field(unique=True, check_name=True, description="Number.")
        sales: Series[float] = pa.Field(description="Sum.")

    monkeypatch.setattr(schemas, "InputsSchema", Inputs)
    monkeypatch.setattr(schemas, "TargetsSchema", Targets)
    days = pd.date_range("2024-01-01", periods=10).repeat(3)
    receipts = [f"r{number}" for number in range(30)]
    inputs = Inputs.check(
        pd.DataFrame({"receipt": receipts, "day": days, "shop": ["a", "b", None] * 10})
    )
    targets = Targets.check(pd.DataFrame({"receipt": receipts, "sales": [1.0, 5.0, 7.0] * 10}))
    forecast = evaluations.naive_forecast(inputs, targets, np.arange(30) >= 24)
    assert forecast["prediction"].tolist() == [1.0, 5.0, 7.0] * 2


# -------------------------------------------------------------------------------------------------- the bootstrap
def scored(truth: Any, answers: Any) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "cnt": np.asarray(truth, dtype="int64"),
            "prediction": np.asarray(answers, dtype="float64"),
        }
    )


def test_the_bootstrap_is_seeded() -> None:
    random = np.random.default_rng(0)
    table = scored(random.integers(0, 100, 200), random.normal(50, 20, 200))
    one, same, other = (
        evaluations.bootstrap([R2, MAE], table, np.arange(200), 30, seed) for seed in (42, 42, 7)
    )
    pd.testing.assert_frame_equal(one, same)
    assert one.shape == (30, 2)
    assert not one.equals(other)


def test_the_interval_is_as_wide_as_statistics_says() -> None:
    """The mean of n independent errors has the standard error s / sqrt(n)."""
    errors_made = np.abs(np.random.default_rng(3).normal(0, 10, 2_000))
    table = scored(np.zeros(2_000), errors_made)
    draws = evaluations.bootstrap([MAE], table, np.arange(2_000), 400)["mean_absolute_error"]
    assert draws.std() == pytest.approx(errors_made.std() / np.sqrt(2_000), rel=0.15)
    assert draws.mean() == pytest.approx(errors_made.mean(), rel=0.01)


def test_days_that_go_up_and_down_together_widen_the_interval() -> None:
    """50 days of 20 hours with one error a day are 50 samples, not 1,000."""
    by_day = np.abs(np.random.default_rng(4).normal(0, 10, 50)).repeat(20)
    table, days = scored(np.zeros(1_000), by_day), np.arange(1_000) // 20
    whole = evaluations.bootstrap([MAE], table, days, 300)["mean_absolute_error"].std()
    single = evaluations.bootstrap([MAE], table, np.arange(1_000), 300)["mean_absolute_error"].std()
    assert whole / single == pytest.approx(np.sqrt(20), rel=0.25)


# --------------------------------------------------------------------------------------------------------- slices
def test_slices_by_hand() -> None:
    inputs = pd.DataFrame(
        {
            "kind": pd.Categorical(["a", "b", None, "a"]),
            "day": pd.to_datetime(["2024-01-01", "2024-01-31", "2024-02-01", None]),
            "flag": [True, False, True, True],
        }
    )
    table = scored([10, 20, 30, 40], [11, 22, 33, 44])
    found = evaluations.slice_scores([MAE], inputs, table, ["kind", "day", "flag"])
    rows = [
        (row.slice, str(row.value), row.rows, row.mean_absolute_error) for row in found.itertuples()
    ]
    assert rows == [
        ("kind", "a", 2, 2.5), ("kind", "b", 1, 2.0), ("kind", "missing", 1, 3.0),
        ("day", "2024-01", 2, 1.5), ("day", "2024-02", 1, 3.0), ("day", "missing", 1, 4.0),
        ("flag", "False", 1, 2.0), ("flag", "True", 3, 8 / 3),
    ]  # fmt: skip


def test_numbers_are_cut_into_bins_with_as_many_rows_each() -> None:
    inputs = pd.DataFrame({"temp": [*np.linspace(0, 1, 99) ** 3, np.nan]})
    found = evaluations.slice_scores([MAE], inputs, scored(np.zeros(100), np.ones(100)), ["temp"])
    assert found["rows"].tolist() == [20, 20, 19, 20, 20, 1]
    assert found["value"].astype(str).tolist()[-1] == "missing"
    few = pd.DataFrame({"hr": [3, 1, 3, 2]})
    by_value = evaluations.slice_scores([MAE], few, scored([0] * 4, [1] * 4), ["hr"])
    assert (by_value["value"].tolist(), by_value["rows"].tolist()) == ([1, 2, 3], [1, 1, 2])


def test_a_column_that_does_not_exist() -> None:
    with pytest.raises(errors.ConfigError, match="no column 'hour' to slice by.*columns: hr, temp"):
        evaluations.slice_scores(
            [MAE], pd.DataFrame({"hr": [1], "temp": [1]}), scored([1], [1]), ["hour"]
        )


# -------------------------------------------------------------------------------------------------------- verdicts
def test_reasons_name_the_distance() -> None:
    table = pd.DataFrame(
        {
            "model": [0.61, 41.0, np.nan],
            "naive": [0.7, 50.0, np.nan],
            "skill": [-0.09, 9.0, np.nan],
        },
        index=["r2_score", "mean_absolute_error", "max_error"],
    )
    limits = {
        "r2_score": metrics_.Threshold(threshold=0.8, greater_is_better=True),
        "mean_absolute_error": metrics_.Threshold(threshold=40.0, greater_is_better=False),
        "max_error": metrics_.Threshold(threshold=1.0, greater_is_better=False),
    }
    assert evaluations.reasons_to_refuse(table, limits, beat_naive=True) == (
        "r2_score is 0.61, below the threshold 0.8 by 0.19",
        "mean_absolute_error is 41, above the threshold 40 by 1",
        "max_error has no value for these rows, and the threshold is 1",
        "r2_score is 0.61, no better than the 0.7 of the naive forecast",
    )
    met = {"r2_score": metrics_.Threshold(threshold=0.61, greater_is_better=True)}
    assert evaluations.reasons_to_refuse(table, met, beat_naive=False) == ()


def test_better_is_smaller_for_an_error() -> None:
    model, naive = scored([10, 20], [11, 21]), scored([10, 20], [14, 24])
    draws = evaluations.bootstrap([MAE], model, np.arange(2), 5)
    row = evaluations.judge([MAE], model, naive, draws).loc["mean_absolute_error"]
    assert (row["model"], row["naive"], row["skill"]) == (1.0, 4.0, 3.0)
    assert (row["low"], row["high"]) == (1.0, 1.0)


# --------------------------------------------------------------------------------------------------------- the job
def test_a_candidate_is_judged_on_the_rows_that_it_has_not_seen(
    trained: services.MlflowService, hours: datasets.SimulatedReader
) -> None:
    result = evaluate(trained, hours)
    assert (result.rows, result.passed, result.refusals) == (240, True, ())
    assert result.scored.index.tolist() == list(TEST_ROWS)
    run = trained.client().get_run(result.run_id)
    training_run = registries.find_version(trained.client(), "model_name", 1).run_id
    before = trained.client().get_run(training_run).data.metrics
    for name, value in result.metrics.items():
        assert run.data.metrics[name] == value == before[name], (
            "the same rows, the same model, the same value"
        )
        low, high = run.data.metrics[f"{name}_low"], run.data.metrics[f"{name}_high"]
        assert low <= value <= high
    assert run.data.tags["verdict"] == "passed"
    verdict = registries.read_verdict(registries.find_version(trained.client(), "model_name", 1))
    assert verdict == registries.Verdict("passed", run_id=result.run_id, rows="unseen")
    assert {file.path for file in trained.client().list_artifacts(result.run_id)} == {
        "card", "figures", "tables", "verdict", "provenance.json",
    }  # fmt: skip
    assert result.slices["slice"].unique().tolist() == schemas.InputsSchema.marked("slice")
    assert result.slices.groupby("slice")["rows"].sum().tolist() == [240, 240]
    worst = result.worst_slices(3)["r2_score"]
    assert worst.tolist() == sorted(result.slices["r2_score"].dropna())[:3]
    by_error = evaluate(trained, hours, metrics=[MAE], slices=["hr"])
    assert (
        by_error.worst_slices(3)["mean_absolute_error"].tolist()
        == sorted(by_error.slices["mean_absolute_error"], reverse=True)[:3]
    ), "of an error, the largest are the worst"


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_rows_are_known_again_in_another_file_and_order(
    form: str, trained: services.MlflowService, hours: datasets.SimulatedReader, tmp_path: Path
) -> None:
    shuffled = hours.read().sample(frac=1, random_state=5)
    reader: datasets.Reader
    if form == "csv":
        shuffled.to_csv(tmp_path / "table.csv", index=False)
        reader = datasets.CsvReader(path=str(tmp_path / "table.csv"))
    else:
        shuffled.astype({"hr": "int8", "season": "str"}).to_parquet(tmp_path / "table.parquet")
        reader = datasets.ParquetReader(path=str(tmp_path / "table.parquet"))
    result = evaluate(trained, reader)
    assert sorted(result.scored.index) == list(TEST_ROWS)
    assert result.metrics == pytest.approx(evaluate(trained, hours).metrics)


def test_corrected_rows_are_warned_of(
    trained: services.MlflowService,
    hours: datasets.SimulatedReader,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    table = hours.read()
    table.loc[[0, 1], "temp"] = 0.99
    table.to_parquet(tmp_path / "table.parquet")
    result = evaluate(trained, datasets.ParquetReader(path=str(tmp_path / "table.parquet")))
    assert result.rows == 242
    assert "2 rows have the label of a training row and other values" in capsys.readouterr().err


def test_nothing_but_training_rows(
    trained: services.MlflowService, hours: datasets.SimulatedReader
) -> None:
    with pytest.raises(
        errors.DataError, match="all of the 1,440 rows were training rows of this version"
    ):
        evaluate(trained, hours.model_copy(update={"limit": 24 * 60}))
    assert (
        registries.read_verdict(registries.find_version(trained.client(), "model_name", 1)) is None
    )
    runs = trained.client().search_runs(
        [trained.client().get_experiment_by_name("model_name").experiment_id]
    )
    assert sorted(run.info.status for run in runs) == ["FAILED", "FINISHED"]


def test_all_rows_only_when_asked_for(
    trained: services.MlflowService, hours: datasets.SimulatedReader
) -> None:
    result = evaluate(trained, hours, rows="all")
    assert result.rows == 24 * 70
    assert "1,680 all rows" in result.summary
    verdict = registries.read_verdict(registries.find_version(trained.client(), "model_name", 1))
    assert verdict == registries.Verdict("passed", run_id=result.run_id, rows="all")


def test_a_version_without_a_record(
    trained: services.MlflowService, hours: datasets.SimulatedReader
) -> None:
    """A version that was made elsewhere has no training run here; a person has to say that its rows are fine."""
    trained.start()
    client = trained.client()
    model = client.get_logged_model(
        client.get_model_version("model_name", "1").source.rpartition("/")[2]
    )
    client.create_model_version("model_name", model.artifact_location)
    with pytest.raises(errors.DataError, match="did not keep its rows.*job.rows=all"):
        evaluate(trained, hours)
    assert evaluate(trained, hours, rows="all").model_version == 2


def test_missed_thresholds_refuse_with_numbers(
    trained: services.MlflowService, hours: datasets.SimulatedReader
) -> None:
    limits = {
        "r2_score": metrics_.Threshold(threshold=0.99, greater_is_better=True),
        "max_error": metrics_.Threshold(threshold=1.0, greater_is_better=False),
    }
    result = evaluate(trained, hours, thresholds=limits)
    r2, worst = result.metrics["r2_score"], result.metrics["max_error"]
    assert worst == (result.scored["prediction"] - result.scored["cnt"]).abs().max()
    assert result.refusals == (
        f"r2_score is {words.number(r2)}, below the threshold 0.99 by {words.number(0.99 - r2)}",
        f"max_error is {words.number(worst)}, above the threshold 1 by {words.number(worst - 1)}",
    )
    assert not result.passed
    with pytest.raises(errors.GateError, match="below the threshold 0.99"):
        result.gate()
    verdict = registries.read_verdict(registries.find_version(trained.client(), "model_name", 1))
    assert verdict is not None
    assert (verdict.outcome, verdict.reasons) == ("refused", "; ".join(result.refusals))
    assert trained.client().get_run(result.run_id).info.status == "FINISHED", (
        "saying no is work done"
    )


def test_the_naive_forecast_has_to_be_beaten(
    trained: services.MlflowService, hours: datasets.SimulatedReader
) -> None:
    result = evaluate(trained, hours, beat_naive=True)
    row = result.table.set_index("metric").loc["r2_score"]
    assert (row["skill"] > 0) == result.passed, "20 small trees are about as good"
    assert row["skill"] == row["model"] - row["naive"]


def test_slices_that_were_asked_for(
    trained: services.MlflowService, hours: datasets.SimulatedReader
) -> None:
    result = evaluate(trained, hours, slices=["workingday", "temp"])
    assert result.slices["slice"].unique().tolist() == ["workingday", "temp"]
    assert result.slices["rows"].sum() == 480
    none = evaluate(trained, hours, slices=[])
    assert len(none.slices) == 0
    assert "slices" not in none.figures
    with pytest.raises(
        pdt.ValidationError, match="no column 'wether' to slice by; did you mean 'weather"
    ):
        evaluations.EvaluationsJob(slices=["wether"])


@pytest.mark.parametrize(
    "wrong",
    [
        {"thresholds": {"r3_score": {"threshold": 1.0, "greater_is_better": True}}},
        {"metrics": []},
        {"resamples": 0},
        {"rows": "some"},
    ],
    ids=str,
)
def test_configurations_that_cannot_be_meant(wrong: dict[str, Any]) -> None:
    with pytest.raises(pdt.ValidationError):
        evaluations.EvaluationsJob.model_validate(wrong)
