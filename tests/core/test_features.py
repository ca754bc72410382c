"""Derived columns: what a feature may be, what it sees, and that it is the same wherever a model predicts."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest

from model_name.core import errors, features, models, schemas, workspaces
from model_name.core.features import feature
from model_name.io import datasets
from model_name.utils import signers


@feature(role="numeric")
def felt_difference(inputs: pd.DataFrame) -> pd.Series:
    return inputs["atemp"] - inputs["temp"]


@feature(role="categorical")
def month_of_the_day(inputs: pd.DataFrame) -> pd.Series:
    return inputs["dteday"].dt.month_name()


@feature(role="numeric", looks_back="7D", target=True, delay="1D")
def mean_of_last_week(history: pd.DataFrame) -> float:
    return float(history["cnt"].mean())


@feature(role="numeric", looks_back=24, by="hr")
def warmest(history: pd.DataFrame) -> float:
    return float(history["temp"].max())


OWN = [felt_difference, month_of_the_day, mean_of_last_week, warmest]


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[features.Feature]]:
    """Let the example have features."""
    monkeypatch.setitem(workspaces.declared().__dict__, "features", OWN)
    features._declared.cache_clear()
    features._read_by_functions.cache_clear()
    yield OWN
    features._declared.cache_clear()
    features._read_by_functions.cache_clear()


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return datasets.SimulatedReader(limit=24 * 20).read()


@pytest.fixture(scope="module")
def inputs(table: pd.DataFrame) -> Any:
    return schemas.InputsSchema.check(table)


@pytest.fixture(scope="module")
def targets(table: pd.DataFrame) -> Any:
    return schemas.TargetsSchema.check(table)


# ------------------------------------------------------------------------------------------------------- declarations
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"role": "number"}, "no role 'number'; did you mean 'numeric'"),
        ({"role": "numeric", "looks_back": "a week"}, "looks_back='a week' is no time"),
        ({"role": "numeric", "looks_back": 0}, "at least one row"),
        ({"role": "numeric", "looks_back": "-1D"}, "at least one row"),
        ({"role": "numeric", "by": "hr"}, "say how far the feature looks_back"),
        ({"role": "numeric", "target": True}, "say how far the feature looks_back"),
        ({"role": "numeric", "looks_back": 1, "delay": "-1h"}, "before it happens"),
        ({"role": "numeric", "missing": "skip"}, "write 'allow' or 'error'"),
    ],
)
def test_a_wrong_argument_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(errors.ConfigError, match=message):
        feature(**arguments)


def named(name: str, function: Any, **arguments: Any) -> features.Feature:
    function.__name__ = name
    return feature(**({"role": "numeric"} | arguments))(function)


@pytest.mark.parametrize("name", ["temp", "dteday", "cnt", "instant", "prediction"])
def test_a_name_that_a_table_has_is_refused(name: str) -> None:
    with pytest.raises(
        errors.ConfigError, match=f"the feature '{name}' has the name of another column"
    ):
        features.check_declarations([named(name, lambda inputs: inputs["temp"])])


def test_the_same_name_twice_and_an_unknown_key_are_refused() -> None:
    with pytest.raises(errors.ConfigError, match="another feature"):
        features.check_declarations([felt_difference, felt_difference])
    with pytest.raises(errors.ConfigError, match="by='hour' is no column of InputsSchema"):
        features.check_declarations([named("x", lambda history: 1, looks_back=1, by="hour")])


# ------------------------------------------------------------------------------------------------------------ the row
@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda inputs: inputs["temp"] - inputs["temp"].mean(), "when other rows are around"),
        (lambda inputs: inputs["temp"].shift(1), "when other rows are around"),
        (lambda inputs: inputs["temp"].rank(), "when other rows are around"),
        (lambda inputs: np.arange(len(inputs)), "when other rows are around"),
        (lambda inputs: np.random.default_rng().random(len(inputs)), "when it is called again"),
        (lambda inputs: inputs["temp"].head(3), "another index"),
        (lambda inputs: inputs["temp"].to_numpy()[:3], "returns 3 values for"),
        (lambda inputs: 1.0, "returns one value for"),
        (lambda inputs: inputs["temp"].sort_values(), "another index"),
        (lambda inputs: inputs["hr"].map("{}h".format), "declared as numeric, and returns"),
        (lambda inputs: inputs["temp"] / 0, "is infinite in row"),
        (lambda inputs: inputs["tempp"], "KeyError: 'tempp'; did you mean 'temp'"),
    ],
)
def test_what_is_no_feature_of_the_row_is_found(inputs: Any, function: Any, message: str) -> None:
    with pytest.raises(errors.ModelError, match=message):
        features.check([named("mine", function)], inputs)


def test_a_function_cannot_change_its_inputs(inputs: Any) -> None:
    before = inputs.copy()

    def rude(table: pd.DataFrame) -> pd.Series:
        table["temp"] = 0.0
        table.loc[:, "hum"] = 9.0
        return table["temp"]

    features.derive(inputs, [named("rude", rude)])
    pd.testing.assert_frame_equal(inputs, before)


# ----------------------------------------------------------------------------------------------------------- the past
@pytest.mark.usefixtures("own")
def test_only_the_past_matters(inputs: Any, targets: Any) -> None:
    before = features.look_back(inputs, targets)
    row, day = 300, inputs["dteday"].iloc[300]
    later = (inputs["dteday"] >= day).to_numpy()
    other = features.look_back(
        inputs.assign(temp=inputs["temp"].where(~later, 0.0)),
        targets.assign(cnt=targets["cnt"].where(~later, 0)),
    )
    for name in ("mean_of_last_week", "warmest"):
        assert before[name].iloc[row] == other[name].iloc[row]
    known = (inputs["dteday"] <= day - pd.Timedelta("1D")) & (
        inputs["dteday"] >= day - pd.Timedelta("7D")
    )
    assert before["mean_of_last_week"].iloc[row] == targets["cnt"][known].mean()
    same_hour = (inputs["hr"] == inputs["hr"].iloc[row]) & ~later
    assert before["warmest"].iloc[row] == inputs["temp"][same_hour].max()


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize("size", [10, 24, 77])
def test_the_size_of_batches_changes_nothing(table: pd.DataFrame, inputs: Any, size: int) -> None:
    history, rows = table.iloc[:240], inputs.iloc[240:]
    together = features.look_back(rows, history=history)
    past = features.Past(history)
    parts = [past.add_to(rows.iloc[start : start + size]) for start in range(0, len(rows), size)]
    pd.testing.assert_frame_equal(pd.concat(parts), together)
    whole = features.look_back(
        rows, history=table.assign(cnt=table["cnt"].where(table.index < 240))
    )
    pd.testing.assert_frame_equal(whole, together)  # rows that the history has, too, count once


@pytest.mark.usefixtures("own")
def test_batches_out_of_order_are_refused(inputs: Any) -> None:
    past = features.Past()
    past.add_to(inputs.iloc[240:])
    with pytest.raises(errors.DataError, match="sort the table by 'dteday', or raise batch_size"):
        past.add_to(inputs.iloc[:240])


def test_a_missing_past_is_missing_or_an_error(
    monkeypatch: pytest.MonkeyPatch, inputs: Any, targets: Any
) -> None:
    strict = named(
        "strict", lambda history: history["temp"].max(), looks_back="1D", missing="error"
    )
    monkeypatch.setitem(workspaces.declared().__dict__, "features", [strict])
    features._declared.cache_clear()
    try:
        assert features.look_back(inputs, targets, fitting=True)["strict"].isna().sum() == 24
        with pytest.raises(errors.DataError, match="'strict' is missing in 24 of 480 rows"):
            features.look_back(inputs)
        with pytest.raises(errors.ModelError, match="add it with features.look_back"):
            features.derive(inputs)
    finally:
        features._declared.cache_clear()


@pytest.mark.usefixtures("own")
def test_a_split_that_shows_targets_of_the_test_is_refused() -> None:
    features.require_order(np.array([0, 1]), np.array([2]))
    with pytest.raises(errors.ConfigError, match="some training rows come after test rows"):
        features.require_order(np.array([0, 2]), np.array([1]))


# ---------------------------------------------------------------------------------------------------------- the model
@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    "kind",
    [
        models.GradientBoostingModel(max_iter=10),
        models.BaselineSklearnModel(n_estimators=5, n_jobs=1),
    ],
)
def test_features_are_part_of_a_model(inputs: Any, targets: Any, kind: models.Model) -> None:
    seen = features.look_back(inputs, targets, fitting=True)
    model = kind.model_copy(deep=True).fit(seen, targets)
    found = model.explain(seen.tail(3)).features
    assert sorted(found) == sorted([*schemas.InputsSchema.features(), *(each.name for each in OWN)])
    assert set(model.explain_model()["feature"]) == set(found)
    together, quick = model.predict(seen), model.predictor()
    one_by_one = [
        quick(seen.iloc[row : row + 1])["prediction"].iloc[0] for row in range(0, 480, 60)
    ]
    assert one_by_one == together["prediction"].iloc[::60].tolist()


@pytest.mark.usefixtures("own")
def test_a_signature_asks_for_what_functions_read_and_offers_the_past(
    inputs: Any, targets: Any
) -> None:
    assert features.needed_columns()[0] == "dteday", (
        "month_of_the_day reads it, although it is no feature"
    )
    seen = features.look_back(inputs, targets)
    signature = signers.InferSigner().sign(
        features.sent_columns(seen), targets.rename(columns={"cnt": "prediction"})
    )
    optional = {column.name for column in signature.inputs if not column.required}
    assert {"mean_of_last_week", "warmest"} <= optional
    assert "dteday" not in optional


@pytest.mark.usefixtures("own")
def test_a_record_without_its_past_is_told_why() -> None:
    reason = features.explain_missing("the field 'warmest' is missing")
    assert reason.endswith(
        "warmest looks back, and a stream has no history; send its value in the record"
    )
