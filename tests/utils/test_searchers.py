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
from model_name.utils import searchers, splitters


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


def search(grid: dict[str, list[Any]], cv: Any = 5, **fields: Any) -> tuple[pd.DataFrame, float, dict[str, Any]]:
    return searchers.GridCVSearcher(param_grid=grid, **fields).search(OffsetModel(), METRIC, INPUTS, NUMBERS, cv)


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


@pytest.mark.parametrize("cv", [3, splitters.TrainTestSplitter(test_size=0.2, shuffle=True, stratify=True)])
def test_classifiers_are_searched_too(monkeypatch: pytest.MonkeyPatch, cv: Any) -> None:
    monkeypatch.setattr(schemas, "TargetsSchema", LabelSchema)
    monkeypatch.setattr(schemas, "OutputsSchema", LabelOutputsSchema)
    labels = LabelSchema.check(pd.DataFrame({"kind": np.where(INPUTS["x"] % 20 < 10, "low", "high")}, index=ROWS))
    inputs = InputsSchema.check(INPUTS.assign(x=INPUTS["x"] % 20))
    metric = metrics.SklearnMetric(name="accuracy_score", greater_is_better=True)
    searcher = searchers.GridCVSearcher(param_grid={"max_iter": [1, 5], "min_samples_leaf": [2]})
    details, best_score, best_params = searcher.search(models.GradientBoostingModel(), metric, inputs, labels, cv)
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
    with pytest.raises(errors.DataError, match=r"too few rows \(60\) for n_splits: 4, test_size: 1440"):
        search({"offset": [0.0]}, splitters.TimeSeriesSplitter())


@pytest.mark.filterwarnings("ignore:One or more of the test scores")
def test_a_failing_fit_ends_the_search_unless_it_has_a_score() -> None:
    with pytest.raises(errors.ModelError, match="told to fail"):
        search({"fails": [False, True]})
    with pytest.warns(FitFailedWarning, match="5 fits failed"):
        details, best_score, best_params = search({"fails": [True, False]}, error_score=float("nan"))
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
