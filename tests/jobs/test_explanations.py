"""Explanations: sums that add up, effects that are known, time budgets, models without explanations, bad input."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from model_name.core import errors, models, schemas
from model_name.io import datasets, registries, services, simulators
from model_name.jobs import explanations, training
from model_name.utils import splitters


def explain(
    store: services.MlflowService, reader: datasets.Reader, folder: Path, **settings: Any
) -> explanations.ExplanationsResult:
    defaults: dict[str, Any] = {
        "inputs": reader,
        "targets": reader,
        "shap_values": datasets.ParquetWriter(path=str(folder / "values.parquet")),
        "feature_importances": datasets.ParquetWriter(path=str(folder / "importances.parquet")),
        "report": str(folder / "page.html"),
        "alias_or_version": "latest",
        "samples": 60,
        "resamples": 10,
        "n_jobs": 1,
        "mlflow_service": store,
        "logger_service": services.LoggerService(level="ERROR"),
    }
    with explanations.ExplanationsJob(**(defaults | settings)) as job:
        return job.run()


def test_the_tables_follow_their_schemas_and_every_row_adds_up(
    trained: services.MlflowService, hours: datasets.SimulatedReader, tmp_path: Path
) -> None:
    result = explain(trained, hours, tmp_path, samples=1_000)
    values = pd.read_parquet(tmp_path / "values.parquet").set_index("instant")
    assert len(values) == result.rows == result.asked == 240, (
        "only the rows that training has not seen"
    )
    assert list(values) == [*schemas.InputsSchema.features(), "base_value", "explained_value"]
    np.testing.assert_allclose(
        values.drop(columns="explained_value").sum(axis=1), values["explained_value"], atol=1e-9
    )
    inputs = schemas.InputsSchema.check(hours.read()).loc[values.index]
    model = registries.CustomLoader().load(f"models:/{result.registry_name}/{result.model_version}")
    np.testing.assert_allclose(
        np.exp(values["explained_value"]), model.predict(inputs)["prediction"], rtol=1e-9
    )
    assert result.scale == "the logarithm of the prediction"
    assert result.residual < 1e-9
    importances = pd.read_parquet(tmp_path / "importances.parquet")
    assert sorted(importances["feature"]) == sorted(schemas.InputsSchema.features())
    assert schemas.FeatureImportancesSchema.check(importances)["importance"].is_monotonic_decreasing
    hour = importances.set_index("feature").loc["hr"]
    assert 0 < hour["low"] <= hour["permutation"] <= hour["high"]
    run = trained.client().get_run(result.run_id)
    assert run.data.params["method"] == result.method
    assert run.data.metrics["largest_residual"] == result.residual
    files = {file.path for file in trained.client().list_artifacts(result.run_id, "figures")}
    assert {"figures/beeswarm.png", "figures/importances.png", "figures/dependence.png"} <= files
    assert len([file for file in files if "sample_" in file]) == 3
    written = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert written.count("data:image/png;base64,") == len(result.figures)
    assert "://" not in written, "it needs no network"


def test_the_known_effects_of_the_simulator_are_found(
    store: services.MlflowService, tmp_path: Path
) -> None:
    reader = datasets.SimulatedReader(rows=24 * 500)
    with training.TrainingJob(
        inputs=reader,
        targets=reader,
        model=models.GradientBoostingModel(max_iter=150, n_jobs=1),
        splitter=splitters.TrainTestSplitter(test_size=24 * 60),
        mlflow_service=store,
        logger_service=services.LoggerService(level="ERROR"),
    ) as job:
        job.run()
    result = explain(store, reader, tmp_path, samples=1_000)
    order = result.importances["feature"].tolist()
    assert order[0] == "hr"
    assert order.index("windspeed") > order.index("workingday"), "the wind has no effect of its own"
    assert order.index("holiday") > order.index("hr")
    inputs = schemas.InputsSchema.check(reader.read()).loc[result.shap_values.index]
    days = inputs["workingday"].to_numpy()
    found = result.shap_values["hr"][days].groupby(inputs["hr"][days]).mean()
    known = np.log(simulators.hour_effect(found.index, np.ones(len(found))))
    assert spearmanr(found, known).statistic > 0.9
    np.testing.assert_allclose(found - found.mean(), known - known.mean(), atol=0.6)


def test_too_little_time_means_fewer_samples_or_a_refusal(
    trained: services.MlflowService, hours: datasets.SimulatedReader, tmp_path: Path
) -> None:
    result = explain(trained, hours, tmp_path, targets=None, budget_seconds=1e-9)
    assert (result.rows, result.asked) == (1, 60)
    assert "1 samples (of 60: the time was short)" in result.summary
    with pytest.raises(
        errors.ConfigError, match="60 samples would take .* allow more with job.budget_seconds"
    ):
        explain(trained, hours, tmp_path / "refused", budget_seconds=1e-9, over_budget="refuse")
    assert not (tmp_path / "refused").exists()


def test_chosen_samples_are_explained_and_drawn(
    trained: services.MlflowService, hours: datasets.SimulatedReader, tmp_path: Path
) -> None:
    result = explain(trained, hours, tmp_path, samples=5, shown=[1_600, 1_601], targets=None)
    assert {1_600, 1_601} <= set(result.shap_values.index)
    assert {"sample_1600", "sample_1601"} == {
        name for name in result.figures if name.startswith("sample_")
    }
    assert "permutation" not in result.importances
    with pytest.raises(
        errors.ConfigError, match="no row that can be explained has the index label 3"
    ):
        explain(trained, hours, tmp_path, shown=[3])


def test_missing_readings_are_explained(
    trained: services.MlflowService, hours: datasets.SimulatedReader, tmp_path: Path
) -> None:
    gaps = hours.model_copy(update={"missing": 0.3})
    quick = {"targets": None, "shown": [1_680]}
    result = explain(
        trained, gaps, tmp_path, rows="all", **quick
    )  # these look like training rows that were changed
    assert result.shap_values.notna().all(axis=None)
    assert result.residual < 1e-9


def test_no_rows_and_categories_that_do_not_exist_are_refused(
    trained: services.MlflowService, hours: datasets.SimulatedReader, tmp_path: Path
) -> None:
    table, file = hours.read(), tmp_path / "inputs.parquet"
    reader = datasets.ParquetReader(path=str(file))
    table.head(0).to_parquet(file)
    with pytest.raises(errors.DataError, match="there are no rows; at least one is needed"):
        explain(trained, reader, tmp_path / "out")
    table.assign(season=9).to_parquet(file)
    with pytest.raises(errors.DataError, match="season: 9 is not one of"):
        explain(trained, reader, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def save(
    store: services.MlflowService,
    model: models.Model,
    hours: datasets.SimulatedReader,
    flavor: str | None,
) -> None:
    """Train and register a model, in the project's format or a library's."""
    saver = registries.BuiltinSaver(flavor=flavor) if flavor else registries.CustomSaver()
    with training.TrainingJob(
        inputs=hours, targets=hours, model=model, saver=saver, mlflow_service=store,
        splitter=splitters.TrainTestSplitter(test_size=240), logger_service=services.LoggerService(level="ERROR"),
    ) as job:  # fmt: skip
        job.run()


def test_a_model_in_a_librarys_format_is_explained_as_well(
    store: services.MlflowService, hours: datasets.SimulatedReader, tmp_path: Path
) -> None:
    save(
        store, models.BaselineSklearnModel(n_estimators=5, max_depth=6, n_jobs=1), hours, "sklearn"
    )
    result = explain(
        store, hours, tmp_path, loader=registries.BuiltinLoader(), targets=None, shown=[1_680]
    )
    assert result.scale == "the prediction"
    assert result.residual < 1e-9


def test_a_model_without_explanations_is_refused(
    trained: services.MlflowService,
    hours: datasets.SimulatedReader,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(models.SklearnModel, "explain", models.Model.explain)
    with pytest.raises(
        errors.ModelError, match="a GradientBoostingModel, which does not explain its predictions"
    ):
        explain(trained, hours, tmp_path)


# ------------------------------------------------------------------------------------------- how long it will take
@pytest.mark.parametrize("budget", [1.0, 10.0, 120.0])
@pytest.mark.parametrize("fixed", [0.0, 0.1, 5.0, 30.0])
@pytest.mark.parametrize("per_sample", [1e-5, 1e-3, 0.02, 1.0])
@pytest.mark.parametrize("count", [1, 5, 9, 100, 1_000, 50_000])
def test_the_pilot_finds_the_cost_of_a_call_and_of_a_sample(
    budget: float, fixed: float, per_sample: float, count: int
) -> None:
    asked = []

    def seconds_of(size: int) -> float:
        asked.append(size)
        return fixed + per_sample * size

    rows, seconds = explanations._affordable(seconds_of, count, budget)
    needed = fixed + per_sample * count
    assert max(asked) <= count
    assert sum(fixed + per_sample * size for size in asked[2:]) <= 0.2 * budget, (
        "measuring is cheap"
    )
    if needed <= budget:
        assert rows == count, "all of them where all can be explained"
    elif fixed + per_sample > budget:
        assert rows == 1
    else:
        assert rows == pytest.approx(max(1, (budget - fixed) / per_sample), abs=1, rel=1e-6)
        assert seconds == pytest.approx(needed)


def test_a_cost_that_falls_with_the_size_is_followed() -> None:
    """The more samples go through a tree together, the less each of them costs."""
    rows, _ = explanations._affordable(lambda size: 0.5 + 0.02 * size**0.5, 20_000, budget=30)
    assert rows == 20_000


def test_what_the_first_explanation_compiles_is_not_counted(
    trained: services.MlflowService,
    hours: datasets.SimulatedReader,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By a clock that only explanations move: 100 s to compile, 2 s a call, 0.01 s a sample."""
    now, calls, right = [0.0], [], models.SklearnModel.explain

    def slow(self: Any, inputs: Any) -> Any:
        now[0] += 2 + 0.01 * len(inputs) + (0 if calls else 100)
        calls.append(len(inputs))
        return right(self, inputs)

    monkeypatch.setattr(models.SklearnModel, "explain", slow)
    monkeypatch.setattr(explanations.time, "perf_counter", lambda: now[0])
    result = explain(
        trained, hours, tmp_path, samples=240, targets=None, shown=[1_680], budget_seconds=10
    )
    assert (result.rows, result.asked) == (240, 240), "4.4 s are less than 10"
    now[0], calls[:] = 0.0, []
    result = explain(
        trained, hours, tmp_path, samples=240, targets=None, shown=[1_680], budget_seconds=3
    )
    assert result.rows == pytest.approx(100, abs=1)


# ------------------------------------------------------------------------------------- names that could be taken
def test_a_feature_may_have_the_name_of_a_sum_or_of_an_argument(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = pd.DataFrame({"base_value": 0.0, "explained_value": 1.0}, index=[0])
    assert explanations._free_name("base_value", table) == "base_value_"
    assert explanations._free_name("base_value_x", table) == "base_value_x"
