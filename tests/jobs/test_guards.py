"""Which rows a model has seen: their contents in the schema's types, however they come back."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pandera.pandas as pa
import pytest
from pandera.typing.pandas import Series

from model_name.core import schemas
from model_name.io import datasets
from model_name.jobs import guards

ROWS = 300
Change = Callable[[pd.DataFrame], pd.DataFrame]


class Loans(schemas.Schema):
    parts: Series[pd.Int64Dtype] = pa.Field(nullable=True)
    rate: Series[float] = pa.Field(nullable=True)
    kind: Series[pd.CategoricalDtype] = pa.Field(nullable=True)
    clerk: Series[str] = pa.Field(nullable=True)
    day: Series[pa.DateTime] = pa.Field(nullable=True)
    open: Series[pd.BooleanDtype] = pa.Field(nullable=True)


@pytest.fixture(autouse=True)
def _without_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schemas, "InputsSchema", Loans)


@pytest.fixture(scope="module")
def loans() -> pd.DataFrame:
    random = np.random.default_rng(3)
    table = pd.DataFrame(
        {
            "parts": random.integers(0, 50, ROWS),
            "rate": random.normal(size=ROWS).round(3),
            "kind": random.choice(["a", "1", "1.0", "1e5"], ROWS),
            "clerk": random.choice(["x", "y ", "Z"], ROWS),
            "day": pd.Timestamp("2024-01-01")
            + pd.to_timedelta(random.integers(0, 400, ROWS), unit="D"),
            "open": random.choice([True, False], ROWS),
        }
    )
    table.loc[[3, 5], "rate"] = [-0.0, 0.0]
    return table


def count(trained: pd.DataFrame, given: pd.DataFrame) -> int:
    """Count the rows of a table that a model has seen."""
    return int(guards.SeenRows.of(Loans.check(trained)).recognise(Loans.check(given)).sum())


FORMS: dict[str, Change] = {
    "reversed": lambda data: data[::-1],
    "other columns' order": lambda data: data[data.columns[::-1]],
    "shuffled, numbered anew": lambda data: data.sample(frac=1, random_state=1).reset_index(
        drop=True
    ),
    "single precision": lambda data: data.astype({"rate": "float32"}),
    "zeros of the other sign": lambda data: data.assign(
        rate=data["rate"].where(data["rate"] != 0, -data["rate"])
    ),
    "numbers as texts": lambda data: data.assign(
        rate=data["rate"].astype("str"), parts=data["parts"].astype("str")
    ),
    "whole numbers as floats": lambda data: data.astype({"parts": "float64"}),
    "dates as texts": lambda data: data.assign(day=data["day"].dt.strftime("%Y-%m-%dT%H:%M:%S")),
    "dates in seconds": lambda data: data.astype({"day": "datetime64[s]"}),
    "days of Python": lambda data: data.assign(day=data["day"].dt.date),
    "texts as categories": lambda data: data.astype({"clerk": "category", "kind": "category"}),
    "truths as words": lambda data: data.assign(open=data["open"].map({True: "yes", False: "No"})),
    "truths as floats": lambda data: data.astype({"open": "float64"}),
    "types of Arrow": lambda data: data.convert_dtypes(dtype_backend="pyarrow"),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_rows_are_recognised_in_every_form(loans: pd.DataFrame, form: Change) -> None:
    assert count(loans, form(loans)) == ROWS
    assert count(form(loans), loans) == ROWS


@pytest.mark.parametrize(
    "new",
    [
        {"parts": 99},
        {"parts": None},
        {"rate": np.nan},
        {"day": pd.Timestamp("2999-12-31")},
        {"kind": None},
    ],
    ids=str,
)
def test_a_new_row_on_top_is_the_only_new_one(loans: pd.DataFrame, new: dict[str, object]) -> None:
    row = loans.head(1).astype("object").assign(**new)
    table = pd.concat([row, loans.astype("object")], ignore_index=True)
    assert count(loans, table) == ROWS
    assert not guards.SeenRows.of(Loans.check(loans)).recognise(Loans.check(table))[0]


def test_equal_rows_are_seen_as_often_as_they_were_there(loans: pd.DataFrame) -> None:
    twice = pd.concat([loans, loans], ignore_index=True)
    assert count(loans, twice) == ROWS
    assert count(twice, loans) == ROWS
    assert count(twice, twice) == 2 * ROWS


def test_labels_that_look_alike_are_different_rows(loans: pd.DataFrame) -> None:
    first = loans.assign(kind="v1")
    assert count(first, first.assign(kind="v1.0")) == 0
    assert count(first, first.assign(clerk=first["clerk"] + "?")) == 0


def test_some_rows_are_recognised_like_all_of_them(loans: pd.DataFrame) -> None:
    for label in ("1", "1.0", "1e5", "a"):
        some = loans[loans["kind"] == label]
        assert count(loans, some) == count(some, some) == len(some)


def test_one_table_in_several_files(loans: pd.DataFrame, tmp_path: Path) -> None:
    names = [str(tmp_path / name) for name in ("a.csv", "b.csv", "c.parquet", "d.parquet")]
    loans.to_csv(names[0], index=False)
    loans.to_csv(names[1], index=False, sep=";", decimal=",")
    loans.to_parquet(names[2])
    loans.astype({"rate": "float32", "parts": "int16"}).to_parquet(names[3])
    readers = [
        datasets.CsvReader(path=names[0]),
        datasets.CsvReader(path=names[1], separator=";", decimal=","),
        datasets.ParquetReader(path=names[2]),
        datasets.ParquetReader(path=names[3]),
    ]
    tables = [reader.read() for reader in readers]
    assert {count(one, other) for one in tables for other in tables} == {ROWS}
