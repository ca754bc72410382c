"""Compiled predictions: scikit-learn's answers to the last bit, for any tree, label and missing value."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)

from model_name.core import scoring

RANDOM = np.random.default_rng(7)
LABELS = (4, 40, 250)  # kinds of the native columns, which come first


def table(rows: int) -> npt.NDArray[np.float64]:
    """Three columns of labels and three of numbers, a tenth of all values missing."""
    labels = [RANDOM.integers(0, kinds, rows).astype("float64") for kinds in LABELS]
    values = np.column_stack([*labels, RANDOM.normal(size=(rows, 2)), RANDOM.integers(0, 3, rows)])
    values[RANDOM.random(values.shape) < 0.1] = np.nan
    return values


ROWS = table(600)
NUMBER = np.nan_to_num(ROWS) @ [1, 0.1, 0.01, 2, -1, 1] + (ROWS[:, 0] % 3 == 1) * 5
TWO, THREE = np.where(NUMBER > 3, "yes", "no"), np.digitize(NUMBER, [1, 5])
NATIVE: dict[str, Any] = {
    "categorical_features": [0, 1, 2], "random_state": 0, "max_iter": 8, "min_samples_leaf": 3
}  # fmt: skip
SMALL: dict[str, Any] = {"n_estimators": 7, "random_state": 0}
Boosting, LabelBoosting = HistGradientBoostingRegressor, HistGradientBoostingClassifier
ESTIMATORS: dict[str, tuple[Any, Any]] = {
    "15 leaves": (Boosting(max_leaf_nodes=15, **NATIVE), NUMBER),
    "17 leaves": (Boosting(max_leaf_nodes=17, **NATIVE), NUMBER),
    "64 leaves": (Boosting(max_leaf_nodes=64, **NATIVE), NUMBER),
    "any number of leaves": (Boosting(max_leaf_nodes=None, **NATIVE), NUMBER),
    "counts": (Boosting(loss="poisson", **NATIVE), abs(NUMBER)),
    "one leaf": (Boosting(**NATIVE | {"min_samples_leaf": 600}), NUMBER),
    "two labels": (LabelBoosting(**NATIVE), TWO),
    "three labels": (LabelBoosting(**NATIVE), THREE),
    "many leaves, three labels": (LabelBoosting(max_leaf_nodes=None, **NATIVE), THREE),
    "forest": (RandomForestRegressor(**SMALL), NUMBER),
    "forest of stumps": (RandomForestRegressor(max_depth=1, **SMALL), NUMBER),
    "forest of leaves": (RandomForestRegressor(min_samples_leaf=600, **SMALL), NUMBER),
    "forest, two labels": (RandomForestClassifier(**SMALL), TWO),
    "forest, three labels": (RandomForestClassifier(**SMALL), THREE),
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_answers_are_those_of_scikit_learn(name: str) -> None:
    unfitted, target = ESTIMATORS[name]
    estimator = unfitted.fit(ROWS, target)
    predict = scoring.compile_trees(estimator, ROWS[:64], n_jobs=2)
    assert predict is not None, "laid out, and the same on the rows that it was tried on"
    extreme = np.array([[-1.0, 39, 249, 1e300, -1e300, 0], [7, 300, 255, 0, -0.0, 5e-324]])
    if name.startswith("forest"):
        extreme = np.clip(extreme, -1e38, 1e38)  # 32 bits, and no infinity
    many = table(
        8_200 if name in ("15 leaves", "forest") else 600
    )  # more than one task for threads
    for rows in (many, ROWS[:1], np.full((3, 6), np.nan), extreme):
        answers, expected = predict(rows), scoring.answers(estimator, rows)
        assert np.array_equal(answers[0], expected[0])
        assert (answers[1] is None) == (expected[1] is None)
        assert answers[1] is None or np.array_equal(answers[1], expected[1])


def test_thresholds_are_compared_as_they_are() -> None:
    values = np.array([[0.0], [1.0], [2.0], [3.0]]).repeat(20, axis=0)
    forest = RandomForestRegressor(3, random_state=0).fit(values, values[:, 0])
    predict = scoring.compile_trees(forest, values)
    assert predict is not None
    rows = np.array([[0.5], [np.nextafter(np.float32(0.5), 1)], [1.5], [2.5], [2.5000001]])
    assert predict(rows)[0].tolist() == forest.predict(rows).tolist()


def test_an_unfitted_estimator_is_left_to_scikit_learn(warned: list[str]) -> None:
    assert scoring.compile_trees(HistGradientBoostingRegressor(), ROWS) is None
    assert "cannot be used for this HistGradientBoostingRegressor" in warned[0]


def test_infinity_is_refused_as_by_scikit_learn() -> None:
    predict = scoring.compile_trees(RandomForestRegressor(3).fit(ROWS, NUMBER), ROWS[:64])
    assert predict is not None
    with pytest.raises(ValueError, match="infinity"):
        predict(np.full((1, 6), np.inf))


def test_a_category_that_was_not_seen_is_missing_as_in_scikit_learn() -> None:
    random = np.random.default_rng(0)
    rows = np.column_stack([random.normal(size=200), random.integers(0, 5, 200) * 2.0])
    rows[::7, 1] = np.nan
    estimator = HistGradientBoostingRegressor(max_iter=10, categorical_features=[1])
    estimator.fit(rows, np.nan_to_num(rows[:, 1]) + rows[:, 0])
    predict = scoring.compile_trees(estimator, rows[:20])
    assert predict is not None
    odd = np.array([[0.1, 3.0], [0.1, 99.0], [0.1, -1.0], [np.inf, 4.0], [np.nan, np.nan]])
    assert predict(odd)[0].tolist() == estimator.predict(odd).tolist()
