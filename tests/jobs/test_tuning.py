"""Tuning: nothing of the test is looked at, the same trials come out whatever happens, and training takes the best."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pydantic as pdt
import pytest

from model_name.core import errors, metrics, models, schemas
from model_name.io import datasets, services
from model_name.jobs import guards, training, tuning
from model_name.utils import searchers, spaces, splitters

QUIET = services.LoggerService(level="ERROR")
SPACE = {
    "learning_rate": spaces.FloatDistribution(low=0.02, high=0.5, log=True),
    "max_leaf_nodes": spaces.IntDistribution(low=3, high=31, log=True),
}
HOLDOUT = splitters.TrainTestSplitter(test_size=240)


def searcher(**settings: Any) -> searchers.OptunaSearcher:
    defaults: dict[str, Any] = {"param_grid": SPACE, "n_trials": 6, "n_jobs": 1, "storage": None}
    return searchers.OptunaSearcher(**(defaults | settings))


def job(
    store: services.MlflowService, reader: datasets.Reader, **settings: Any
) -> tuning.TuningJob:
    defaults: dict[str, Any] = {
        "inputs": reader,
        "targets": reader,
        "model": models.GradientBoostingModel(max_iter=8),
        "holdout": HOLDOUT,
        "splitter": splitters.TimeSeriesSplitter(n_splits=2, test_size=168),
        "searcher": searcher(),
        "mlflow_service": store,
        "logger_service": QUIET,
    }
    return tuning.TuningJob(**(defaults | settings))


def tune(
    store: services.MlflowService, reader: datasets.Reader, **settings: Any
) -> tuning.TuningResult:
    with job(store, reader, **settings) as made:
        return made.run()


def train(
    store: services.MlflowService, reader: datasets.Reader, **settings: Any
) -> training.TrainingResult:
    defaults: dict[str, Any] = {
        "model": models.GradientBoostingModel(max_iter=8),
        "splitter": HOLDOUT,
        "tuned": "latest",
    }
    with training.TrainingJob(
        inputs=reader,
        targets=reader,
        mlflow_service=store,
        logger_service=QUIET,
        **(defaults | settings),
    ) as made:
        return made.run()


# ------------------------------------------------------------------------------------------------------- it works
def test_a_search_is_recorded_as_one_run_with_a_table(
    store: services.MlflowService, hours: datasets.SimulatedReader
) -> None:
    result = tune(store, hours)
    client = store.client()
    experiment = client.get_experiment_by_name("model_name")
    [run] = client.search_runs([experiment.experiment_id])
    assert run.info.run_id == result.run_id
    assert run.data.params["searcher.sampler.KIND"] == "TPESampler"
    assert run.data.params["searcher.sampler.n_startup_trials"] == "8"
    assert run.data.params["searcher.pruner.KIND"] == "MedianPruner"
    assert run.data.metrics["root_mean_squared_error"] == result.value
    kept = {
        file.path
        for name in ("tables", "figures", "tuning")
        for file in client.list_artifacts(run.info.run_id, name)
    }
    assert kept == {
        "tables/trials.csv",
        "tuning/best.json",
        *(f"figures/{name}.png" for name in result.figures),
    }
    table = pd.read_csv(client.download_artifacts(run.info.run_id, "tables/trials.csv"))
    assert table["trial"].tolist() == result.trials["trial"].tolist()
    assert table["root_mean_squared_error"].iloc[0] == pytest.approx(result.value)
    assert (table["root_mean_squared_error"].dropna() > 0).all(), (
        "the metric as it is known, not a negative score"
    )
    assert {"fold_1", "fold_2", *SPACE} <= set(table)


def test_the_rows_of_the_test_are_not_looked_at(
    store: services.MlflowService, hours: datasets.SimulatedReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[pd.Index] = []
    score = searchers.OptunaSearcher.search

    def spying(self: Any, model: Any, metric: Any, inputs: Any, targets: Any, cv: Any) -> Any:
        seen.extend([inputs.index, targets.index])
        return score(self, model, metric, inputs, targets, cv)

    monkeypatch.setattr(searchers.OptunaSearcher, "search", spying)
    result = tune(store, hours)
    assert (result.rows, result.held_out) == (24 * 70 - 240, 240)
    everything = schemas.InputsSchema.check(hours.read()).index
    assert all(index.equals(everything[:-240]) for index in seen)


def test_the_gap_is_honoured(
    store: services.MlflowService, hours: datasets.SimulatedReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    folds: list[Any] = []
    made = searchers._folds
    monkeypatch.setattr(searchers, "_folds", lambda *given: folds.extend(made(*given)) or folds)
    tune(store, hours, splitter=splitters.TimeSeriesSplitter(n_splits=2, test_size=168, gap=24))
    assert [test[0] - train[-1] for train, test in folds] == [25, 25], "24 rows between them"


def test_a_grid_is_recorded_alike(
    store: services.MlflowService, hours: datasets.SimulatedReader
) -> None:
    grid = searchers.GridCVSearcher(
        param_grid={"learning_rate": [0.05, 0.3], "max_leaf_nodes": [7, 15]}
    )
    result = tune(store, hours, searcher=grid)
    assert sorted(result.trials["trial"]) == [0, 1, 2, 3]
    assert result.value == result.trials["root_mean_squared_error"].min() > 0
    assert (
        result.configured_value
        == result.trials.set_index(["learning_rate", "max_leaf_nodes"]).loc[(0.05, 15)].iloc[2]
    )
    assert set(result.figures) == {
        "search_history", "parameter_importances", "search_slices", "parallel_coordinates"
    }  # fmt: skip
    assert result.incomplete().empty


def test_the_answer_is_not_worse_than_the_model_as_configured(
    store: services.MlflowService, hours: datasets.SimulatedReader
) -> None:
    result = tune(store, hours, searcher=searcher(n_trials=1))
    assert result.value == result.configured_value
    assert result.best_params == {"learning_rate": 0.05, "max_leaf_nodes": 15}


# ------------------------------------------------------------------------------------- the same, whatever happens
def comparable(trials: pd.DataFrame) -> pd.DataFrame:
    return trials.drop(columns="seconds")


def test_processes_find_what_a_loop_finds(
    store: services.MlflowService, hours: datasets.SimulatedReader
) -> None:
    found = [tune(store, hours, searcher=searcher(n_jobs=workers)) for workers in (1, 2, 4)]
    for other in found[1:]:
        pd.testing.assert_frame_equal(comparable(other.trials), comparable(found[0].trials))
        assert other.best_params == found[0].best_params


VICTIM = """
import sys
from model_name.core import metrics, models, schemas
from model_name.io import datasets
from model_name.utils import splitters
from model_name.utils import searchers
from model_name.utils import spaces
from model_name.utils import samplers
from model_name.utils import journals
data = datasets.SimulatedReader(rows=24 * 70).read()
searcher = searchers.OptunaSearcher.model_validate_json(sys.argv[1])
searcher.search(
    models.GradientBoostingModel(max_iter=8),
    metrics.SklearnMetric(name="root_mean_squared_error"),
    schemas.InputsSchema.check(data),
    schemas.TargetsSchema.check(data),
    splitters.TimeSeriesSplitter(n_splits=3, test_size=168),
)
"""


def test_a_killed_search_goes_on_to_the_same_end(tmp_path: Path) -> None:
    storage = tmp_path / "search.journal"
    stored = searcher(n_trials=12, storage=str(storage))
    data = datasets.SimulatedReader(rows=24 * 70).read()
    given = (
        models.GradientBoostingModel(max_iter=8),
        metrics.SklearnMetric(name="root_mean_squared_error"),
        schemas.InputsSchema.check(data),
        schemas.TargetsSchema.check(data),
        splitters.TimeSeriesSplitter(n_splits=3, test_size=168),
    )
    undisturbed = stored.model_copy(update={"storage": None}).search(*given)
    for lines in (9, 45):  # in the first batch, and in a later one
        process = subprocess.Popen(
            [sys.executable, "-c", VICTIM, stored.model_dump_json()], stderr=subprocess.PIPE
        )
        deadline = time.monotonic() + 120
        while not storage.exists() or storage.read_bytes().count(b"\n") < lines:
            assert process.poll() is None, process.stderr.read() if process.stderr else ""
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    before = storage.read_bytes().count(b'{"op_code":4,')
    assert 4 <= before < 12, "it died on its way"
    continued = stored.search(*given)
    pd.testing.assert_frame_equal(comparable(continued[0]), comparable(undisturbed[0]))
    assert continued[1:] == undisturbed[1:]
    assert storage.read_bytes().count(b'{"op_code":4,') == 12, "no trial was made twice"


# -------------------------------------------------------------------------------------------------------- refusals
def write(folder: Path, data: pd.DataFrame) -> datasets.ParquetReader:
    path = folder / "table.parquet"
    data.to_parquet(path, index=False)
    return datasets.ParquetReader(path=str(path))


def test_a_constant_target_is_refused(
    store: services.MlflowService, hours: datasets.SimulatedReader, tmp_path: Path
) -> None:
    data = hours.read()
    data.loc[: len(data) - 241, "cnt"] = 7  # only the test has other values
    with pytest.raises(
        errors.DataError, match="the target 'cnt' is 7 in all of the 1,440 tuning rows"
    ):
        tune(store, write(tmp_path, data))


def test_an_empty_column_is_refused(
    store: services.MlflowService, hours: datasets.SimulatedReader, tmp_path: Path
) -> None:
    with pytest.raises(errors.DataError, match="no row of the 1,440 has a value in 'hum'"):
        tune(store, write(tmp_path, hours.read().assign(hum=float("nan"))))


def test_too_few_rows_for_the_folds_are_refused(
    store: services.MlflowService, hours: datasets.SimulatedReader
) -> None:
    with pytest.raises(
        errors.DataError, match=r"too few rows \(1,440\) for n_splits: 4, test_size: 1440"
    ):
        tune(store, hours, splitter=splitters.TimeSeriesSplitter())


def test_a_space_that_is_not_the_models_is_refused_before_the_job_starts() -> None:
    with pytest.raises(pdt.ValidationError, match="did you mean 'n_estimators'"):
        tuning.TuningJob(
            model=models.BaselineSklearnModel(),
            searcher=searchers.OptunaSearcher(param_grid={"n_estimator": [10]}),
        )
    with pytest.raises(pdt.ValidationError, match="BaselineSklearnModel has no such parameter"):
        tuning.TuningJob(model=models.BaselineSklearnModel())


# ------------------------------------------------------------------------------------- what training makes of it
@pytest.fixture
def tuned(store: services.MlflowService, hours: datasets.SimulatedReader) -> tuning.TuningResult:
    return tune(store, hours)


def test_training_takes_the_newest_tuning_run_and_records_it(
    store: services.MlflowService, hours: datasets.SimulatedReader, tuned: tuning.TuningResult
) -> None:
    newest = tune(store, hours, searcher=searcher(seed=7))
    with pytest.raises(errors.DataError):  # a failed run is not the newest
        tune(store, hours, splitter=splitters.TimeSeriesSplitter())
    result = train(store, hours)
    assert result.tuned_run == newest.run_id
    run = store.client().get_run(result.run_id)
    assert run.data.tags["tuned_run"] == newest.run_id
    assert run.data.params["model.max_leaf_nodes"] == str(newest.best_params["max_leaf_nodes"])
    assert run.data.params["model.learning_rate"] == str(newest.best_params["learning_rate"])
    named = train(store, hours, tuned=tuned.run_id)
    assert named.tuned_run == tuned.run_id
    untuned = train(store, hours, tuned=None)
    assert untuned.tuned_run is None
    assert store.client().get_run(untuned.run_id).data.params["model.max_leaf_nodes"] == "15"


def test_without_a_tuning_run_training_is_refused_unless_it_need_not_be_there(
    store: services.MlflowService, hours: datasets.SimulatedReader
) -> None:
    with pytest.raises(errors.RegistryError, match="has no finished tuning run"):
        train(store, hours)
    result = train(store, hours, tuned_required=False)
    assert result.tuned_run is None
    assert store.client().get_run(result.run_id).data.tags["tuned_run"] == "none"


def test_parameters_of_another_model_are_refused(
    store: services.MlflowService, hours: datasets.SimulatedReader, tuned: tuning.TuningResult
) -> None:
    with pytest.raises(
        errors.ConfigError, match="found for GradientBoostingModel, and this job trains Baseline"
    ) as no:
        train(store, hours, model=models.BaselineSklearnModel(n_estimators=2), tuned_required=False)
    assert tuned.run_id in str(no.value)


def test_parameters_that_were_chosen_by_rows_of_the_test_are_refused(
    store: services.MlflowService, hours: datasets.SimulatedReader, tuned: tuning.TuningResult
) -> None:
    with pytest.raises(errors.DataError, match="by 60 of the 300 test rows of this training"):
        train(store, hours, splitter=splitters.TrainTestSplitter(test_size=300))
    tune(store, hours, holdout=None)
    with pytest.raises(errors.DataError, match="by 240 of the 240 test rows of this training"):
        train(store, hours)


@pytest.mark.parametrize("run", ["0" * 32, "a training run"])
def test_a_run_that_is_no_tuning_run_is_refused(
    store: services.MlflowService, hours: datasets.SimulatedReader, run: str
) -> None:
    if run == "a training run":
        run = train(store, hours, tuned=None).run_id
    with pytest.raises(errors.RegistryError, match="there is no run|is not a finished tuning run"):
        train(store, hours, tuned=run)


@pytest.mark.parametrize("given", ["lates", "newest", "", "0123"])
def test_what_names_no_run_is_refused_in_the_configuration(given: str) -> None:
    with pytest.raises(pdt.ValidationError, match="give latest, the id of a tuning run"):
        training.TrainingJob(tuned=given)


def found_for(**changes: Any) -> tuning.Tuned:
    tuned = tuning.Tuned.of(
        models.GradientBoostingModel(), {"max_iter": 30}, "root_mean_squared_error", 1.0
    )
    return tuned.model_copy(update=changes)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"target": "registered"}, "found for the target 'registered'"),
        ({"task": "classification"}, r"the target 'cnt' \(classification\)"),
        ({"features": {"hr": "float64"}}, "other features: .*hr"),
    ],
)
def test_parameters_of_another_schema_are_refused(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(errors.ConfigError, match=why):
        found_for(**changes).apply(models.GradientBoostingModel(), QUIET.logger())


def test_parameters_that_fit_replace_the_configured_ones() -> None:
    model = models.GradientBoostingModel(max_iter=99, max_depth=3)
    applied = found_for().apply(model, QUIET.logger())
    assert applied.get_params() == model.get_params() | {"max_iter": 30}
    assert model.max_iter == 99
    again = tuning.Tuned.model_validate_json(found_for().model_dump_json())
    assert again == found_for()


def test_the_rows_that_tuning_has_seen_are_kept(
    store: services.MlflowService, hours: datasets.SimulatedReader, tuned: tuning.TuningResult
) -> None:
    inputs = schemas.InputsSchema.check(hours.read())
    seen = guards.seen_rows(inputs, tuned.run_id)
    assert seen[:-240].all()
    assert not seen[-240:].any()


# ------------------------------------------------------------------------------- what is configured, and what is tuned
def explicit(**parameters: Any) -> dict[str, Any]:
    return {
        "KIND": "TrainingJob",
        "tuned": "latest",
        "model": {"KIND": "GradientBoostingModel", **parameters},
    }


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        (explicit(), []),
        (explicit(max_iter=800), ["max_iter"]),
        (
            explicit(max_iter=300, learning_rate=0.1),
            ["learning_rate", "max_iter"],
        ),  # also where it is the default
        (explicit(max_iter=800) | {"keep_configured": []}, []),
        (explicit() | {"keep_configured": ["max_depth"]}, ["max_depth"]),
        ({"KIND": "TrainingJob"}, []),
    ],
)
def test_what_the_configuration_names_is_kept_through_every_repetition(
    settings: dict[str, Any], kept: list[str]
) -> None:
    job = training.TrainingJob.model_validate_json(json.dumps(settings))
    assert job.keep_configured == kept
    recorded = (
        job.model_dump_json()
    )  # what a notebook gets, and what a record has: every parameter is written there
    assert training.TrainingJob.model_validate_json(recorded).keep_configured == kept


def test_a_parameter_to_keep_has_to_be_one_of_the_model() -> None:
    with pytest.raises(
        pdt.ValidationError, match="GradientBoostingModel has no parameter 'max_itr'; did you mean"
    ):
        training.TrainingJob(model=models.GradientBoostingModel(), keep_configured=["max_itr"])


def test_what_the_configuration_names_wins_over_what_was_tuned(
    store: services.MlflowService, hours: datasets.SimulatedReader, tuned: tuning.TuningResult
) -> None:
    result = train(store, hours, model=models.GradientBoostingModel(max_iter=8, max_leaf_nodes=5))
    rate = tuned.best_params["learning_rate"]
    assert (result.tuned_parameters, result.kept_parameters) == (
        {"learning_rate": rate},
        {"max_leaf_nodes": 5},
    )
    assert result.summary.endswith(
        f"{tuned.run_id[:8]} (tuned: learning_rate; kept as configured: max_leaf_nodes=5)"
    )
    recorded = store.client().get_run(result.run_id).data.params
    assert (recorded["model.max_leaf_nodes"], recorded["model.learning_rate"]) == ("5", str(rate))
    assert result.facts()["kept as configured"] == "max_leaf_nodes=5"


def test_a_run_of_which_nothing_would_be_used_is_refused_where_it_is_named(
    store: services.MlflowService, hours: datasets.SimulatedReader, tuned: tuning.TuningResult
) -> None:
    model = models.GradientBoostingModel(max_iter=8, max_leaf_nodes=5, learning_rate=0.3)
    with pytest.raises(
        errors.ConfigError, match=r"job.tuned to null .* job.keep_configured to \[\]"
    ):
        train(store, hours, model=model, tuned=tuned.run_id)
    newest = train(store, hours, model=model)  # which was there by chance
    assert (newest.tuned_parameters, newest.kept_parameters["learning_rate"]) == ({}, 0.3)


def test_a_metric_that_does_not_suit_the_task_is_refused_before_the_search(
    store: services.MlflowService, hours: datasets.SimulatedReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        searchers.OptunaSearcher, "search", lambda *_, **__: pytest.fail("it was searched")
    )
    with pytest.raises(errors.ModelError, match="accuracy_score"):
        tune(
            store,
            hours,
            metric=metrics.SklearnMetric(name="accuracy_score", greater_is_better=True),
        )
