"""Columns: conversions that change no value in silence, and one kind of error for whatever a table may hold."""

import datetime
import decimal
import uuid
import warnings
from collections.abc import Iterator
from typing import Any, Optional

import numpy as np
import pandas as pd
import pandera.pandas as pa
import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loguru import logger
from pandera.typing.pandas import Index, Series

from model_name.core import columns, errors, rules

PATIENT = settings(deadline=None, max_examples=50)


class Stock(columns.Schema):
    """One column of every kind."""

    code: Index[str] = pa.Field(unique=True, check_name=True)
    pieces: Series[int]
    reserved: Series[pd.Int64Dtype] = pa.Field(nullable=True)
    price: Series[float] = pa.Field(nullable=True)
    fragile: Series[bool]
    returned: Series[pd.BooleanDtype] = pa.Field(nullable=True)
    since: Series[pa.DateTime] = pa.Field(nullable=True)
    note: Series[str] = pa.Field(nullable=True)
    shelf: Series[pd.CategoricalDtype] = pa.Field(nullable=True)
    size: Series[pd.CategoricalDtype] = pa.Field(isin=["S", "M", "L"], nullable=True)
    grade: Series[pd.CategoricalDtype] = pa.Field(isin=[1, 2, 3], nullable=True)


TYPES = {
    "pieces": "int64",
    "reserved": "Int64",
    "price": "float64",
    "fragile": "bool",
    "returned": "boolean",
    "since": "datetime64[ns]",
    "note": "str",
    "shelf": "category",
    "size": "category",
    "grade": "category",
}
GOOD: dict[str, list[Any]] = {
    "code": ["a", "b"],
    "pieces": [1, 2],
    "reserved": [1, None],
    "price": [1.5, None],
    "fragile": [True, False],
    "returned": [True, None],
    "since": ["2024-02-29", None],
    "note": ["x", None],
    "shelf": ["top", None],
    "size": ["S", None],
    "grade": [1, None],
}
NOUNS = {
    "pieces": "a whole number",
    "reserved": "a whole number",
    "price": "a finite number",
    "fragile": "true or false",
    "returned": "true or false",
    "since": "a date",
    "note": "a text",
    "shelf": "a category",
    "size": "one of 'S', 'M', 'L'",
    "grade": "one of 1, 2, 3",
}


@pytest.fixture(autouse=True)
def _no_warnings() -> Iterator[None]:
    """A conversion says what it has to say by an error, not by a warning of pandas."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def stock(**changed: Any) -> pd.DataFrame:
    """Return a good table with some columns changed."""
    return pd.DataFrame(GOOD | changed)


def convert(column: str, values: Any) -> list[Any]:
    """Check a table whose column has other values; return what became of them, `None` where missing."""
    checked = Stock.check(stock(**{column: values}))[column]
    assert str(checked.dtype) == TYPES[column]
    return [None if pd.isna(value) else value for value in checked.tolist()]


def refusal(schema: type[columns.Schema], data: pd.DataFrame) -> str:
    """Return the message with which a schema refuses a table."""
    with pytest.raises(errors.DataError) as caught:
        schema.check(data)
    return str(caught.value)


def test_a_good_table_has_the_declared_types_order_and_index() -> None:
    shuffled = stock()[list(GOOD)[::-1]]
    checked = Stock.check(shuffled)
    assert {name: str(dtype) for name, dtype in checked.dtypes.items()} == TYPES
    assert list(checked) == list(TYPES) == Stock.column_names()
    assert checked.index.name == Stock.index_name() == "code"
    assert checked.index.tolist() == ["a", "b"]
    assert Stock.roles() == {
        "pieces": "numeric",
        "reserved": "numeric",
        "price": "numeric",
        "fragile": "boolean",
        "returned": "boolean",
        "since": "date",
        "note": "categorical",
        "shelf": "categorical",
        "size": "categorical",
        "grade": "categorical",
    }


def test_the_table_that_was_given_stays_as_it_is() -> None:
    table = stock(pieces=["1", "2"])
    before = table.copy(deep=True)
    Stock.check(table)
    pd.testing.assert_frame_equal(table, before)


DAY = pd.Timestamp("2024-02-29")

CONVERTED = [
    ("pieces", ["1", " 2 "], [1, 2]),
    ("pieces", [1.0, 2.0], [1, 2]),
    ("pieces", ["3.0", "-4"], [3, -4]),
    ("pieces", np.array([250, 251], dtype="uint8"), [250, 251]),
    ("pieces", np.array([-1, 2], dtype="float16"), [-1, 2]),
    ("pieces", pd.Categorical([7, 8]), [7, 8]),
    ("pieces", pd.arrays.SparseArray([7, 8]), [7, 8]),
    ("pieces", [decimal.Decimal(2), decimal.Decimal("3.0")], [2, 3]),
    ("pieces", ["9223372036854775807", "-9223372036854775808"], [2**63 - 1, -(2**63)]),
    ("reserved", ["9007199254740993", None], [2**53 + 1, None]),
    ("reserved", pd.array([2**53 + 1, None], dtype="Int64"), [2**53 + 1, None]),
    ("reserved", pd.array([2**53 + 1, None], dtype="int64[pyarrow]"), [2**53 + 1, None]),
    ("reserved", [pd.NaT, None], [None, None]),
    ("price", ["1e3", "-.5"], [1000.0, -0.5]),
    ("price", [1, None], [1.0, None]),
    ("price", [pd.NaT, pd.NaT], [None, None]),
    ("price", [decimal.Decimal("0.1"), None], [0.1, None]),
    (
        "price",
        pd.array([decimal.Decimal("1.5"), None], dtype=pd.ArrowDtype(pyarrow.decimal128(5, 2))),
        [1.5, None],
    ),
    ("fragile", ["yes", "No"], [True, False]),
    ("fragile", ["True", "False"], [True, False]),
    ("fragile", [" t ", "F"], [True, False]),
    ("fragile", [1, 0], [True, False]),
    ("fragile", [1.0, 0.0], [True, False]),
    ("fragile", ["1.0", "0"], [True, False]),
    ("fragile", pd.Categorical([True, False]), [True, False]),
    ("returned", [1.0, None], [True, None]),
    ("returned", [None, None], [None, None]),
    ("returned", pd.array([False, None], dtype="bool[pyarrow]"), [False, None]),
    ("since", ["2024-02-29T10:30", "20240229"], [DAY + pd.Timedelta(hours=10.5), DAY]),
    ("since", [datetime.date(2024, 2, 29), None], [DAY, None]),
    ("since", np.array(["2024-02-29", "NaT"], dtype="datetime64[s]"), [DAY, None]),
    ("since", ["2024-02-29T01:00+01:00", "2024-02-29T00:00Z"], [DAY + pd.Timedelta(hours=1), DAY]),
    ("since", pd.DatetimeIndex([DAY, DAY]).tz_localize("Europe/Paris"), [DAY, DAY]),
    ("since", ["2024-02-29T00:00+00:00", "2024-02-29"], [DAY, DAY]),
    ("note", ["007", "1.0"], ["007", "1.0"]),
    ("note", ["", " "], ["", " "]),
    ("note", [7, 8], ["7", "8"]),
    ("note", [7.0, None], ["7", None]),
    ("note", [7.5, None], ["7.5", None]),
    ("note", [True, None], ["True", None]),
    ("note", [uuid.UUID(int=1), None], ["00000000-0000-0000-0000-000000000001", None]),
    ("shelf", ["007", "NA"], ["007", "NA"]),
    ("shelf", [3.0, None], ["3", None]),
    ("size", pd.Categorical(["M", None]), ["M", None]),
    ("grade", ["2", "3.0"], [2, 3]),
    ("grade", [2.0, None], [2, None]),
]


@pytest.mark.parametrize(("column", "values", "expected"), CONVERTED)
def test_what_keeps_its_value_is_converted(column: str, values: Any, expected: list[Any]) -> None:
    converted = convert(column, values)
    assert converted == expected
    assert [type(value) for value in converted] == [type(value) for value in expected]


PARIS = pd.DatetimeIndex([DAY, DAY]).tz_localize("Europe/Paris")
REFUSED = [
    ("pieces", [1, 3.5], "3.5", 2),
    ("pieces", [np.inf, 1], "inf", 1),
    ("pieces", [True, False], "True", 1),
    ("pieces", pd.array([True, None], dtype="boolean"), "True", 1),
    ("pieces", [3, True], "True", 2),
    ("price", [0.5, True], "True", 2),
    ("grade", [1, True], "True", 2),
    ("pieces", ["one", "2"], "'one'", 1),
    ("pieces", ["1_000", "2"], "'1_000'", 1),
    ("pieces", ["1,5", "2"], "'1,5'", 1),
    ("pieces", ["0x10", "2"], "'0x10'", 1),
    ("pieces", ["nan", "2"], "'nan'", 1),
    ("pieces", ["", "2"], "''", 1),
    ("pieces", [10**30, 1], "1000000000000000000000000000000", 1),
    ("pieces", ["9223372036854775808", "1"], "'9223372036854775808'", 1),
    ("pieces", np.array([2**64 - 1, 1], dtype="uint64"), "18446744073709551615", 1),
    ("pieces", [10**400, 1], "1000", 1),
    ("pieces", pd.DatetimeIndex([DAY, DAY]), "Timestamp('2024-02-29 00:00:00')", 1),
    ("pieces", [1, datetime.date(2024, 2, 29)], "datetime.date(2024, 2, 29)", 2),
    ("pieces", pd.to_timedelta([1, 2], unit="D"), "Timedelta('1 days 00:00:00')", 1),
    ("pieces", [1 + 0j, 2], "(1+0j)", 1),
    ("pieces", [[1], [2]], "[1]", 1),
    ("reserved", [1.5, None], "1.5", 1),
    ("price", ["inf", "1"], "'inf'", 1),
    ("price", ["1e400", "1"], "'1e400'", 1),
    ("price", [1.0, -np.inf], "-inf", 2),
    ("price", PARIS, "Timestamp('2024-02-29 00:00:00+0100'", 1),
    ("price", pd.period_range("2024-01", periods=2, freq="M"), "Period('2024-01', 'M')", 1),
    ("price", [b"1", b"2"], "b'1'", 1),
    ("fragile", ["maybe", "no"], "'maybe'", 1),
    ("fragile", [2, 1], "2", 1),
    ("fragile", [0.5, 1], "0.5", 1),
    ("fragile", ["", "no"], "''", 1),
    ("fragile", [{"a": 1}, True], "{'a': 1}", 1),
    ("since", ["01/02/2024", "2024-02-29"], "'01/02/2024'", 1),
    ("since", ["29.02.2024", None], "'29.02.2024'", 1),
    ("since", ["2023-02-29", None], "'2023-02-29'", 1),
    (
        "since",
        np.array(["10000-01-01", "2024-02-29"], dtype="datetime64[s]"),
        "Timestamp('10000-01-01 00:00:00')",
        1,
    ),
    ("since", ["10000-01-01", "2024-02-29"], "'10000-01-01'", 1),
    ("since", ["0000-01-01", "2024-02-29"], "'0000-01-01'", 1),
    ("since", pd.to_timedelta([1, 2], unit="D"), "Timedelta('1 days 00:00:00')", 1),
    ("since", ["today", None], "'today'", 1),
    ("since", ["now", None], "'now'", 1),
    ("since", [1_700_000_000, 1], "1700000000", 1),
    ("since", [20240229.0, None], "20240229.0", 1),
    ("since", pd.Series([2024, None], dtype="object"), "2024", 1),
    ("since", [True, False], "True", 1),
    ("note", [["a"], "b"], "['a']", 1),
    ("note", [b"\xff", "b"], "b'\\xff'", 1),
    ("shelf", [object, None], "<class 'object'>", 1),
    ("size", ["XL", "S"], "'XL'", 1),
    ("size", ["s", "S"], "'s'", 1),
    ("grade", [4, 1], "4", 1),
    ("grade", ["A", None], "'A'", 1),
]


@pytest.mark.parametrize(("column", "values", "shown", "row"), REFUSED)
def test_what_would_lose_its_value_is_refused(
    column: str, values: Any, shown: str, row: int
) -> None:
    [line] = [
        line
        for line in refusal(Stock, stock(**{column: values})).splitlines()[1:]
        if "missing" not in line
    ]
    assert line.startswith(f"- {column}: {shown}")
    assert f" is not {NOUNS[column]}" in line
    assert f": row {row} (code {'ab'[row - 1]})" in line


@pytest.mark.parametrize("column", ["pieces", "fragile"])
def test_a_missing_value_is_refused_where_it_is_not_declared(column: str) -> None:
    message = refusal(Stock, stock(**{column: [None, 1]}))
    assert message == (
        f"Stock refuses the table:\n- {column}: a value is missing, and the schema requires a value: row 1 (code a)"
    )


@pytest.mark.parametrize("column", [name for name in TYPES if name not in ("pieces", "fragile")])
def test_a_column_without_any_value_keeps_its_declared_type(column: str) -> None:
    assert convert(column, [None, None]) == [None, None]


def test_integers_and_truths_may_be_declared_to_be_missing() -> None:
    class Gaps(columns.Schema):
        count: Series[int] = pa.Field(nullable=True)
        open: Series[bool] = pa.Field(nullable=True)

    checked = Gaps.check(pd.DataFrame({"count": [1, None], "open": ["no", None]}))
    assert [str(dtype) for dtype in checked.dtypes] == ["Int64", "boolean"]
    assert checked.isna().sum().tolist() == [1, 1]
    assert (checked["count"].iloc[0], checked["open"].iloc[0]) == (1, False)


def test_truths_may_be_categories() -> None:
    class Answers(columns.Schema):
        answer: Series[pd.CategoricalDtype] = pa.Field(isin=[True, False], nullable=True)

    checked = Answers.check(pd.DataFrame({"answer": ["yes", None, "False", 1]}))["answer"]
    assert checked.cat.categories.tolist() == [True, False]
    assert [None if pd.isna(value) else value for value in checked] == [True, None, False, True]


# ------------------------------------------------------------------------------------------------------- properties


class Whole(columns.Schema):
    value: Series[pd.Int64Dtype] = pa.Field(nullable=True)


class Finite(columns.Schema):
    value: Series[float] = pa.Field(nullable=True)


class Moments(columns.Schema):
    value: Series[pa.DateTime]


class Texts(columns.Schema):
    value: Series[str]


def check(schema: type[columns.Schema], values: list[Any]) -> list[Any]:
    """Check a table of one column that holds Python objects; return what became of them, `None` where missing."""
    checked = schema.check(pd.DataFrame({"value": pd.Series(values, dtype="object")}))["value"]
    return [None if pd.isna(value) else value for value in checked.tolist()]


@PATIENT
@given(
    numbers=st.lists(st.integers(-(2**63), 2**63 - 1) | st.none(), min_size=1),
    as_text=st.booleans(),
)
def test_every_whole_number_of_64_bits_survives(numbers: list[int | None], as_text: bool) -> None:
    assert (
        check(
            Whole, [number if number is None or not as_text else str(number) for number in numbers]
        )
        == numbers
    )


@PATIENT
@given(numbers=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_every_finite_number_survives_as_a_text(numbers: list[float]) -> None:
    np.testing.assert_allclose(check(Finite, list(map(repr, numbers))), numbers, rtol=1e-15, atol=0)
    assert check(Finite, [*numbers, None]) == [*numbers, None]


@PATIENT
@given(
    moments=st.lists(
        st.datetimes(datetime.datetime(1678, 1, 1), datetime.datetime(2261, 12, 31)), min_size=1
    )
)
def test_every_date_survives_as_a_text(moments: list[datetime.datetime]) -> None:
    assert check(Moments, [moment.isoformat() for moment in moments]) == moments
    assert check(Moments, moments) == moments


@PATIENT
@given(texts=st.lists(st.text(), min_size=1))
def test_every_text_survives(texts: list[str]) -> None:
    assert check(Texts, texts) == texts


@PATIENT
@given(number=st.floats(allow_nan=False) | st.integers().map(float))
def test_an_integer_column_takes_whole_numbers_and_nothing_else(number: float) -> None:
    if number.is_integer() and -(2**63) <= number < 2**63:
        assert check(Whole, [number]) == [int(number)]
    else:
        with pytest.raises(errors.DataError, match="is not a whole number of 64 bits.*: row 1"):
            check(Whole, [number])


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(
        ["yes", "no", "1", "1.0", "2024-02-29", "S", "3", "nan", "inf", "today", "-", "1e999"]
    ),
    st.dates(),
    st.datetimes(timezones=st.none() | st.timezones()),
    st.timedeltas(),
    st.times(),
    st.decimals(allow_nan=False),
    st.complex_numbers(),
    st.binary(max_size=3),
    st.uuids(),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=1), st.integers(), max_size=1),
    st.frozensets(st.integers(), max_size=2),
    st.sampled_from(
        [
            pd.NA,
            pd.NaT,
            np.nan,
            np.float32(1),
            np.int8(3),
            np.bool_(True),
            np.datetime64("2024-02-29"),
        ]
    ),
)


@st.composite
def odd_tables(draw: st.DrawFn) -> pd.DataFrame:
    """Draw a table with some of the declared columns, in any order, with values of any kind, and other columns."""
    rows = draw(st.integers(0, 4))
    names = draw(st.lists(st.sampled_from(["more", *GOOD]), unique=True))
    names += [
        name for name in GOOD if name not in names and draw(st.integers(0, 9))
    ]  # most are there
    table = {}
    for name in names:
        kind = draw(st.sampled_from(["good", "good", "good", "odd", "alike"]))
        good = st.sampled_from(
            [*GOOD.get(name, [1]), draw(ODD)] if kind == "alike" else GOOD.get(name, [1])
        )
        values = draw(st.lists(ODD if kind == "odd" else good, min_size=rows, max_size=rows))
        table[name] = pd.Series(
            values, dtype=draw(st.sampled_from(["object", None])) if rows else "object"
        )
    labels = draw(st.lists(st.integers(0, 3), min_size=rows, max_size=rows))
    return pd.DataFrame(table, index=range(rows)).set_axis(labels)


class Plain(columns.Schema):
    """What rules know, so that a good table goes the short way."""

    code: Index[int] = pa.Field(ge=0, unique=True, check_name=True)
    pieces: Series[int] = pa.Field(gt=0, lt=100)
    price: Series[float] = pa.Field(ge=0, le=1, nullable=True)
    fragile: Series[bool]
    since: Series[pa.DateTime] = pa.Field(nullable=True)
    grade: Series[pd.CategoricalDtype] = pa.Field(isin=[1, 2, 3], nullable=True)
    color: Series[pd.CategoricalDtype] = pa.Field(isin=["red", "01", "1"], nullable=True)
    name: Series[str] = pa.Field(nullable=True)


@st.composite
def plain_tables(draw: st.DrawFn) -> pd.DataFrame:
    """Draw a table that is mostly right."""
    rows = draw(st.integers(1, 5))
    good: dict[str, st.SearchStrategy[Any]] = {
        "code": st.integers(0, 30),
        "pieces": st.integers(1, 99),
        "price": st.floats(0, 1) | st.none(),
        "fragile": st.booleans() | st.sampled_from([0, 1]),
        "since": st.sampled_from(["2024-02-29", "2024-02-29T12:00", None]),
        "grade": st.sampled_from([1, 2, 3, None]),
        "color": st.sampled_from(["red", "01", "1", None]),
        "name": st.sampled_from(["", "a", "1", None]),
    }
    bad = st.sampled_from([-1, 100, 2.5, float("inf"), "x", None, 2**60, True, "2"])
    table = {}
    for name, values in good.items():
        table[name] = draw(st.lists(values, min_size=rows, max_size=rows))
        if draw(st.integers(0, 9)) == 0:
            table[name][draw(st.integers(0, rows - 1))] = draw(bad)
    return pd.DataFrame(table)


@settings(PATIENT, max_examples=60)
@given(table=plain_tables())
def test_the_short_way_gives_the_same_table_and_refuses_nothing_else(table: pd.DataFrame) -> None:
    def outcome() -> Any:
        try:
            return Plain.check(table)
        except errors.DataError as error:
            return str(error)

    short = outcome()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rules, "fast_validate", lambda *_: None)
        long = outcome()
    if isinstance(long, str):
        assert short == long
    else:
        pd.testing.assert_frame_equal(short, long)
        pd.testing.assert_frame_equal(Plain.check(short), long)


def test_a_good_table_goes_the_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "_convert", lambda *_: pytest.fail("this is the long way"))
    table = {
        "code": [1, 2],
        "pieces": [1, 99],
        "price": [0.5, None],
        "fragile": [True, False],
        "grade": [1, None],
        "color": ["01", None],
        "name": ["a", None],
    }
    checked = Plain.check(pd.DataFrame(table | {"since": ["2024-02-29", None]}))
    assert len(checked) == 2
    again = Plain.check(checked)
    again.loc[1, "name"] = "b"
    assert checked.loc[1, "name"] == "a", "a checked table is a table of its own"


def test_a_column_that_holds_nothing_but_pandas_missing_values_is_missing() -> None:
    nothing = pd.Series([pd.NA, pd.NA], dtype="object")
    table = {"code": [1, 2], "pieces": [1, 99], "fragile": [True, False]}
    missing = ("price", "grade", "since", "color", "name")
    checked = Plain.check(pd.DataFrame(table | dict.fromkeys(missing, nothing)))
    assert checked[[*missing]].isna().all(axis=None)


def test_equal_categories_in_another_order_are_put_in_the_declared_one() -> None:
    other = pd.Categorical(["1", "red"], categories=["red", "1", "01"], ordered=True)
    table = {"code": [1, 2], "pieces": [1, 99], "price": [0.5, None], "fragile": [True, False]}
    table |= {"grade": [1, None], "since": ["2024-02-29", None], "name": ["a", None]}
    checked = Plain.check(pd.DataFrame(table | {"color": other}))
    assert checked["color"].cat.categories.tolist() == ["red", "01", "1"]
    assert checked["color"].tolist() == ["1", "red"]
    assert not checked["color"].cat.ordered


@settings(PATIENT, max_examples=30)
@given(table=plain_tables())
def test_sift_separates_the_rows_that_would_be_refused_alone(table: pd.DataFrame) -> None:
    table = table.assign(code=range(len(table)))
    good, refused = Plain.split_valid(table)
    for row in range(len(table)):
        try:
            alone = Plain.check(table.iloc[[row]].infer_objects())
        except errors.DataError as error:
            said = str(error)
        else:
            said = ""
            pd.testing.assert_frame_equal(good.loc[[row]], alone)
        assert refused.get(row, "") in said, "with the same reason, or none"


@settings(PATIENT, max_examples=50)
@given(table=odd_tables())
def test_whatever_a_table_holds_it_is_valid_or_refused(table: pd.DataFrame) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the odd table itself may have been made with a warning
        try:
            checked = Stock.check(table)
        except errors.DataError:
            return
        again = Stock.check(checked)
    assert {name: str(dtype) for name, dtype in checked.dtypes.items()} == TYPES
    assert checked.index.is_unique
    pd.testing.assert_frame_equal(again, checked)
    pd.testing.assert_frame_equal(Stock.check(checked.reset_index()), checked)


@settings(PATIENT, max_examples=10)
@given(order=st.permutations(list(GOOD)), only=st.sets(st.sampled_from(list(TYPES))))
def test_only_some_columns_can_be_asked_for(order: list[str], only: set[str]) -> None:
    wanted = [name for name in TYPES if name in only]
    table = stock()[order]
    checked = Stock.check(table, only=only)
    assert list(checked) == wanted
    pd.testing.assert_frame_equal(checked, Stock.check(table)[wanted])
    pd.testing.assert_frame_equal(Stock.check(table[["code", *wanted]], only=only), checked)


# --------------------------------------------------------------------------------------------------------- messages


def test_all_faults_are_said_at_once_each_with_rows_and_labels() -> None:
    rows = 234
    table = pd.DataFrame({name: [values[0]] * rows for name, values in GOOD.items()})
    table["code"] = [f"c{row}" for row in range(rows)]
    table["pieces"] = ["1", "2", *["many"] * (rows - 2)]
    table.loc[7, "size"] = "XL"
    table["fragile"] = pd.Series([True] * rows, dtype="object").where(table.index != 9, None)
    assert refusal(Stock, table).splitlines() == [
        "Stock refuses the table:",
        "- pieces: 'many' is not a whole number of 64 bits: row 3 (code c2), row 4 (code c3), row 5 (code c4) and 229 more",  # noqa: E501
        "- fragile: a value is missing, and the schema requires a value: row 10 (code c9)",
        "- size: 'XL' is not one of 'S', 'M', 'L': row 8 (code c7)",
    ]


class Hours(columns.Schema):
    hour: Index[int] = pa.Field(ge=0, unique=True, check_name=True)
    bikes: Series[int] = pa.Field(ge=0, lt=1000)
    share: Series[float] = pa.Field(gt=0, le=1, nullable=True)
    town: Series[str] = pa.Field(str_matches=r"^[A-Z]{2}$", nullable=True)


def test_values_outside_their_range_are_shown_with_the_range() -> None:
    table = pd.DataFrame(
        {
            "hour": [0, 1, 2],
            "bikes": [-1, 5, 1000],
            "share": [0, 1.5, None],
            "town": ["FR", "x", "DE"],
        }
    )
    lines = refusal(Hours, table).splitlines()
    assert lines[1:-1] == [
        "- bikes: -1 is below the least allowed value, 0: row 1 (hour 0)",
        "- bikes: 1000 is not below 1000: row 3 (hour 2)",
        "- share: 0.0 is not above 0: row 1 (hour 0)",
        "- share: 1.5 is above the greatest allowed value, 1: row 2 (hour 1)",
    ]
    assert lines[-1].startswith("- town: 'x' is refused by the check str_matches(")
    assert lines[-1].endswith(": row 2 (hour 1)")


def test_a_fault_of_the_type_does_not_hide_one_of_the_range() -> None:
    message = refusal(
        Hours,
        pd.DataFrame({"hour": [0, 1], "bikes": [1, -1], "share": ["x", 1], "town": ["FR", "DE"]}),
    )
    assert "- share: 'x' is not a finite number: row 1 (hour 0)" in message
    assert "- bikes: -1 is below the least allowed value, 0: row 2 (hour 1)" in message


def test_doubled_labels_are_refused_and_do_not_accuse_their_neighbours() -> None:
    table = pd.DataFrame({"hour": [4, 4, 5], "bikes": [-1, 1, 1], "share": 1, "town": "FR"})
    assert refusal(Hours, table).splitlines()[1:] == [
        "- hour: 4 is there more than once: row 1 (hour 4), row 2 (hour 4)",
        "- bikes: -1 is below the least allowed value, 0: row 1 (hour 4)",
    ]


@pytest.mark.parametrize(
    ("labels", "fault"),
    [
        ([0, -1], "-1 is below the least allowed value, 0: row 2 (hour -1)"),
        (["x", "1"], "'x' is not a whole number of 64 bits: row 1 (hour x)"),
        ([0, None], "a value is missing, and the schema requires a value: row 2 (hour nan)"),
        ([0, 1.5], "1.5 is not a whole number of 64 bits: row 2 (hour 1.5)"),
        ([[1], [2]], "[1] is not a whole number of 64 bits: row 1 (hour [1]), row 2 (hour [2])"),
    ],
)
def test_labels_of_the_index_are_checked_like_values(labels: list[Any], fault: str) -> None:
    message = refusal(Hours, pd.DataFrame({"hour": labels, "bikes": 1, "share": 1, "town": "FR"}))
    assert message == f"Hours refuses the table:\n- hour: {fault}"


@pytest.mark.parametrize(
    "labels", [["3", "7"], [3.0, 7.0], pd.Index([3, 7], dtype="uint8"), pd.Index([3, 7])]
)
def test_an_index_is_taken_from_the_index_or_from_a_column(labels: Any) -> None:
    rest = {"bikes": [1, 2], "share": [1, 1], "town": ["FR", "DE"]}
    by_column = Hours.check(pd.DataFrame({"hour": list(labels)} | rest))
    by_index = Hours.check(pd.DataFrame(rest, index=pd.Index(labels, name="hour")))
    pd.testing.assert_frame_equal(by_column, by_index)
    assert by_column.index.equals(pd.Index([3, 7], name="hour"))
    assert str(by_column.index.dtype) == "int64"


def test_an_index_has_its_name_without_being_told_twice() -> None:
    class Plain(columns.Schema):
        key: Index[str]
        value: Series[int]

    class Nameless(columns.Schema):
        key: Index[str] = pa.Field(check_name=False)
        value: Series[int]

    table = pd.DataFrame({"key": ["a", "b"], "value": [1, 2]})
    assert Plain.check(table).index.equals(pd.Index(["a", "b"], name="key"))
    assert (Plain.index_name(), Nameless.index_name()) == ("key", None)
    assert Nameless.check(table.set_index("key")).index.tolist() == ["a", "b"]


def test_a_second_index_is_refused() -> None:
    class Both(columns.Schema):
        day: Index[pa.DateTime]
        town: Index[str]

    with pytest.raises(
        errors.ConfigError, match=r"Both declares more than one index \(day, town\)"
    ):
        Both.check(pd.DataFrame({"day": ["2024-01-01"], "town": ["FR"]}))


def test_a_missing_index_is_named_with_what_it_may_have_been_called() -> None:
    message = refusal(
        Hours, pd.DataFrame({"Hour": [1], "bikes": [1], "share": [1], "town": ["FR"]})
    )
    assert message == (
        "Hours: the index 'hour' is missing: it is neither a column nor the name of the index; did you mean 'Hour'?"
    )


def test_all_missing_columns_are_named_with_their_nearest() -> None:
    message = refusal(Hours, pd.DataFrame({"hour": [1], "bike": [1], "SHARE": [1], "x": ["FR"]}))
    assert message == (
        "Hours: column 'bikes' is missing; did you mean 'bike'?; column 'share' is missing; did you mean 'SHARE'?; "
        "column 'town' is missing (columns there: bike, SHARE, x)"
    )


def test_a_wide_table_is_not_listed_whole() -> None:
    message = refusal(
        Hours, pd.DataFrame({"hour": [1]} | {f"x{number}": [1] for number in range(99)})
    )
    assert "x29, ...)" in message
    assert "x30" not in message


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            pd.DataFrame([[1, 2, 3]], columns=["hour", "bikes", "bikes"]),
            "there is more than one column named 'bikes'",
        ),
        (
            pd.DataFrame([[1, 2, 3]], columns=["hour", "x", "x"]),
            "there is more than one column named 'x'",
        ),
        (
            pd.DataFrame(
                [[1, 2]], columns=pd.MultiIndex.from_tuples([("hour", "a"), ("bikes", "b")])
            ),
            "the columns have 2 levels of names",
        ),
        (pd.DataFrame(), "the index 'hour' is missing"),
    ],
)
def test_tables_of_another_form_are_refused(table: pd.DataFrame, message: str) -> None:
    assert refusal(Hours, table).startswith(f"Hours: {message}")


def test_a_table_without_rows_has_the_declared_types() -> None:
    checked = Stock.check(pd.DataFrame({name: [] for name in GOOD}))
    assert len(checked) == 0
    assert {name: str(dtype) for name, dtype in checked.dtypes.items()} == TYPES


def test_a_long_value_is_cut() -> None:
    message = refusal(
        Hours, pd.DataFrame({"hour": [1], "bikes": ["x" * 5_000], "share": [1], "town": ["FR"]})
    )
    assert f"'{'x' * 76}... is not a whole number" in message
    assert len(message) < 200


def test_checks_of_a_whole_table_are_said_too_and_wait_for_its_columns() -> None:
    class Parts(columns.Schema):
        a: Series[float]
        b: Series[float]

        @pa.dataframe_check
        def add_up(cls, data: pd.DataFrame) -> bool:  # noqa: N805 (pandera makes it a class method)
            return bool((data["a"] + data["b"]).sum() == 1)

    assert Parts.check(pd.DataFrame({"a": [0.25], "b": [0.75]})).shape == (1, 2)
    assert refusal(Parts, pd.DataFrame({"a": [0.25], "b": [0.5]})).endswith(
        "is refused by the check add_up: the column as a whole"
    )
    assert refusal(Parts, pd.DataFrame({"a": ["x"], "b": [0.5]})) == (
        "Parts refuses the table:\n- a: 'x' is not a finite number: row 1 (index 0)"
    )


# --------------------------------------------------------------------------------------------------------- patterns


class Shares(columns.Schema):
    answer: Series[str]
    share: Optional[Series[float]] = pa.Field(alias="share_.+", regex=True, ge=0, le=1)  # noqa: UP045 (pandera reads it)


class Effects(columns.Schema):
    effect: Series[float] = pa.Field(alias=".+", regex=True)


def test_a_pattern_takes_every_column_that_it_matches_whole() -> None:
    table = pd.DataFrame(
        {
            "share_b": ["0.25"],
            "answer": ["a"],
            "share_a": [0.75],
            "a_share_": ["x"],
            "share_": ["x"],
        }
    )
    checked = Shares.check(table)
    assert list(checked) == ["answer", "share_b", "share_a"]
    assert checked["share_b"].tolist() == [0.25]
    assert Shares.column_names() == ["answer", "share_.+"]


def test_an_optional_pattern_may_match_nothing_and_another_may_not() -> None:
    assert list(Shares.check(pd.DataFrame({"answer": ["a"]}))) == ["answer"]
    assert refusal(Effects, pd.DataFrame(index=[0])).startswith("Effects: column '.+' is missing")


def test_faults_of_columns_behind_a_pattern_are_named() -> None:
    table = pd.DataFrame({"answer": ["a", "b"], "share_a": ["x", 0.5], "share_b": [0.5, 1.5]})
    assert refusal(Shares, table).splitlines()[1:] == [
        "- share_a: 'x' is not a finite number: row 1 (index 0)",
        "- share_b: 1.5 is above the greatest allowed value, 1: row 2 (index 1)",
    ]
    assert refusal(Effects, pd.DataFrame({"rain": ["x"]})) == (
        "Effects refuses the table:\n- rain: 'x' is not a finite number: row 1 (index 0)"
    )


# ------------------------------------------------------------------------------------------- undeclared columns, roles


@pytest.fixture
def said() -> Iterator[list[str]]:
    """Collect what is logged."""
    columns._log_dropped.cache_clear()
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(message.record["message"]), level="INFO")
    yield lines
    logger.remove(sink)


def test_undeclared_columns_are_dropped_and_said_once(said: list[str]) -> None:
    table = stock(colour="red", mass_in_grams=3)
    for _ in range(3):
        assert list(Stock.check(table)) == list(TYPES)
    assert said == ["Left out 2 undeclared column(s): colour, mass_in_grams"]


def test_columns_of_another_schema_are_dropped_without_a_word(said: list[str]) -> None:
    Stock.check(
        stock(bikes=1, town="FR")
    )  # Hours declares these: a table that holds both is nothing to remark
    assert said == []


def test_declarations_without_a_usable_type_are_refused() -> None:
    class Untyped(columns.Schema):
        anything: Series[Any]

    class Spans(columns.Schema):
        span: Series[pa.Timedelta]

    with pytest.raises(
        errors.ConfigError, match="column 'anything' is declared without a type: give it one"
    ):
        Untyped.roles()
    with pytest.raises(
        errors.ConfigError,
        match=r"column 'span' has type timedelta64\[ns\]: no model here can use it",
    ):
        Spans.check(pd.DataFrame({"span": ["1 day"]}))


def test_marks_and_features_follow_the_declaration() -> None:
    class Marked(columns.Schema):
        day: Series[pa.DateTime] = pa.Field(metadata={"feature": False, "time": True})
        town: Series[str] = pa.Field(metadata={"slice": True})
        height: Series[np.float32]

    assert Marked.features() == ["town", "height"]
    assert (Marked.marked("time"), Marked.marked("slice"), Marked.marked("season")) == (
        ["day"],
        ["town"],
        [],
    )
    assert Marked.index_name() is None
