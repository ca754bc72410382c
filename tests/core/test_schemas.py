"""Schemas: what follows from a declaration, for declarations that a project may make, and for the bikes."""

from typing import Any

import numpy as np
import pandas as pd
import pandera.pandas as pa
import pytest
from pandera.typing.pandas import Index, Series

from model_name.core import errors, schemas
from model_name.io import simulators


def declare(monkeypatch: pytest.MonkeyPatch, dtype: Any, **field: Any) -> None:
    """Declare another target."""

    class TargetsSchema(schemas.Schema):
        key: Index[str]
        answer: Series[dtype] = pa.Field(**field)

    monkeypatch.setattr(schemas, "TargetsSchema", TargetsSchema)


LABELS = {"metadata": {"task": "classification"}}
NUMBERS = {"metadata": {"task": "regression"}}


@pytest.mark.parametrize(
    ("dtype", "field", "task", "count"),
    [
        (int, {"ge": 0}, "regression", True),
        (int, {"gt": 0}, "regression", True),
        (int, {"in_range": {"min_value": 0, "max_value": 9}}, "regression", True),
        (pd.Int64Dtype, {"ge": 0, "nullable": True}, "regression", True),
        (int, {}, "regression", False),
        (int, {"ge": -5}, "regression", False),
        (int, {"le": 5}, "regression", False),
        (int, {"isin": [0, 1, 2]}, "regression", False),
        (float, {"ge": 0}, "regression", False),
        (float, {}, "regression", False),
        (int, {"ge": 0} | NUMBERS, "regression", True),
        (int, {"ge": 0} | LABELS, "classification", False),
        (float, LABELS, "classification", False),
        (int, {"ge": 0, "metadata": {"feature": False}}, "regression", True),
        (bool, {}, "classification", False),
        (pd.BooleanDtype, {}, "classification", False),
        (str, {}, "classification", False),
        (str, {"isin": ["no", "yes"]}, "classification", False),
        (pd.CategoricalDtype, {}, "classification", False),
        (pd.CategoricalDtype, {"isin": [0, 1]}, "classification", False),
    ],
)
def test_the_target_tells_the_task(
    monkeypatch: pytest.MonkeyPatch, dtype: Any, field: dict[str, Any], task: str, count: bool
) -> None:
    declare(monkeypatch, dtype, **field)
    assert (schemas.target_name(), schemas.task(), schemas.is_count()) == ("answer", task, count)


def test_a_task_that_does_not_exist_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    declare(monkeypatch, int, metadata={"task": "clasification"})
    with pytest.raises(
        errors.ConfigError, match="'answer' .*'clasification'.*did you mean 'classification'"
    ):
        schemas.task()


def test_a_text_cannot_be_regressed(monkeypatch: pytest.MonkeyPatch) -> None:
    declare(monkeypatch, str, metadata={"task": "regression"})
    with pytest.raises(errors.ConfigError, match="'answer' .*categorical.* only numbers"):
        schemas.task()


def test_there_is_exactly_one_target(monkeypatch: pytest.MonkeyPatch) -> None:
    class Two(schemas.Schema):
        first: Series[int]
        second: Series[int]

    class Nobody(schemas.Schema):
        key: Index[str]

    for schema, names in ((Two, r"\['first', 'second'\]"), (Nobody, r"\[\]")):
        monkeypatch.setattr(schemas, "TargetsSchema", schema)
        for ask in (schemas.target_name, schemas.task, schemas.is_count):
            with pytest.raises(
                errors.ConfigError,
                match=f"must declare one column, the target; it declares {names}",
            ):
                ask()


@pytest.fixture(scope="module")
def hours() -> pd.DataFrame:
    return pd.concat(simulators.simulate(24 * 14, missing=0.1))


def test_the_answer_is_not_among_the_features(hours: pd.DataFrame) -> None:
    inputs = schemas.InputsSchema.check(hours)
    assert {"casual", "registered", "cnt"} & set(hours) == {"casual", "registered", "cnt"}
    assert not {"casual", "registered", "cnt"} & set(inputs)
    assert "dteday" not in schemas.InputsSchema.features()


def test_types_are_64_bits_wide_whatever_the_file_has(hours: pd.DataFrame) -> None:
    narrow = hours.astype(
        dict.fromkeys(("season", "yr", "mnth", "hr", "weekday"), "uint8") | {"cnt": "uint16"}
    )
    inputs, targets = schemas.InputsSchema.check(narrow), schemas.TargetsSchema.check(narrow)
    assert {str(dtype) for dtype in inputs.dtypes} == {
        "int64",
        "float64",
        "bool",
        "category",
        "datetime64[ns]",
    }
    assert str(targets["cnt"].dtype) == "int64"
    pd.testing.assert_frame_equal(inputs, schemas.InputsSchema.check(hours))


@pytest.mark.parametrize("missing", ["weathersit", "temp", "atemp", "hum", "windspeed"])
def test_instruments_may_fail_and_the_calendar_may_not(hours: pd.DataFrame, missing: str) -> None:
    assert schemas.InputsSchema.check(hours.assign(**{missing: None}))[missing].isna().all()
    for name in set(schemas.InputsSchema.column_names()) - {
        "weathersit",
        "temp",
        "atemp",
        "hum",
        "windspeed",
    }:
        with pytest.raises(errors.DataError, match=f"- {name}: a value is missing"):
            schemas.InputsSchema.check(hours.assign(**{name: None}))


@pytest.mark.parametrize(
    ("column", "value", "fault"),
    [
        ("hr", 24, "24 is above the greatest allowed value, 23"),
        ("mnth", 0, "0 is below the least allowed value, 1"),
        ("season", 5, "5 is not one of 1, 2, 3, 4"),
        ("temp", 1.01, "1.01 is above the greatest allowed value, 1"),
        ("weekday", 7, "7 is above the greatest allowed value, 6"),
        ("instant", -1, "-1 is below the least allowed value, 0"),
        ("dteday", "03/04/2011", "'03/04/2011' is not a date"),
    ],
)
def test_what_no_hour_can_have_is_refused(
    hours: pd.DataFrame, column: str, value: Any, fault: str
) -> None:
    table = hours.astype({column: "object"})
    table.iloc[4, table.columns.get_loc(column)] = value
    with pytest.raises(errors.DataError, match=f"- {column}: {fault}.*: row 5 "):
        schemas.InputsSchema.check(table)


def test_the_real_table_passes(bike_table: Any) -> None:
    table = pd.read_csv(bike_table)
    inputs, targets = schemas.InputsSchema.check(table), schemas.TargetsSchema.check(table)
    assert len(inputs) == len(targets) == len(table)
    assert targets["cnt"].tolist() == (table["casual"] + table["registered"]).tolist()


def test_explanations_have_one_column_a_feature() -> None:
    effects = pd.DataFrame({"hr": ["0.5"], "temp": [-1]}, index=[7])
    assert schemas.SHAPValuesSchema.check(effects).loc[7].tolist() == [0.5, -1.0]
    importances = pd.DataFrame({"importance": [2, 1], "feature": ["hr", "temp"]})
    assert list(schemas.FeatureImportancesSchema.check(importances)) == ["feature", "importance"]
    with pytest.raises(errors.DataError, match="- hr: inf is not a finite number.*: row 1"):
        schemas.SHAPValuesSchema.check(effects.assign(hr=np.inf))
