"""Searchers: the best candidate is found, and a grid that cannot be searched is refused before the first fit."""

from typing import Any, Literal, Self

import joblib
import numpy as np
import pandas as pd
import pandera.pandas as pa
import pydantic as pdt
import pytest
from pandera.typing.pandas import Index, Series
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import KFold

from model_name.core import errors, metrics, models, schemas
from model_name.utils import journals, samplers, searchers, spaces, splitters


class InputsSchema(schemas.Schema):
    row: Index[int] = pa.Field(check_name=True)
    x: Series[float] = pa.Field(nullable=True)


class NumberSchema(schemas.Schema):
    row: Index[int] = pa.Field(check_name=True)
    y: Series[float] = pa.Field()


class NumberOutputsSchema(schemas.Schema):
    row: Index[int] = pa.Field(check_name=True)
    prediction: Series[float] = pa.Field()


class LabelSchema(schemas.Schema):
    row: Index[int] = pa.Field(check_name=True)
    kind: Series[str] = pa.Field()


class LabelOutputsSchema(schemas.Schema):
    row: Index[int] = pa.Field(check_name=True)
    prediction: Series[str] = pa.Field()
    probability: Series[float] = pa.Field(alias="probability_.+", regex=True)


class OffsetModel(models.Model):
    """Predicts the mean of the targets plus an offset; fails when it is told to."""

    KIND: Literal["OffsetModel"] = "OffsetModel"

    offset: float = 0.0
    fails: bool = False
    depth: int | None = pdt.Field(None, ge=1)

    _mean: float | None = pdt.PrivateAttr(None)

    def fit(self, inputs: pd.DataFrame, targets: pd.DataFrame) -> Self:
        if self.fails:
            raise errors.ModelError("told to fail")
        self._mean = float(targets.to_numpy().mean())
        return self

    def predict(self, inputs: pd.DataFrame) -> Any:
        assert self._mean is not None
        return pd.DataFrame({"prediction": self._mean + self.offset}, index=inputs.index)


ROWS = pd.RangeIndex(60, name="row")
INPUTS = pd.DataFrame({"x": np.arange(60.0)}, index=ROWS)
NUMBERS = pd.DataFrame({"y": np.tile([1.0, 2.0, 3.0], 20)}, index=ROWS)
METRIC = metrics.SklearnMetric(name="mean_absolute_error", greater_is_better=False)


@pytest.fixture(autouse=True)
def _numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schemas, "InputsSchema", InputsSchema)
    monkeypatch.setattr(schemas, "TargetsSchema", NumberSchema)
    monkeypatch.setattr(schemas, "OutputsSchema", NumberOutputsSchema)


def search(
    grid: dict[str, list[Any]], cv: Any = 5, **fields: Any
) -> tuple[pd.DataFrame, float, dict[str, Any]]:
    return searchers.GridCVSearcher(param_grid=grid, **fields).search(
        OffsetModel(), METRIC, INPUTS, NUMBERS, cv
    )


@pytest.mark.parametrize(
    ("cv", "folds"),
    [
        (5, 5),
        (splitters.TrainTestSplitter(test_size=0.2), 1),
        (splitters.TimeSeriesSplitter(n_splits=2, test_size=9), 2),
        (KFold(n_splits=4), 4),
    ],
)
def test_the_best_candidate_comes_first(cv: Any, folds: int) -> None:
    details, best_score, best_params = search({"offset": [5.0, 0.0, -1.0]}, cv)
    assert best_params == {"offset": 0.0}
    assert details["param_offset"].tolist() == [0.0, -1.0, 5.0]
    assert details["rank_test_score"].tolist() == [1, 2, 3]
    assert best_score == pytest.approx(-2 / 3)
    assert details["mean_test_score"].tolist() == pytest.approx([-2 / 3, -1.0, -5.0])
    assert sum(name.startswith("split") for name in details) == folds


def test_the_model_is_left_as_it_is() -> None:
    model = OffsetModel(offset=3.0)
    searchers.GridCVSearcher(param_grid={"offset": [0.0]}).search(model, METRIC, INPUTS, NUMBERS, 3)
    assert model.offset == 3.0
    assert model._mean is None


def test_train_scores_are_there_when_asked_for() -> None:
    assert "mean_train_score" not in search({"offset": [0.0]})[0]
    assert "mean_train_score" in search({"offset": [0.0]}, return_train_score=True)[0]


def test_parallel_fits_find_the_same() -> None:
    grid = {"max_depth": [1, 5], "n_estimators": [3]}
    model = models.BaselineSklearnModel(n_jobs=1)
    metric = metrics.SklearnMetric(name="r2_score", greater_is_better=True)
    targets = pd.DataFrame({"y": np.sin(INPUTS["x"] / 5)}, index=ROWS)
    cv = KFold(n_splits=3, shuffle=True, random_state=0)

    def found(n_jobs: int) -> tuple[float, dict[str, Any]]:
        searcher = searchers.GridCVSearcher(param_grid=grid, n_jobs=n_jobs)
        with joblib.parallel_config("threading"):  # the schema of this test lives in this process
            return searcher.search(model, metric, INPUTS, targets, cv)[1:]

    score, params = found(1)
    assert params == {"max_depth": 5, "n_estimators": 3}
    assert score > 0.5
    assert found(2) == (score, params)


@pytest.mark.parametrize(
    "cv", [3, splitters.TrainTestSplitter(test_size=0.2, shuffle=True, stratify=True)]
)
def test_classifiers_are_searched_too(monkeypatch: pytest.MonkeyPatch, cv: Any) -> None:
    monkeypatch.setattr(schemas, "TargetsSchema", LabelSchema)
    monkeypatch.setattr(schemas, "OutputsSchema", LabelOutputsSchema)
    labels = LabelSchema.check(
        pd.DataFrame({"kind": np.where(INPUTS["x"] % 20 < 10, "low", "high")}, index=ROWS)
    )
    inputs = InputsSchema.check(INPUTS.assign(x=INPUTS["x"] % 20))
    metric = metrics.SklearnMetric(name="accuracy_score", greater_is_better=True)
    searcher = searchers.GridCVSearcher(param_grid={"max_iter": [1, 5], "min_samples_leaf": [2]})
    details, best_score, best_params = searcher.search(
        models.GradientBoostingModel(), metric, inputs, labels, cv
    )
    assert best_score == 1.0
    assert best_params["min_samples_leaf"] == 2
    assert len(details) == 2


def test_the_whole_grid_is_checked_before_the_first_fit() -> None:
    with pytest.raises(errors.ConfigError) as refusal:
        search({"ofset": [0.0], "depth": [3, 0, "deep"], "fails": [True]})
    assert str(refusal.value).splitlines() == [
        "param_grid cannot be searched:",
        "- ofset: OffsetModel has no such parameter; did you mean 'offset'?; it has offset, fails, depth",
        "- depth: 0: Input should be greater than or equal to 1",
        "- depth: 'deep': Input should be a valid integer",
    ]


@pytest.mark.parametrize("cv", [-1, 0, 1, 61])
def test_a_number_of_folds_that_cannot_be_made_is_refused(cv: int) -> None:
    with pytest.raises(errors.ConfigError, match=f"cv: {cv} is not a number of folds for 60 rows"):
        search({"offset": [0.0]}, cv)


def test_too_few_rows_are_said_by_the_splitter() -> None:
    with pytest.raises(
        errors.DataError, match=r"too few rows \(60\) for n_splits: 4, test_size: 1440"
    ):
        search({"offset": [0.0]}, splitters.TimeSeriesSplitter())


@pytest.mark.filterwarnings("ignore:One or more of the test scores")
def test_a_failing_fit_ends_the_search_unless_it_has_a_score() -> None:
    with pytest.raises(errors.ModelError, match="told to fail"):
        search({"fails": [False, True]})
    with pytest.warns(FitFailedWarning, match="5 fits failed"):
        details, best_score, best_params = search(
            {"fails": [True, False]}, error_score=float("nan")
        )
    assert best_params == {"fails": False}
    assert best_score == pytest.approx(-2 / 3)
    assert details["mean_test_score"].isna().tolist() == [False, True]


def test_a_search_without_any_success_is_an_error() -> None:
    with pytest.raises(errors.ModelError, match="no candidate of OffsetModel could be fitted"):
        search({"fails": [True]}, error_score=float("nan"))


@pytest.mark.parametrize(
    "fields",
    [
        {"param_grid": {}},
        {"param_grid": {"offset": []}},
        {"param_grid": {"offset": 3.0}},
        {"param_grid": {"offset": [0.0]}, "error_score": "ignore"},
        {"param_grid": {"offset": [0.0]}, "jobs": 2},
        {},
    ],
)
def test_what_cannot_be_meant_is_refused_in_the_configuration(fields: dict[str, Any]) -> None:
    with pytest.raises(pdt.ValidationError):
        searchers.GridCVSearcher(**fields)


# ---------------------------------------------------------------------------------------------------------- Optuna
SPACE = {"offset": spaces.FloatDistribution(low=-5.0, high=5.0)}


def optuna_search(
    space: Any = SPACE, cv: Any = 5, model: models.Model | None = None, **fields: Any
) -> Any:
    settings: dict[str, Any] = {"param_grid": space, "n_trials": 16, "storage": None, "n_jobs": 1}
    searcher = searchers.OptunaSearcher(**(settings | fields))
    with joblib.parallel_config("threading"):  # model and schema of this test live in this process
        return searcher.search(model or OffsetModel(), METRIC, INPUTS, NUMBERS, cv)


def without_times(details: pd.DataFrame) -> pd.DataFrame:
    return details.drop(columns="seconds")


def test_a_search_finds_what_a_grid_would() -> None:
    details, best_score, best_params = optuna_search(try_configured=False, n_trials=30, pruner=None)
    assert abs(best_params["offset"]) < 0.4
    assert best_score == details["mean_test_score"].iloc[0] == details["mean_test_score"].max()
    assert sorted(details["trial"]) == list(range(30))


def test_the_model_as_configured_is_tried_first_when_the_space_holds_it() -> None:
    first = optuna_search(model=OffsetModel(offset=2.5))[0].set_index("trial").loc[0]
    assert first["param_offset"] == 2.5
    outside = optuna_search(model=OffsetModel(offset=99.0))[0].set_index("trial").loc[0]
    assert -5.0 <= outside["param_offset"] <= 5.0


@pytest.mark.parametrize(
    "pruner", [None, samplers.MedianPruner(), samplers.WilcoxonPruner(p_threshold=0.3)]
)
@pytest.mark.parametrize("sampler", [samplers.TPESampler(), samplers.RandomSampler()])
def test_the_number_of_workers_changes_nothing(pruner: Any, sampler: Any) -> None:
    found = [optuna_search(n_jobs=n, pruner=pruner, sampler=sampler) for n in (1, 2, 4)]
    for other in found[1:]:
        pd.testing.assert_frame_equal(without_times(found[0][0]), without_times(other[0]))
        assert other[1:] == found[0][1:]


def test_another_seed_gives_other_trials() -> None:
    offsets = [set(optuna_search(seed=seed)[0]["param_offset"]) for seed in (1, 2)]
    assert len(offsets[0] & offsets[1]) <= 1  # the configured one


def test_a_cut_journal_is_continued_to_the_same_end(tmp_path: Any) -> None:
    """Whatever byte the process died at: in a batch, in a line, between making the study and saying whose it is."""
    storage = tmp_path / "search.journal"
    settings = {
        "storage": str(storage),
        "n_trials": 8,
        "batch_size": 3,
        "pruner": samplers.MedianPruner(n_startup_trials=2),
    }
    whole = optuna_search({**SPACE, "fails": [False, True]}, **settings)
    assert set(whole[0]["state"]) == {"complete", "pruned", "failed"}
    written = storage.read_bytes()
    ends = [place + 1 for place, byte in enumerate(written) if byte == ord("\n")]
    for cut in [1, *ends, *(end - 3 for end in ends[::7])]:
        storage.write_bytes(written[:cut])
        again = optuna_search({**SPACE, "fails": [False, True]}, n_jobs=1 + cut % 2, **settings)
        pd.testing.assert_frame_equal(without_times(again[0]), without_times(whole[0]))
        assert again[1:] == whole[1:]
        states = [trial.state.name for trial in journal_of(storage)]
        assert "RUNNING" not in states
        assert len(states) == 8


def journal_of(storage: Any) -> list[Any]:
    import optuna

    backend = optuna.storages.journal.JournalFileBackend(str(storage))
    return optuna.load_study(
        study_name=None, storage=optuna.storages.JournalStorage(backend)
    ).trials


def test_the_total_is_a_total(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """More trials later are the trials that one search would have made; fewer are its beginning; none is repeated."""
    direct = optuna_search(n_trials=18, batch_size=4)
    storage = str(tmp_path / "search.journal")
    for trials in (6, 13, 18):
        stepwise = optuna_search(n_trials=trials, batch_size=4, storage=storage)
    pd.testing.assert_frame_equal(without_times(stepwise[0]), without_times(direct[0]))

    monkeypatch.setattr(
        OffsetModel, "fit", lambda *_: pytest.fail("a finished trial was fitted again")
    )
    assert optuna_search(n_trials=18, storage=storage)[1:] == direct[1:]
    fewer = optuna_search(n_trials=6, storage=storage)[0]
    assert sorted(fewer["trial"]) == list(range(6))


def test_the_same_parameters_are_fitted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    fits: list[float] = []
    fit = OffsetModel.fit

    def counted(self: OffsetModel, inputs: Any, targets: Any) -> Any:
        fits.append(self.offset)
        return fit(self, inputs, targets)

    monkeypatch.setattr(OffsetModel, "fit", counted)
    details = optuna_search({"offset": [0.0, 1.0, 2.0]}, pruner=None, n_trials=12)[0]
    assert sorted(fits) == [offset for offset in (0.0, 1.0, 2.0) for _ in range(5)]
    reused = details[details["same_as"].notna()]
    assert len(reused) == 9
    scores = details.set_index("trial")["mean_test_score"]
    assert [scores[trial] for trial in reused["trial"]] == [
        scores[same] for same in reused["same_as"]
    ]


def test_a_conditional_parameter_exists_only_where_it_should() -> None:
    space = {
        "depth": spaces.IntDistribution(low=1, high=9, when={"fails": [False], "offset": [1.0]}),
        "offset": [0.0, 1.0],
        "fails": [False],
    }
    details, _, best = optuna_search(space, pruner=None)
    there = details["params"].map(lambda params: "depth" in params)
    assert there.tolist() == (details["param_offset"] == 1.0).tolist()
    assert 0 < there.sum() < len(details)
    assert best == {"offset": 0.0, "fails": False}


def test_hopeless_candidates_are_given_up_and_the_best_is_not() -> None:
    details, _, best = optuna_search(n_trials=30)
    pruned = details[details["state"] == "pruned"]
    assert len(pruned) > 5
    assert pruned["mean_test_score"].isna().all()
    assert pruned["split4_test_score"].isna().all()
    assert pruned["split0_test_score"].notna().all()
    assert set(pruned["reason"].str.slice(0, 26)) == {"given up by MedianPruner a"}
    assert abs(best["offset"]) < 0.5


def test_a_time_budget_ends_the_search_between_two_batches() -> None:
    details = optuna_search(timeout=1e-9, batch_size=4)[0]
    assert sorted(details["trial"]) == [0, 1, 2, 3]
    assert set(details["trial"]) == set(optuna_search(n_trials=4)[0]["trial"])


def test_candidates_that_fail_are_counted_and_the_others_go_on() -> None:
    details, _, best = optuna_search({"fails": [False, True], "offset": [0.0, 1.0]}, n_trials=12)
    assert best == {"fails": False, "offset": 0.0}
    failed = details[details["state"] == "failed"]
    assert failed["param_fails"].tolist() == [True] * len(failed) != []
    assert set(failed["reason"]) == {"ModelError: told to fail"}


def test_a_search_in_which_all_fail_says_why() -> None:
    with pytest.raises(errors.ModelError) as refusal:
        optuna_search({"fails": [True]}, n_trials=5)
    assert str(refusal.value).splitlines() == [
        "none of the 5 trials of OffsetModel went through all folds, so there is no best one:",
        "- 5 failed: ModelError: told to fail",
    ]


def test_a_search_in_which_all_are_given_up_says_why() -> None:
    with pytest.raises(
        errors.ModelError, match="- 4 pruned: given up by ThresholdPruner after 1 of 5 folds"
    ):
        optuna_search(pruner=samplers.ThresholdPruner(lower=0.0), n_trials=4)


def test_a_score_that_is_not_a_number_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics.SklearnMetric, "score", lambda *_: float("nan"))
    with pytest.raises(errors.ModelError, match="- 3 failed: the score is nan"):
        optuna_search(n_trials=3)


def test_unknown_parameters_are_refused_with_the_nearest() -> None:
    with pytest.raises(errors.ConfigError, match="did you mean 'offset'") as refusal:
        optuna_search({"ofset": [1.0], "depth": spaces.IntDistribution(low=0, high=3)})
    assert "depth: 0: Input should be greater than or equal to 1" in str(refusal.value)


class Folds:
    """A splitter with one training set and one test set."""

    def __init__(self, train: range, test: range) -> None:
        self.fold = (np.array(train, dtype=int), np.array(test, dtype=int))

    def split(self, *_: Any) -> Any:
        return [self.fold]

    def get_n_splits(self, *_: Any) -> int:
        return 1


@pytest.mark.parametrize(
    ("train", "test", "what"), [(range(0), range(5), "train on"), (range(5), range(0), "score")]
)
def test_a_fold_without_rows_is_refused(train: range, test: range, what: str) -> None:
    with pytest.raises(errors.DataError, match=f"fold 1 of 1 has no rows to {what}"):
        optuna_search(cv=Folds(train, test))


@pytest.mark.parametrize(
    ("other", "part"),
    [
        ({"seed": 1}, "seed"),
        ({"space": {"offset": [0.0, 1.0]}}, "param_grid"),
        ({"cv": 4}, "folds"),
        ({"model": OffsetModel(depth=3)}, "model"),
        ({"pruner": None}, "pruner"),
    ],
)
def test_a_storage_of_another_study_is_refused(
    tmp_path: Any, other: dict[str, Any], part: str
) -> None:
    storage = str(tmp_path / "search.journal")
    optuna_search(storage=storage, n_trials=2)
    with pytest.raises(
        errors.ConfigError, match=f"belongs to another study .* the two differ in: {part}"
    ):
        optuna_search(storage=storage, n_trials=2, **other)


def test_other_data_or_other_code_is_another_study(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = str(tmp_path / "search.journal")
    optuna_search(storage=storage, n_trials=2)
    with monkeypatch.context() as patch:
        patch.setitem(globals(), "NUMBERS", NUMBERS + 1)
        with pytest.raises(errors.ConfigError, match="differ in: data"):
            optuna_search(storage=storage, n_trials=2)
    monkeypatch.setattr(journals, "_source", lambda kind: "an edited fit")
    with pytest.raises(errors.ConfigError, match="differ in: code"):
        optuna_search(storage=storage, n_trials=2)


def test_each_search_has_a_file_of_its_own_by_default(tmp_path: Any) -> None:
    for seed in (1, 2, 1):
        optuna_search(storage=f"{tmp_path}/{{study}}.journal", n_trials=2, seed=seed)
    assert len(list(tmp_path.glob("study-*.journal"))) == 2


@pytest.mark.parametrize("content", [b"a,b\n1,2", b"{}\n", b"SQLite format 3\x00"])
def test_a_file_that_is_no_journal_is_refused_and_left_alone(tmp_path: Any, content: bytes) -> None:
    storage = tmp_path / "table.csv"
    storage.write_bytes(content)
    with pytest.raises(errors.ConfigError, match="is not a journal of Optuna"):
        optuna_search(storage=str(storage))
    assert storage.read_bytes() == content


def test_a_study_of_somebody_else_is_refused(tmp_path: Any) -> None:
    import optuna

    storage = str(tmp_path / "search.journal")
    backend = optuna.storages.journal.JournalFileBackend(storage)
    study = optuna.create_study(storage=optuna.storages.JournalStorage(backend), study_name="mine")
    study.optimize(lambda trial: trial.suggest_float("offset", 0, 1), n_trials=1)
    with pytest.raises(errors.ConfigError, match=r"belongs to another study \(mine;"):
        optuna_search(storage=storage)


def test_two_processes_do_not_write_one_journal(tmp_path: Any) -> None:
    storage = tmp_path / "search.journal"
    with (
        journals._alone(storage),
        pytest.raises(errors.ConfigError, match="another process is searching"),
    ):
        optuna_search(storage=str(storage))


@pytest.mark.parametrize(
    "fields",
    [
        {"param_grid": {}},
        {"param_grid": {"offset": []}},
        {"param_grid": {"offset": {"KIND": "FloatDistribution", "low": 2.0, "high": 1.0}}},
        {"param_grid": {"offset": {"KIND": "FloatDistribution", "low": 0.0, "high": 1.0, "log": True}}},
        {"param_grid": {"offset": {"KIND": "NormalDistribution", "low": 0.0, "high": 1.0}}},
        {"param_grid": {"offset": [1.0, 1]}},
        {"param_grid": {"offset": [0.0]}, "n_trials": 0},
        {"param_grid": {"offset": {"KIND": "CategoricalDistribution", "choices": [1.0], "when": {"other": [1]}}}},
        {"param_grid": {
            "a": {"KIND": "CategoricalDistribution", "choices": [1], "when": {"b": [1]}},
            "b": {"KIND": "CategoricalDistribution", "choices": [1], "when": {"a": [1]}},
        }},
    ],
)  # fmt: skip
def test_a_space_that_cannot_be_meant_is_refused_in_the_configuration(
    fields: dict[str, Any],
) -> None:
    with pytest.raises(pdt.ValidationError):
        searchers.OptunaSearcher(**fields)


def test_importances_tell_what_mattered() -> None:
    space = {"offset": spaces.FloatDistribution(low=-5.0, high=5.0), "depth": [1, 2, 3]}
    details = optuna_search(space, pruner=None, n_trials=30)[0]
    table = searchers.importances(details, space)
    assert table["parameter"].tolist() == ["offset", "depth"]
    assert table["importance"].sum() == pytest.approx(1.0)
    assert table["importance"].iloc[0] > 0.8
    grid = {"offset": [0.0, 2.0], "depth": [1, 2]}
    assert searchers.importances(search(grid)[0], grid)["parameter"].iloc[0] == "offset"
    conditional = {
        "offset": [0.0, 3.0],
        "depth": spaces.IntDistribution(low=1, high=9, when={"offset": [3.0]}),
    }
    found = searchers.importances(optuna_search(conditional, pruner=None)[0], conditional)
    assert set(found["parameter"]) == {"offset", "depth"}


def test_a_machine_that_fails_ends_the_search_and_says_nothing_about_the_parameters(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = tmp_path / "search.journal"
    with monkeypatch.context() as patch:
        patch.setattr(
            OffsetModel, "predict", lambda *_: (_ for _ in ()).throw(OSError("no space left"))
        )
        with pytest.raises(errors.ModelError, match="OSError: no space left"):
            optuna_search(storage=str(storage))
    assert optuna_search(storage=str(storage))[1:] == optuna_search()[1:]
