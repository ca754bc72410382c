"""Splitters: the folds hold what they promise for any size, and refuse what cannot be split."""

import math

import numpy as np
import pandas as pd
import pydantic as pdt
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.dummy import DummyRegressor
from sklearn.model_selection import GridSearchCV, TimeSeriesSplit, cross_val_score, train_test_split

from model_name.core import errors
from model_name.utils import splitters

SHARES = st.floats(0.001, 0.999, allow_nan=False)
SIZES = st.one_of(st.integers(1, 200), SHARES)


def expected_test_rows(size: int | float, rows: int) -> int:
    return size if isinstance(size, int) else math.ceil(round(size * rows, 9))


@given(rows=st.integers(0, 300), test_size=SIZES, shuffle=st.booleans())
def test_train_test_split_divides_the_rows_or_says_why_not(
    rows: int, test_size: int | float, shuffle: bool
) -> None:
    splitter = splitters.TrainTestSplitter(test_size=test_size, shuffle=shuffle)
    size = expected_test_rows(test_size, rows)
    if size >= rows:
        with pytest.raises(errors.DataError, match=r"too few rows .* e\.g\. test_size: 0\.2"):
            list(splitter.split(range(rows)))
        return
    [(train, test)] = splitter.split(range(rows))
    assert len(test) == size
    assert sorted([*train, *test]) == list(range(rows))
    if not shuffle:
        assert train.tolist() == list(range(rows - size))
        assert test.tolist() == list(range(rows - size, rows))


@given(
    rows=st.integers(0, 300),
    test_size=st.none() | SIZES,
    n_splits=st.integers(2, 8),
    gap=st.integers(0, 20),
)
def test_time_series_folds_go_forward(
    rows: int, test_size: int | float | None, n_splits: int, gap: int
) -> None:
    splitter = splitters.TimeSeriesSplitter(test_size=test_size, n_splits=n_splits, gap=gap)
    size = rows // (n_splits + 1) if test_size is None else expected_test_rows(test_size, rows)
    if size == 0 or n_splits * size + gap >= rows:
        with pytest.raises(errors.DataError, match="too few rows"):
            list(splitter.split(range(rows)))
        return
    folds = list(splitter.split(range(rows)))
    assert len(folds) == splitter.get_n_splits() == n_splits
    for train, test in folds:
        assert train.tolist() == list(range(test[0] - gap)), (
            "everything before the test set but the gap"
        )
        assert test.tolist() == list(range(test[0], test[0] + size))
    assert np.concatenate([test for _, test in folds]).tolist() == list(
        range(rows - n_splits * size, rows)
    )


@given(n_splits=st.integers(2, 600))
def test_the_suggested_test_size_is_one_that_works(n_splits: int) -> None:
    suggested = splitters._a_share_that_fits(n_splits)
    rows = 2_000 * n_splits
    assume(suggested * n_splits < 1)
    folds = list(
        splitters.TimeSeriesSplitter(n_splits=n_splits, test_size=suggested).split(range(rows))
    )
    assert len(folds) == n_splits
    assert len(folds[0][0]) > 0


def test_time_series_folds_are_those_of_scikit_learn() -> None:
    ours = list(splitters.TimeSeriesSplitter(n_splits=3, test_size=7, gap=2).split(range(50)))
    theirs = list(TimeSeriesSplit(n_splits=3, test_size=7, gap=2).split(np.arange(50)))
    assert [(a.tolist(), b.tolist()) for a, b in ours] == [
        (a.tolist(), b.tolist()) for a, b in theirs
    ]


def test_a_shuffled_split_depends_on_the_seed_alone() -> None:
    def test_rows(seed: int) -> list[int]:
        [(_, test)] = splitters.TrainTestSplitter(
            shuffle=True, test_size=10, random_state=seed
        ).split(range(100))
        return [int(row) for row in test]

    assert (
        test_rows(7)
        == test_rows(7)
        == train_test_split(np.arange(100), test_size=10, random_state=7)[1].tolist()
    )
    assert test_rows(7) != test_rows(8)


@pytest.mark.parametrize("labels", [["rain", "sun"], [True, False], [0, 1]])
def test_a_stratified_split_keeps_the_shares(labels: list[object]) -> None:
    targets = pd.DataFrame({"kind": [labels[0]] * 80 + [labels[1]] * 20})
    splitter = splitters.TrainTestSplitter(shuffle=True, stratify=True, test_size=0.25)
    [(train, test)] = splitter.split(range(100), targets)
    assert (targets["kind"].iloc[test] == labels[1]).sum() == 5
    assert (targets["kind"].iloc[train] == labels[1]).sum() == 15
    categories = targets.astype({"kind": "category"})
    [(_, same)] = splitter.split(range(100), categories)
    assert same.tolist() == test.tolist()


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (None, "needs the targets"),
        (pd.DataFrame({"kind": ["a"] * 9 + ["b"]}), "member.*Use stratify: false"),
    ],
)
def test_what_cannot_be_stratified_is_refused(targets: pd.DataFrame | None, message: str) -> None:
    splitter = splitters.TrainTestSplitter(shuffle=True, stratify=True, test_size=3)
    with pytest.raises(errors.DataError, match=message):
        list(splitter.split(range(10), targets))


@pytest.mark.parametrize(
    "splitter",
    [
        splitters.TrainTestSplitter(test_size=2),
        splitters.TimeSeriesSplitter(test_size=2, n_splits=2),
    ],
)
def test_targets_of_another_length_are_refused(splitter: splitters.Splitter) -> None:
    with pytest.raises(errors.DataError, match="inputs have 10 rows and targets 9"):
        list(splitter.split(range(10), range(9)))


@pytest.mark.parametrize(
    "size", [0, -3, 0.0, 1.0, 1.5, -0.1, float("nan"), float("inf"), True, "10"]
)
def test_a_size_that_means_nothing_is_refused_in_the_configuration(size: object) -> None:
    with pytest.raises(pdt.ValidationError):
        splitters.TrainTestSplitter(test_size=size)  # type: ignore[arg-type]
    with pytest.raises(pdt.ValidationError):
        splitters.TimeSeriesSplitter(test_size=size)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (splitters.TrainTestSplitter, {"stratify": True}),
        (splitters.TrainTestSplitter, {"random_state": -1}),
        (splitters.TrainTestSplitter, {"n_splits": 3}),
        (splitters.TimeSeriesSplitter, {"n_splits": 1}),
        (splitters.TimeSeriesSplitter, {"gap": -1}),
    ],
)
def test_other_fields_are_checked_too(
    kind: type[splitters.Splitter], fields: dict[str, object]
) -> None:
    with pytest.raises(pdt.ValidationError):
        kind(**fields)  # type: ignore[arg-type]


def test_the_defaults_are_two_months_of_hours() -> None:
    assert (
        splitters.TrainTestSplitter().test_size == splitters.TimeSeriesSplitter().test_size == 1440
    )
    [(train, test)] = splitters.TrainTestSplitter().split(range(10_000))
    assert (len(train), len(test)) == (8_560, 1_440)


def test_the_size_is_described_in_the_json_schema() -> None:
    size = splitters.TrainTestSplitter.model_json_schema()["properties"]["test_size"]
    assert size["anyOf"][0] == {"type": "integer", "minimum": 1}
    assert size["default"] == 1440


@pytest.mark.parametrize(
    "splitter",
    [
        splitters.TrainTestSplitter(test_size=0.2),
        splitters.TimeSeriesSplitter(test_size=10, n_splits=3),
    ],
)
def test_scikit_learn_takes_it_as_cv(splitter: splitters.Splitter) -> None:
    inputs, targets = pd.DataFrame({"x": range(60)}), pd.DataFrame({"y": range(60)})
    scores = cross_val_score(
        DummyRegressor(), inputs, targets, cv=splitter, scoring="neg_mean_absolute_error"
    )
    assert len(scores) == splitter.get_n_splits(inputs, targets)
    assert (scores < 0).all()
    search = GridSearchCV(DummyRegressor(), {"strategy": ["mean", "median"]}, cv=splitter)
    assert clone(search).fit(inputs, targets).n_splits_ == splitter.get_n_splits()
