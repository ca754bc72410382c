"""Who gets the credit: each encoded column belongs to the feature of the schema that it was made of."""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any, Optional

import numpy as np
import pandas as pd
import pandera.pandas as pa
import pytest
from pandera.typing.pandas import Index, Series
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    OneHotEncoder,
    OrdinalEncoder,
    TargetEncoder,
)

from model_name.core import attributions, errors, models, schemas

ROWS = 160


# ------------------------------------------------------------------------------------------------- tables of any mix
def day(random: np.random.Generator, rows: int) -> Any:
    return pd.Timestamp("2019-06-01") + pd.to_timedelta(
        random.integers(0, 24 * 2_000, rows), unit="h"
    )


def gaps(values: Any, random: np.random.Generator) -> Any:
    return pd.Series(values).astype("object").where(random.random(len(values)) > 0.15, None)


def common_and_rare(random: np.random.Generator, rows: int) -> Any:
    """Draw three common labels, and many that come once or twice."""
    rare = random.integers(0, 60, rows).astype("str")
    return np.where(random.random(rows) < 0.7, random.choice(["a", "b", "c"], rows), rare)


COLUMNS: dict[
    str, tuple[Any, dict[str, Any], Any]
] = {  # by the first letter of a column: type, declaration, values
    "d": (pa.DateTime, {}, day),
    "e": (pa.DateTime, {"nullable": True}, lambda random, rows: gaps(day(random, rows), random)),
    "c": (pd.CategoricalDtype, {}, common_and_rare),
    "b": (bool, {}, lambda random, rows: random.random(rows) < 0.4),
    "m": (
        pd.BooleanDtype,
        {"nullable": True},
        lambda random, rows: gaps(random.random(rows) < 0.4, random),
    ),
    "z": (
        pa.DateTime,
        {"metadata": {"zone": "Asia/Kolkata"}},
        lambda random, rows: day(random, rows).tz_localize("UTC"),
    ),
    "r": (str, {}, common_and_rare),
    "t": (
        str,
        {"nullable": True},
        lambda random, rows: gaps(random.choice(["x", "y", "z", "1.0"], rows), random),
    ),
    "n": (float, {"nullable": True}, lambda random, rows: gaps(random.normal(size=rows), random)),
    "o": (pa.DateTime, {}, day),
    "i": (int, {}, lambda random, rows: random.integers(0, 50, rows)),
}


def declare(
    monkeypatch: pytest.MonkeyPatch, names: Sequence[str], labels: int, seed: int = 1
) -> tuple[Any, Any]:
    """Make such columns the features, and a number or one of some labels the target; return checked tables."""
    random = np.random.default_rng(seed)
    raw = pd.DataFrame({name: COLUMNS[name[0]][2](random, ROWS) for name in names}).rename_axis(
        "row"
    )
    fields = {name: pa.Field(**COLUMNS[name[0]][1]) for name in names}
    fields |= {name: pa.Field(isin=sorted(raw[name].unique())) for name in names if name[0] == "c"}
    types = {"row": Index[int]} | {name: Series[COLUMNS[name[0]][0]] for name in names}
    row = pa.Field(unique=True, check_name=True)
    inputs = type(
        "InputsSchema", (schemas.Schema,), {"__annotations__": types, "row": row} | fields
    )
    kind, meta = (int, {"metadata": {"task": "classification"}}) if labels else (float, {})
    target = {
        "__annotations__": {"row": Index[int], "y": Series[kind]},
        "row": row,
        "y": pa.Field(**meta),
    }

    class AnswersSchema(schemas.Schema):
        row: Index[int] = pa.Field(unique=True, check_name=True)
        prediction: Series[kind]
        probability: Optional[Series[float]] = pa.Field(alias="probability_.+", regex=True)  # noqa: UP045

    monkeypatch.setattr(schemas, "InputsSchema", inputs)
    monkeypatch.setattr(schemas, "TargetsSchema", type("TargetsSchema", (schemas.Schema,), target))
    monkeypatch.setattr(schemas, "OutputsSchema", AnswersSchema)
    return schemas.InputsSchema.check(raw[list(names)]), random


def as_numbers(column: pd.Series) -> pd.Series:
    """Return something that follows from a column, between 0 and 1, whatever its type."""
    if isinstance(column.dtype, pd.CategoricalDtype) or pd.api.types.is_string_dtype(column):
        return column.astype("str").isin(["a", "x", "1.0"]).astype("float64")
    if pd.api.types.is_datetime64_any_dtype(column):
        return ((column.dt.year - 2019) / 6).astype("float64").fillna(0.3)
    numbers = column.astype("float64").fillna(0.7)
    return (numbers - numbers.min()) / max(float(numbers.max() - numbers.min()), 1.0)


def outcome(inputs: Any, used: Sequence[str], labels: int, random: np.random.Generator) -> Any:
    level = sum((place + 1) * as_numbers(inputs[name]) for place, name in enumerate(used))
    level = level + random.normal(scale=0.05, size=len(inputs))
    if labels:
        level = pd.qcut(level, labels, labels=False)
    return schemas.TargetsSchema.check(pd.DataFrame({"y": level}, index=inputs.index))


# ------------------------------------------------------------------------------------------------- the definition
def by_definition(
    model: Any, samples: pd.DataFrame, background: pd.DataFrame
) -> np.ndarray[Any, Any]:
    """Return Shapley values, samples x features x outputs: features are exchanged in the inputs, before encoding."""
    features, rows = list(samples), len(background)
    groups = np.array(list(itertools.product([False, True], repeat=len(features))))
    found = []
    for sample in range(len(samples)):
        both = pd.concat([background, samples.iloc[[sample]]])
        sources = np.where(groups[:, None, :], rows, np.arange(rows)[None, :, None]).reshape(
            -1, len(features)
        )
        mixed = pd.DataFrame(
            {name: both[name].array.take(sources[:, at]) for at, name in enumerate(features)}
        )
        worth = on_scale(model, mixed).reshape(len(groups), rows, -1).mean(axis=1)
        found.append([share(worth, groups, at) for at in range(len(features))])
    return np.array(found)


def share(
    worth: np.ndarray[Any, Any], groups: np.ndarray[Any, Any], player: int
) -> np.ndarray[Any, Any]:
    """Return the Shapley value of a player, one an output, from what each group (a row of truths) is worth."""
    count, value = groups.shape[1], np.zeros(worth.shape[1])
    step = 2 ** (count - 1 - player)  # groups are counted like binary numbers
    for place in np.flatnonzero(~groups[:, player]):
        size = int(groups[place].sum())
        weight = math.factorial(size) * math.factorial(count - size - 1) / math.factorial(count)
        value += weight * (worth[place + step] - worth[place])
    return value


def on_scale(model: Any, inputs: pd.DataFrame) -> np.ndarray[Any, Any]:
    """Return what the model itself answers, on the scale that its trees add up on."""
    pipeline = model.get_internal_model()
    encoded, estimator = pipeline["encode"].transform(inputs), pipeline["estimate"]
    if hasattr(estimator, "decision_function"):
        scores = np.asarray(estimator.decision_function(encoded))
    elif hasattr(estimator, "predict_proba"):
        scores = estimator.predict_proba(encoded)
        scores = scores[:, 1:] if scores.shape[1] == 2 else scores
    else:
        scores = estimator.predict(encoded)
    return np.reshape(scores, (len(inputs), -1))


FOREST = models.BaselineSklearnModel(n_estimators=6, max_depth=6, n_jobs=1)
BOOSTING = models.GradientBoostingModel(
    max_iter=12, learning_rate=0.3, min_samples_leaf=5, n_jobs=1
)
each_model = pytest.mark.parametrize("model", [FOREST, BOOSTING], ids=["forest", "boosting"])
each_task = pytest.mark.parametrize(
    "labels", [0, 2, 3], ids=["regression", "two labels", "three labels"]
)
MIXES = [
    ["n1", "i1"],
    ["d1", "n1", "c1"],
    ["d1", "d2"],
    ["opened", "due"],
    ["n1", "e1", "t1", "d1", "b1"],
    ["d1", "c1", "e1", "b1", "d2", "n1"],
    ["t1", "c1", "e2", "e1", "d1"],
    ["b1", "b2", "c1", "c2", "t1"],
    ["z1", "r1", "d1", "m1", "z2", "m2"],
]


@each_model
@each_task
@pytest.mark.parametrize("names", MIXES, ids="-".join)
def test_values_are_those_of_the_definition_over_whole_features(
    monkeypatch: pytest.MonkeyPatch, model: models.SklearnModel, labels: int, names: list[str]
) -> None:
    inputs, random = declare(monkeypatch, names, labels)
    fitted = model.model_copy(deep=True).fit(inputs, outcome(inputs, names, labels, random))
    background = inputs.iloc[[5, 50, 99, 140]]
    pipeline = fitted.get_internal_model()
    pipeline.background_ = pipeline["encode"].transform(background)
    samples = inputs.iloc[[0, 77, 120]]
    found = fitted.explain(samples)
    assert found.features == tuple(names)
    np.testing.assert_allclose(
        found.values, by_definition(fitted, samples, background), rtol=0, atol=1e-10
    )


@each_model
@each_task
@pytest.mark.parametrize(
    ("names", "used"),
    [
        (["opened", "due"], ["due"]),
        (["d1", "d2", "d3", "n1"], ["d2"]),
        (["c1", "d1", "e1", "b1", "t1", "n1"], ["e1"]),
        (["c1", "d1", "c2", "b1", "d2"], ["c2"]),
        (["e1", "d1", "n1", "t1", "i1"], ["t1", "d1"]),
    ],
    ids=lambda names: "-".join(names),
)
def test_a_feature_that_is_never_used_gets_exactly_nothing(
    monkeypatch: pytest.MonkeyPatch,
    model: models.SklearnModel,
    labels: int,
    names: list[str],
    used: list[str],
) -> None:
    """While fitting, the other features never change; afterwards they do, in samples and background."""
    inputs, random = declare(monkeypatch, names, labels)
    targets = outcome(inputs, used, labels, random)
    still = inputs.copy()
    for name in set(names) - set(used):
        still[name] = inputs[name].iloc[[0] * len(inputs)].array
    fitted = model.model_copy(deep=True).fit(still, targets)
    pipeline = fitted.get_internal_model()
    pipeline.background_ = pipeline["encode"].transform(inputs.tail(40))
    found = fitted.explain(inputs.head(40))
    sizes = dict(zip(found.features, np.abs(found.values).max(axis=(0, 2)), strict=True))
    assert {name for name in names if sizes[name] > 0} == set(used)
    ranked = fitted.explain_model().set_index("feature")["importance"]
    assert set(ranked.index[ranked > 0]) == set(used)
    values = fitted.explain_samples(inputs.head(40))
    credited = {
        name for name in names if (values.filter(regex=f"^{name}(_|$)") != 0).any(axis=None)
    }
    assert credited == set(used)


@each_model
def test_the_year_of_the_due_date_is_credited_to_the_due_date(
    monkeypatch: pytest.MonkeyPatch, model: models.SklearnModel
) -> None:
    inputs, random = declare(monkeypatch, ["opened", "due"], 0)
    targets = schemas.TargetsSchema.check(
        (100 * (inputs["due"].dt.year - 2020) + random.normal(size=ROWS)).to_frame("y")
    )
    found = model.model_copy(deep=True).fit(inputs, targets).explain(inputs)
    opened, due = found.importances
    assert due > 50 * opened


# ------------------------------------------------------------------------------------------- the owners, by encoder
def encoded_once_more(encode: Any, inputs: pd.DataFrame) -> list[set[str]]:
    """Return for each encoded column the features that move it, found by changing one feature at a time."""
    before = encode.transform(inputs)
    moved: list[set[str]] = [set() for _ in range(before.shape[1])]
    for name in inputs:
        changed = inputs.copy()
        changed[name] = inputs[name].iloc[::-1].array
        after = encode.transform(changed)
        for column in range(before.shape[1]):
            if not np.array_equal(before[:, column], after[:, column], equal_nan=True):
                moved[column].add(str(name))
    return moved


ENCODERS = {
    "ordinal": None,
    "one-hot": OneHotEncoder(sparse_output=False, handle_unknown="ignore"),
    "one-hot, rare labels together": OneHotEncoder(
        sparse_output=False, handle_unknown="infrequent_if_exist", min_frequency=4
    ),
    "one-hot, at most four": OneHotEncoder(
        sparse_output=False, handle_unknown="infrequent_if_exist", max_categories=4
    ),
    "one-hot without the first": OneHotEncoder(sparse_output=False, drop="first", min_frequency=3),
    "one-hot, one of two": OneHotEncoder(sparse_output=False, drop="if_binary"),
    "ordinal, then bins": make_pipeline(
        OrdinalEncoder(encoded_missing_value=-1), KBinsDiscretizer(3, encode="onehot-dense")
    ),
}


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("names", MIXES, ids="-".join)
def test_owners_are_the_features_that_move_a_column(
    monkeypatch: pytest.MonkeyPatch, name: str, names: list[str]
) -> None:
    inputs, _ = declare(monkeypatch, names, 0)
    encode = models.encoder(ENCODERS[name]).fit(inputs)
    owners = models.column_owners(encode)
    moved = encoded_once_more(encode, inputs)
    assert len(owners) == len(moved)
    assert all(movers <= {owner} for owner, movers in zip(owners, moved, strict=True))
    assert sum(map(len, moved)) > len(moved) / 2, "most columns were moved"
    assert list(dict.fromkeys(sorted(owners))) == sorted(names)


@pytest.mark.parametrize("kind", [RandomForestRegressor, HistGradientBoostingRegressor])
def test_one_hot_columns_that_are_native_categories_are_in_another_order(
    monkeypatch: pytest.MonkeyPatch, kind: Any
) -> None:
    """Boosting moves native categories to the front, wherever they were."""
    names = ["n1", "b1", "c1", "d1", "e1"]
    inputs, random = declare(monkeypatch, names, 0)
    encode = ColumnTransformer(
        [
            ("dates", FunctionTransformer(models._encode_dates), ["d1", "e1"]),
            ("rest", "passthrough", ["n1"]),
            ("truths", FunctionTransformer(models._encode_numbers), ["b1"]),
            ("labels", OrdinalEncoder(max_categories=6), ["c1"]),
        ]
    )
    encoded = np.asarray(encode.fit_transform(inputs), dtype="float64")
    assert models.column_owners(encode) == [*["d1"] * 5, *["e1"] * 5, "d1", "e1", "n1", "b1", "c1"]
    native = (
        {}
        if kind is RandomForestRegressor
        else {"categorical_features": [14, 13], "min_samples_leaf": 5}
    )
    size = {"n_estimators": 5} if kind is RandomForestRegressor else {"max_iter": 8}
    estimator = kind(random_state=1, **native, **size)
    estimator.fit(encoded, outcome(inputs, names, 0, random)["y"])
    model = models.of_pipeline(Pipeline([("encode", encode), ("estimate", estimator)]))
    background, samples = inputs.iloc[[3, 60, 110]], inputs.iloc[[0, 31, 90]]
    model.get_internal_model().background_ = np.asarray(
        encode.transform(background), dtype="float64"
    )
    found = model.explain(samples)
    assert found.features == tuple(names)
    np.testing.assert_allclose(
        found.values, by_definition(model, samples, background), rtol=0, atol=1e-10
    )


def test_names_that_look_like_parts_of_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["due", "due_year", "due_days", "n", "n_1", "c", "c_a", "c_a_b"]
    inputs, _ = declare(monkeypatch, names, 0)
    encode = models.encoder(OneHotEncoder(sparse_output=False, handle_unknown="ignore")).fit(inputs)
    moved = encoded_once_more(encode, inputs)
    owners = models.column_owners(encode)
    assert all(movers <= {owner} for owner, movers in zip(owners, moved, strict=True))
    assert [owners.count(name) for name in ("due", "due_year", "due_days", "n", "n_1")] == [
        6,
        6,
        6,
        1,
        1,
    ]


def test_a_feature_that_became_no_column_has_a_value_of_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inputs, random = declare(monkeypatch, ["n1", "t1", "c1"], 0)
    inputs["c1"], inputs["t1"] = inputs["c1"].iloc[[0] * ROWS].array, "x"
    encode = models.encoder(OneHotEncoder(sparse_output=False, drop="first"))
    encoded = encode.fit_transform(inputs)
    forest = RandomForestRegressor(5, random_state=1).fit(
        encoded, outcome(inputs, ["n1"], 0, random)["y"]
    )
    model = models.of_pipeline(Pipeline([("encode", encode), ("estimate", forest)]))
    model.get_internal_model().background_ = encoded[:20]
    found = model.explain(inputs.head(10))
    assert found.features == ("n1", "t1", "c1")
    assert found.importances[0] > 0
    assert (found.values[:, 1:] == 0).all()


def test_an_encoder_that_does_not_tell_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, _ = declare(monkeypatch, ["n1", "n2"], 0)
    silent = ColumnTransformer(
        [("sums", FunctionTransformer(lambda table: table.fillna(0) * 2), ["n1", "n2"])]
    )
    with pytest.raises(
        errors.ModelError,
        match="a FunctionTransformer does not tell which feature its columns come",
    ):
        models.column_owners(silent.fit(inputs))
    wrong = FunctionTransformer(
        lambda table: np.column_stack([table, table]),
        feature_names_out=lambda _, names: list(names),
    )
    with pytest.raises(
        errors.ModelError, match="made 4 columns of n1, n2 .doubled. and tells the feature of 2"
    ):
        models.column_owners(ColumnTransformer([("doubled", wrong, ["n1", "n2"])]).fit(inputs))


def test_a_target_encoder_tells_too(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, random = declare(monkeypatch, ["t1", "c1"], 3)
    encode = ColumnTransformer([("labels", TargetEncoder(), ["t1", "c1"])])
    encode.fit(inputs.astype("str"), outcome(inputs, ["c1"], 3, random)["y"])
    assert models.column_owners(encode) == ["t1"] * 3 + ["c1"] * 3


def test_columns_of_features_and_labels_that_would_have_one_name() -> None:
    values = np.arange(2 * 2 * 3, dtype="float64").reshape(1, 2, 2 * 3)[:, :, :3]
    found = attributions.Attributions(
        ("size", "size_1"), ("1_2", "2", "3"), "", "", values, np.zeros(3), values.sum(axis=1)
    )
    table = models.to_table(found, pd.RangeIndex(1))
    assert list(table) == [
        f"'{name}'_{label}" for label in ("1_2", "2", "3") for name in ("size", "size_1")
    ]
    assert table["'size_1'_2"].item() == values[0, 1, 1]
    assert list(
        models.to_table(dataclasses.replace(found, labels=("a", "b", "c")), pd.RangeIndex(1))
    )[:2] == [
        "size_a",
        "size_1_a",
    ]
