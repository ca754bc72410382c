"""Shapley values against their definition, written out over every coalition, on models of every form."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.ensemble import (
    ExtraTreesRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LinearRegression

from model_name.core import attributions, errors

PLAYERS = [0, 0, 1, 2]  # the first two columns are one feature
FEATURES = ["pair", "number", "label"]
Answer = Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]


def rows(count: int, seed: int, missing: float = 0.1) -> np.ndarray[Any, Any]:
    """Return encoded rows: three columns of numbers, some missing, and one of the labels 0 to 4."""
    random = np.random.default_rng(seed)
    numbers = random.normal(size=(count, 3))
    numbers[random.random(numbers.shape) < missing] = np.nan
    return np.column_stack([numbers, random.integers(0, 5, count)])


def outcome(encoded: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return what depends on every column, and on two of them together."""
    known = np.nan_to_num(encoded, nan=0.5)
    return (
        known[:, 0] * known[:, 1]
        + 2 * known[:, 2]
        + np.array([0, 3, -2, 1, 5])[known[:, 3].astype(int)]
    )


def by_definition(
    answer: Answer, sample: np.ndarray[Any, Any], background: np.ndarray[Any, Any]
) -> np.ndarray[Any, Any]:
    """Compute Shapley values (players x outputs) from the definition: every player joins every coalition."""
    players = np.array(PLAYERS)
    count = int(players.max()) + 1

    def worth(coalition: tuple[int, ...]) -> np.ndarray[Any, Any]:
        mixed = np.where(np.isin(players, coalition), sample, background)
        return np.reshape(answer(mixed), (len(background), -1)).mean(axis=0)

    values = []
    for player in range(count):
        others = [other for other in range(count) if other != player]
        total: Any = 0.0
        for size in range(count):
            weight = math.factorial(size) * math.factorial(count - size - 1) / math.factorial(count)
            for coalition in itertools.combinations(others, size):
                total = total + weight * (worth((*coalition, player)) - worth(coalition))
        values.append(total)
    return np.array(values)


def explained(
    estimator: Any, samples: Any, background: Any, threads: int = 1
) -> attributions.Attributions:
    return attributions.explain(estimator, FEATURES, PLAYERS, samples, background, threads)


FORMS: dict[str, tuple[Any, Callable[[Any], Answer], bool]] = {
    "forest": (
        RandomForestRegressor(5, max_depth=4, random_state=1),
        lambda model: model.predict,
        False,
    ),
    "extra trees": (
        ExtraTreesRegressor(5, max_depth=4, random_state=1),
        lambda model: model.predict,
        False,
    ),
    "forest, two labels": (
        RandomForestClassifier(5, max_depth=4, random_state=1),
        lambda model: lambda mixed: model.predict_proba(mixed)[:, 1],
        True,
    ),
    "boosting": (
        HistGradientBoostingRegressor(max_iter=8, categorical_features=[3], min_samples_leaf=5),
        lambda model: model.predict,
        False,
    ),
    "boosting of counts": (
        HistGradientBoostingRegressor(
            loss="poisson", max_iter=8, categorical_features=[3], min_samples_leaf=5
        ),
        lambda model: lambda mixed: np.log(model.predict(mixed)),
        False,
    ),
    "boosting, two labels": (
        HistGradientBoostingClassifier(max_iter=8, categorical_features=[3], min_samples_leaf=5),
        lambda model: model.decision_function,
        True,
    ),
}


def fitted(form: str, labels: int = 2) -> tuple[Any, Answer]:
    estimator, answer, classify = FORMS[form]
    train = rows(200, seed=2)
    target = outcome(train)
    if classify:
        target = np.digitize(target, np.quantile(target, np.arange(1, labels) / labels))
    elif form == "boosting of counts":
        target = np.round(np.exp(target / 4))
    estimator.fit(train, target)
    return estimator, answer(estimator)


@pytest.mark.parametrize("form", FORMS)
def test_values_are_those_of_the_definition(form: str) -> None:
    estimator, answer = fitted(form)
    samples, background = rows(6, seed=3), rows(7, seed=4)
    found = explained(estimator, samples, background)
    for place, sample in enumerate(samples):
        np.testing.assert_allclose(
            found.values[place], by_definition(answer, sample, background), atol=1e-10
        )
    np.testing.assert_allclose(
        found.base, np.reshape(answer(background), (7, -1)).mean(axis=0), atol=1e-10
    )
    assert found.residuals.max() <= found.tolerance
    assert found.features == tuple(FEATURES)


@pytest.mark.parametrize("form", ["forest, two labels", "boosting, two labels"])
def test_of_several_labels_each_is_explained(form: str) -> None:
    estimator, _ = fitted(form, labels=3)
    samples, background = rows(4, seed=5), rows(5, seed=6)
    found = explained(estimator, samples, background)
    answer: Answer = (
        estimator.predict_proba if form.startswith("forest") else estimator.decision_function
    )
    assert found.labels == ("0", "1", "2")
    assert found.endings == ("_0", "_1", "_2")
    for place, sample in enumerate(samples):
        np.testing.assert_allclose(
            found.values[place], by_definition(answer, sample, background), atol=1e-10
        )


MODELS = {form: fitted(form) for form in ("forest", "boosting")}


@pytest.mark.parametrize("form", MODELS)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    seed=st.integers(0, 10_000),
    count=st.integers(1, 40),
    compared=st.integers(1, 20),
    missing=st.floats(0, 1),
)
def test_values_always_add_up(
    form: str, seed: int, count: int, compared: int, missing: float
) -> None:
    estimator, answer = MODELS[form]
    samples, background = rows(count, seed, missing), rows(compared, seed + 1, missing)
    found = explained(estimator, samples, background)
    np.testing.assert_allclose(
        found.values.sum(axis=(1, 2)) + found.base[0], answer(samples), atol=1e-9
    )
    again = explained(estimator, samples[::-1], background, threads=2)
    np.testing.assert_allclose(again.values[::-1], found.values, atol=1e-12)


def test_a_sample_that_is_the_background_was_moved_by_nothing() -> None:
    estimator, _ = MODELS["forest"]
    sample = rows(1, seed=7)
    assert (explained(estimator, sample, sample).values == 0).all()


def test_more_samples_than_a_piece_of_work_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    estimator, _ = MODELS["boosting"]
    samples, background = rows(25, seed=8), rows(5, seed=9)
    whole = explained(estimator, samples, background)
    monkeypatch.setattr(attributions, "_CHUNK", 10)
    monkeypatch.setattr(attributions, "_TREES", 3)
    np.testing.assert_allclose(
        explained(estimator, samples, background, threads=2).values, whole.values, atol=1e-12
    )


def test_values_that_do_not_add_up_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    estimator, _ = MODELS["forest"]
    right = attributions.shapley_values
    monkeypatch.setattr(attributions, "shapley_values", lambda *given: right(*given) + 1e-3)
    with pytest.raises(
        errors.ModelError, match="does not add up to the model's answers: a row is off by 0.003"
    ):
        explained(estimator, rows(3, seed=1), rows(3, seed=2))


def test_an_estimator_without_trees_is_refused() -> None:
    with pytest.raises(errors.ModelError, match="a LinearRegression cannot be explained here"):
        explained(LinearRegression(), rows(3, seed=1, missing=0), rows(3, seed=2, missing=0))
