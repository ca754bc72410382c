"""Readers and writers: the same types in batches and at once, everything or nothing, errors that name the way out."""

import csv
import gzip
import math
import os
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pandera.pandas as pa
import pyarrow as arrow
import pydantic as pdt
import pytest
from hypothesis import HealthCheck, given, settings
from pandera.typing.pandas import Index, Series
from pyarrow import parquet

from model_name.core import errors, schemas
from model_name.io import datasets

PROPERTY = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An SQLite file whose address is in the variable `DB`."""
    monkeypatch.setenv("DB", f"sqlite:///{tmp_path}/bikes.db")
    return tmp_path / "bikes.db"


def sql(**fields: Any) -> datasets.SqlReader:
    return datasets.SqlReader(address_variable="DB", **fields)


def csv_of(tmp_path: Path, content: str | bytes, name: str = "table.csv") -> str:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def assert_batches_are_the_whole(reader: datasets.Reader, rows: int) -> pd.DataFrame:
    whole, batches = reader.read(), list(reader.batches(rows))
    pd.testing.assert_frame_equal(pd.concat(batches), whole)
    assert {len(batch) for batch in batches[:-1]} <= {rows}
    assert 0 < len(batches[-1]) <= rows
    return whole


# --- properties -------------------------------------------------------------------------------------------------------

CELLS = st.sampled_from(
    ["", "1", "-2", "007", "2.5", "1e3", "true", "False", "NA", "x", "ä, ö", "two\nlines", " 3 "]
)
KINDS: dict[str, st.SearchStrategy[Any]] = {
    "whole": st.integers(-(2**62), 2**62),
    "real": st.floats(allow_nan=False, allow_infinity=False),
    "flag": st.booleans(),
    "text": st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1).map(
        "t{}".format
    ),
}


@PROPERTY
@given(
    table=st.lists(st.tuples(CELLS, CELLS, st.integers(0, 9).map(str)), min_size=1, max_size=30),
    rows=st.integers(1, 12),
    limit=st.none() | st.integers(1, 20),
)
def test_csv_types_do_not_depend_on_the_batches(
    tmp_path: Path, table: list[tuple[str, ...]], rows: int, limit: int | None
) -> None:
    path = tmp_path / "property.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("a", "b", "id"), *table])
    whole = assert_batches_are_the_whole(datasets.CsvReader(path=str(path), limit=limit), rows)
    assert len(whole) == min(len(table), limit or len(table))
    assert whole["id"].tolist() == [int(row[2]) for row in table][: len(whole)]


@PROPERTY
@given(
    columns=st.lists(
        st.sampled_from(sorted(KINDS)).flatmap(
            lambda kind: st.lists(st.none() | KINDS[kind], min_size=6, max_size=6)
        ),
        min_size=1,
        max_size=4,
    ),
    group=st.integers(1, 6),
    rows=st.integers(1, 6),
)
def test_parquet_types_do_not_depend_on_the_batches(
    tmp_path: Path, columns: list[list[Any]], group: int, rows: int
) -> None:
    table = arrow.table(
        {f"c{number}": arrow.array(values) for number, values in enumerate(columns)}
    )
    small = [c.type for c in table.itercolumns()]
    parquet.write_table(table, tmp_path / "property.parquet", row_group_size=group)
    if any(
        arrow.types.is_integer(kind)
        and None in values
        and any(v is not None and abs(v) > 2**53 for v in values)
        for kind, values in zip(small, columns, strict=True)
    ):
        with pytest.raises(
            errors.DataError, match="a number that a float cannot hold"
        ):  # a float would change the number
            datasets.ParquetReader(path=str(tmp_path / "property.parquet")).read()
        return
    assert_batches_are_the_whole(
        datasets.ParquetReader(path=str(tmp_path / "property.parquet")), rows
    )


@PROPERTY
@given(
    whole=st.lists(KINDS["whole"], min_size=1, max_size=20),
    data=st.data(),
    kind=st.sampled_from(["parquet", "csv", "sql"]),
)
def test_what_is_written_reads_back_with_the_same_types(
    tmp_path: Path, database: Path, whole: list[int], data: st.DataObject, kind: str
) -> None:
    size = {"min_size": len(whole), "max_size": len(whole)}
    table = pd.DataFrame(
        {
            "real": data.draw(st.lists(KINDS["real"], **size)),
            "flag": data.draw(st.lists(KINDS["flag"], **size)),
            "text": data.draw(st.lists(KINDS["text"], **size)),
        },
        index=pd.Index(whole, name="number"),
    )
    cut = data.draw(st.integers(0, len(whole)))
    writer, reader = pair(kind, tmp_path)
    with writer.open() as sink:
        sink.write(table.iloc[:cut])
        sink.write(table.iloc[cut:])
    assert sink.rows == len(table)
    again = reader.read()
    if kind == "csv" and table["real"].map(float.is_integer).all():
        again = again.astype({"real": "float64"})  # text does not tell 0.0 from 0
    pd.testing.assert_frame_equal(again, table.reset_index(), check_exact=True)


def pair(kind: str, tmp_path: Path) -> tuple[datasets.Writer, datasets.Reader]:
    """Return a writer, and a reader of what it writes."""
    if kind == "parquet":
        path = str(tmp_path / "pair.parquet")
        return datasets.ParquetWriter(path=path), datasets.ParquetReader(path=path)
    if kind == "csv":
        path = str(tmp_path / "pair.csv")
        return datasets.CsvWriter(path=path), datasets.CsvReader(path=path)
    return datasets.SqlWriter(address_variable="DB", table="pair", if_exists="replace"), sql(
        table="pair"
    )


# --- the real table ---------------------------------------------------------------------------------------------------


def test_the_real_table_in_every_format(bike_table: Path, tmp_path: Path, database: Path) -> None:
    real = assert_batches_are_the_whole(datasets.CsvReader(path=str(bike_table)), 5_000)
    pd.testing.assert_frame_equal(real, pd.read_csv(bike_table))
    checked = schemas.InputsSchema.check(real)
    for kind in ("parquet", "csv", "sql"):
        writer, reader = pair(kind, tmp_path)
        writer.write(checked)
        pd.testing.assert_frame_equal(schemas.InputsSchema.check(reader.read()), checked)


# --- CSV --------------------------------------------------------------------------------------------------------------


def test_a_type_is_the_one_that_fits_all_rows_not_the_first_batch(tmp_path: Path) -> None:
    rows = "".join(f"{number},{number},{number},true,\n" for number in range(70_000))
    path = csv_of(tmp_path, f"id,half,name,flag,nothing\n{rows}1,0.5,x,,\n")
    first = next(datasets.CsvReader(path=path).batches(10))
    assert [str(kind) for kind in first.dtypes] == ["int64", "float64", "str", "boolean", "float64"]
    assert first["name"].tolist()[:2] == ["0", "1"]
    few = datasets.CsvReader(path=path, limit=10).read()
    assert [str(kind) for kind in few.dtypes] == ["int64", "int64", "int64", "bool", "float64"]


def test_columns_declared_as_text_are_not_guessed_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Rooms(schemas.Schema):
        room: Index[str] = pa.Field(check_name=True)
        country: Series[str]
        kind: Series[pd.CategoricalDtype]
        grade: Series[pd.CategoricalDtype] = pa.Field(isin=[1, 2])

    monkeypatch.setattr(schemas, "InputsSchema", Rooms)
    path = csv_of(tmp_path, "room,country,kind,grade,other\n007,NA,01,1,NA\n008,,02,2,4\n")
    data = datasets.CsvReader(path=path).read()
    assert data["room"].tolist() == ["007", "008"]
    assert data["country"].tolist()[0] == "NA"
    assert data["country"].isna().tolist() == [False, True]
    assert data["kind"].tolist() == ["01", "02"]
    assert data["grade"].tolist() == [1, 2]
    assert math.isnan(data["other"][0])


@pytest.mark.parametrize(
    ("content", "fields"),
    [
        ("id;price\n1;2,5\n", {"separator": ";", "decimal": ","}),
        (b"\xef\xbb\xbfid,price\r\n1,2.5\r\n", {}),
        ('"id","price"\n"1","2.5"\n', {}),
        ("id,price\n1,2.5\n".encode("utf-16"), {"encoding": "utf-16"}),
    ],
)
def test_dialects(tmp_path: Path, content: str | bytes, fields: dict[str, str]) -> None:
    data = datasets.CsvReader(path=csv_of(tmp_path, content), **fields).read()
    pd.testing.assert_frame_equal(data, pd.DataFrame({"id": [1], "price": [2.5]}))


def test_names_in_another_encoding(tmp_path: Path) -> None:
    path = csv_of(tmp_path, "name,n\nMüller,1\n".encode("latin-1"))
    assert datasets.CsvReader(path=path, encoding="latin-1").read()["name"].tolist() == ["Müller"]
    with pytest.raises(errors.DataError, match="line 2 is not utf-8 text.*encoding: latin-1"):
        datasets.CsvReader(path=path).read()


def test_a_point_is_no_number_where_the_decimal_mark_is_a_comma(tmp_path: Path) -> None:
    path = csv_of(tmp_path, "a;b\n1.5;1,5\n")
    data = datasets.CsvReader(path=path, separator=";", decimal=",").read()
    assert data["a"].tolist() == ["1.5"]
    assert data["b"].tolist() == [1.5]


def test_hexadecimal_texts_stay_texts(tmp_path: Path) -> None:
    assert datasets.CsvReader(path=csv_of(tmp_path, "a,b\n0x1F,1\n")).read()["a"].tolist() == [
        "0x1F"
    ]


def test_numbers_that_a_float_would_change_are_refused(tmp_path: Path, database: Path) -> None:
    large = 2**53 + 1
    database.touch()
    path = csv_of(tmp_path, f"a,b\n{large},1\n,2\n")
    with pytest.raises(errors.DataError, match="a number that a float cannot hold"):
        datasets.CsvReader(path=path).read()
    with pytest.raises(errors.DataError, match="a number that a float cannot hold"):
        sql(query=f"SELECT {large} AS a UNION ALL SELECT NULL").read()
    assert sql(query=f"SELECT {large} AS a").read()["a"].tolist() == [large]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "the file is empty"),
        ("a,b\n", "there are no rows"),
        ("\n\n", "there are no rows|cannot be read as CSV"),
        ("a,b\n1,2\n1,2,3\n", "line 3 has 3 values where the header has 2"),
        ('a,b\n"x\ny",2\n1\n', "line 4 has 1 values where the header has 2"),
        ("a,b,a\n1,2,3\n", "more than one column is named 'a'"),
        ("a;b\n1;2\n", "separator ',' makes one column of it, named 'a;b'; set separator: ';'"),
        (b"PAR1 and so on", "is a Parquet file: read it with KIND: ParquetReader"),
        ("ä,b\n1,2\n".encode("latin-1"), "line 1 is not utf-8 text: say how the file is encoded"),
    ],
)
def test_csv_files_that_are_refused(tmp_path: Path, content: str | bytes, reason: str) -> None:
    path = csv_of(tmp_path, content)
    for read in (lambda r: r.read(), lambda r: list(r.batches(1))):
        with pytest.raises(errors.DataError, match=reason) as caught:
            read(datasets.CsvReader(path=path))
        assert "table.csv" in str(caught.value)


def test_an_unknown_encoding_is_refused_before_anything_is_read() -> None:
    with pytest.raises(pdt.ValidationError, match="common ones are utf-8, latin-1, cp1252"):
        datasets.CsvReader(path="x.csv", encoding="utf-88")


# --- Parquet ----------------------------------------------------------------------------------------------------------


def test_a_gap_in_any_row_group_decides_the_type(tmp_path: Path) -> None:
    table = arrow.table(
        {"n": [1, 2, 3, None], "flag": [True, False, True, None], "full": [1, 2, 3, 4]}
    )
    for statistics in (True, False):
        parquet.write_table(
            table, tmp_path / "t.parquet", row_group_size=2, write_statistics=statistics
        )
        whole = assert_batches_are_the_whole(
            datasets.ParquetReader(path=str(tmp_path / "t.parquet")), 2
        )
        assert [str(kind) for kind in whole.dtypes] == ["float64", "boolean", "int64"]


def test_plain_types(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"kind": pd.Categorical(["a", "b"]), "n": pd.array([1, 2], dtype="Int64")}, index=[7, 8]
    )
    frame.rename_axis("id").to_parquet(tmp_path / "pandas.parquet")
    data = datasets.ParquetReader(path=str(tmp_path / "pandas.parquet")).read()
    expected = {"kind": ["a", "b"], "n": [1, 2], "id": [7, 8]}
    pd.testing.assert_frame_equal(data, pd.DataFrame(expected))
    from decimal import Decimal

    other = arrow.table(
        {"price": [Decimal("1.25")], "day": arrow.array([0], arrow.date32()), "none": [None]}
    )
    parquet.write_table(other, tmp_path / "other.parquet")
    data = datasets.ParquetReader(path=str(tmp_path / "other.parquet")).read()
    assert data["price"].tolist() == [1.25]
    assert data["day"].tolist() == [pd.Timestamp("1970-01-01")]
    assert str(data["none"].dtype) == "float64"


def test_decimals_without_a_fraction_are_whole_numbers(tmp_path: Path) -> None:
    from decimal import Decimal

    def read(*values: int | None) -> pd.Series:
        column = arrow.array(
            [None if value is None else Decimal(value) for value in values], arrow.decimal128(38, 0)
        )
        parquet.write_table(arrow.table({"id": column}), tmp_path / "ids.parquet")
        return datasets.ParquetReader(path=str(tmp_path / "ids.parquet")).read()["id"]

    assert read(2**53, 2**53 + 1, -(2**62) - 1).tolist() == [2**53, 2**53 + 1, -(2**62) - 1]
    assert read(7, None).iloc[0] == 7.0
    for values in ([2**63, 1], [2**53 + 1, None]):
        with pytest.raises(errors.DataError, match="store the column as text"):
            read(*values)


def test_a_folder_is_one_table(tmp_path: Path) -> None:
    for year in (2011, 2012):
        part = tmp_path / "table" / f"year={year}" / "part.parquet"
        part.parent.mkdir(parents=True)
        part.with_name("_SUCCESS").touch()
        pd.DataFrame({"n": [year, year + 0.5] if year == 2012 else [1, 2]}).to_parquet(part)
    whole = assert_batches_are_the_whole(datasets.ParquetReader(path=str(tmp_path / "table")), 3)
    assert whole["n"].tolist() == [1.0, 2.0, 2012.0, 2012.5]
    assert whole["year"].tolist() == [2011, 2011, 2012, 2012]


def test_a_part_that_lacks_a_column_is_named(tmp_path: Path) -> None:
    pd.DataFrame({"a": [1], "b": [2]}).to_parquet(tmp_path / "1.parquet")
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "2.parquet")
    with pytest.raises(errors.DataError, match=r"2.parquet lacks columns \['b'\]"):
        datasets.ParquetReader(path=str(tmp_path)).read()


def test_parquet_files_that_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.parquet").write_text("instant,cnt\n1,16\n")
    with pytest.raises(
        errors.DataError,
        match=r"text.parquet: cannot be read as Parquet \(is it another format\?\)",
    ):
        datasets.ParquetReader(path=str(tmp_path / "text.parquet")).read()
    (tmp_path / "folder").mkdir()
    with pytest.raises(errors.DataError, match="folder: there is no file that ends in .parquet"):
        datasets.ParquetReader(path=str(tmp_path / "folder")).read()
    doubled = arrow.Table.from_arrays([arrow.array([1]), arrow.array([2])], names=["a", "a"])
    parquet.write_table(doubled, tmp_path / "doubled.parquet")
    with pytest.raises(errors.DataError, match="more than one column is named 'a'"):
        datasets.ParquetReader(path=str(tmp_path / "doubled.parquet")).read()
    parquet.write_table(
        arrow.table({"a": arrow.array([], arrow.int64())}), tmp_path / "none.parquet"
    )
    with pytest.raises(errors.DataError, match="there are no rows"):
        list(datasets.ParquetReader(path=str(tmp_path / "none.parquet")).batches())


# --- every file -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reader", [datasets.CsvReader, datasets.ParquetReader])
def test_files_that_are_not_there(tmp_path: Path, reader: Callable[..., datasets.Reader]) -> None:
    (tmp_path / "bikes.dat").write_text("x")
    with pytest.raises(errors.DataError, match="bikes.dta: no such file; did you mean 'bikes.dat'"):
        reader(path=str(tmp_path / "bikes.dta")).read()
    with pytest.raises(errors.DataError, match="its folder does not exist either"):
        reader(path=str(tmp_path / "nowhere" / "bikes.dat")).read()
    with pytest.raises(errors.DataError, match=r"cannot be opened: Protocol not known"):
        reader(path="nonsense://bucket/table").read()
    (tmp_path / "empty").touch()
    with pytest.raises(errors.DataError, match="the file is empty"):
        reader(path=str(tmp_path / "empty")).read()


def test_a_folder_is_not_a_csv_file(tmp_path: Path) -> None:
    with pytest.raises(errors.DataError, match="is a folder; a file is expected"):
        datasets.CsvReader(path=str(tmp_path)).read()


def test_a_batch_has_at_least_one_row(tmp_path: Path) -> None:
    with pytest.raises(errors.DataError, match="1 row or more, not 0"):
        next(datasets.CsvReader(path=csv_of(tmp_path, "a,b\n1,2\n")).batches(0))


@pytest.mark.parametrize("kind", ["Csv", "Parquet"])
@pytest.mark.parametrize("scheme", ["memory", "file"])
def test_any_address(tmp_path: Path, kind: str, scheme: str) -> None:
    address = f"{scheme}://{tmp_path}/deep/er/table.{kind.lower()}"
    table = pd.DataFrame({"a": [1, 2], "b": ["x", None]})
    writer = getattr(datasets, f"{kind}Writer")(path=address)
    writer.write(table.head(1))
    writer.write(table)  # takes the place of the first one
    reader = getattr(datasets, f"{kind}Reader")(path=address)
    pd.testing.assert_frame_equal(assert_batches_are_the_whole(reader, 1), table, check_dtype=False)
    files, path = fsspec.core.url_to_fs(address)
    assert [Path(name).name for name in files.find(files._parent(path))] == [
        f"table.{kind.lower()}"
    ]


def test_compressed_csv(tmp_path: Path) -> None:
    table = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    datasets.CsvWriter(path=str(tmp_path / "t.csv.gz")).write(table)
    assert gzip.decompress((tmp_path / "t.csv.gz").read_bytes()).splitlines()[0] == b'"a","b"'
    pd.testing.assert_frame_equal(datasets.CsvReader(path=str(tmp_path / "t.csv.gz")).read(), table)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("s3://key:secret@bucket/t.csv", "s3://***@bucket/t.csv"),
        ("https://host/t.csv?sig=secret", "https://host/t.csv?***"),
        ("data/a@b.csv", "data/a@b.csv"),
    ],
)
def test_addresses_are_shown_without_secrets(address: str, shown: str) -> None:
    assert datasets.CsvReader(path=address).location == shown


# --- SQL --------------------------------------------------------------------------------------------------------------


def test_sql_types_do_not_depend_on_the_batches(database: Path) -> None:
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE t (id INTEGER, n INTEGER, x REAL, mixed, flag BOOLEAN)")
        rows = [(i, i, i / 2, i, True) for i in range(12_000)] + [
            (12_000, None, None, "text", None)
        ]
        connection.executemany("INSERT INTO t VALUES (?, ?, ?, ?, ?)", rows)
    whole = assert_batches_are_the_whole(sql(query="SELECT * FROM t ORDER BY id"), 5_000)
    assert [str(kind) for kind in whole.dtypes] == ["int64", "float64", "float64", "str", "float64"]
    assert whole["mixed"].tolist()[-2:] == ["11999", "text"]
    declared = sql(table="t").read()
    assert str(declared["flag"].dtype) == "boolean"
    assert len(sql(table="t", limit=7).read()) == 7
    assert sql(query="SELECT count(*) AS n FROM t WHERE '%' = '%' AND 'a:b' = 'a:b'").read()[
        "n"
    ].tolist() == [12_001]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"query": "SELEC 1"}, 'near "SELEC": syntax error'),
        ({"query": "SELECT 1 AS a, 2 AS a"}, "more than one column is named 'a'"),
        ({"query": "DELETE FROM hours"}, "not a query that returns rows"),
        ({"query": "SELECT * FROM hours WHERE n > 5"}, "there are no rows"),
        ({"table": "hour"}, "there is no table 'hour'; did you mean 'hours'"),
    ],
)
def test_queries_that_are_refused(database: Path, fields: dict[str, str], reason: str) -> None:
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE hours (n INTEGER)")
    with pytest.raises(errors.DataError, match=reason):
        sql(**fields).read()


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("sqlite:////no/such/folder/x.db", "there is no such file"),
        ("nonsense", "DB does not hold the address of a database"),
        ("nodatabase://u:secret@h/d", "'nodatabase' is not a database that SQLAlchemy knows"),
        ("mysql://u:secret@h/d", "the driver is missing: pip install mysqlclient"),
    ],
)
def test_databases_that_cannot_be_opened(
    monkeypatch: pytest.MonkeyPatch, address: str, reason: str
) -> None:
    monkeypatch.setenv("DB", address)
    with pytest.raises(errors.DataError, match=reason) as caught:
        sql(query="SELECT 1").read()
    assert "secret" not in str(caught.value)


def test_an_unset_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BIKES_DATABASE_URL", raising=False)
    monkeypatch.setenv("BIKES_DATABASE_URI", "sqlite://")
    reader = datasets.SqlReader(address_variable="BIKES_DATABASE_URL", table="hours")
    with pytest.raises(
        errors.DataError, match="BIKES_DATABASE_URL is not set; did you mean 'BIKES_DATABASE_URI'"
    ):
        reader.read()
    assert reader.location == "$BIKES_DATABASE_URL, table hours"


@pytest.mark.filterwarnings("ignore:Query string argument")
def test_an_unreachable_database_is_named_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hunter2").write_text("not a folder")
    monkeypatch.setenv("DB", f"sqlite:///{tmp_path}/hunter2/x.db?token=hunter3")
    with pytest.raises(errors.DataError, match="unable to open database file") as caught:
        datasets.SqlWriter(address_variable="DB", table="t").write(pd.DataFrame({"a": [1]}))
    assert "hunter3" not in str(caught.value)


def test_an_address_is_not_accepted_in_the_place_of_a_variable() -> None:
    with pytest.raises(pdt.ValidationError) as caught:
        datasets.SqlReader(address_variable="postgresql://user:secret@host/db", table="t")
    assert "secret" not in str(caught.value)
    with pytest.raises(pdt.ValidationError, match="give either table or query"):
        datasets.SqlReader(address_variable="DB")


def test_tables_are_refused_replaced_or_added_to(database: Path) -> None:
    def write(rows: list[int], if_exists: str, column: str = "n") -> None:
        writer = datasets.SqlWriter.model_validate(
            {"address_variable": "DB", "table": "hours", "if_exists": if_exists}
        )
        writer.write(pd.DataFrame({column: rows}))

    write([1, 2], "append")  # makes the table
    write([3], "append")
    assert sql(table="hours").read()["n"].tolist() == [1, 2, 3]
    with pytest.raises(
        errors.DataError, match="the table exists; set if_exists: replace or append"
    ):
        write([4], "fail")
    with pytest.raises(errors.DataError, match=r"differ in columns \['m', 'n'\]"):
        write([4], "append", column="m")
    assert sql(table="hours").read()["n"].tolist() == [1, 2, 3]
    write([9], "replace")
    assert sql(table="hours").read()["n"].tolist() == [9]
    assert table_names(database) == ["hours"]


def table_names(database: Path) -> list[str]:
    with sqlite3.connect(database) as connection:
        return [name for (name,) in connection.execute("SELECT name FROM sqlite_master")]


def test_the_last_step_is_one_transaction(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replacing drops the old table before it renames the new one: an accident between the two must undo the first."""
    import sqlalchemy as sa

    writer = datasets.SqlWriter(address_variable="DB", table="hours", if_exists="replace")
    writer.write(pd.DataFrame({"n": [1]}))

    def refuse_renaming(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if "RENAME TO hours" in statement:
            raise KeyboardInterrupt

    sa.event.listen(sa.Engine, "before_cursor_execute", refuse_renaming)
    try:
        with pytest.raises(KeyboardInterrupt):
            writer.write(pd.DataFrame({"n": [2]}))
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", refuse_renaming)
    assert sql(table="hours").read()["n"].tolist() == [1]
    assert table_names(database) == ["hours"]


# --- simulator and records --------------------------------------------------------------------------------------------


def test_the_simulator_is_a_reader() -> None:
    reader = datasets.SimulatedReader(rows=500, missing=0.2, limit=300)
    assert len(assert_batches_are_the_whole(reader, 77)) == 300
    assert reader.location == "simulator (seed 42, 500 hours from 2011-01-01)"
    with pytest.raises(pdt.ValidationError, match="must be a full hour from 2011-01-01"):
        datasets.SimulatedReader(start="1999-01-01")


def test_readers_are_chosen_by_their_kind() -> None:
    kinds = pdt.TypeAdapter(
        pdt.create_model("C", r=(datasets.ReaderKind, pdt.Field(discriminator="KIND")))
    )
    chosen = kinds.validate_python({"r": {"KIND": "CsvReader", "path": "a.csv", "limit": 5}})
    assert chosen.r == datasets.CsvReader(path="a.csv", limit=5)
    with pytest.raises(pdt.ValidationError, match="greater than 0"):
        datasets.ParquetReader(path="a", limit=0)


@pytest.mark.filterwarnings("error")
def test_lineage_names_the_source_and_keeps_the_digest() -> None:
    reader = datasets.SimulatedReader(rows=30)
    data = reader.read().assign(prediction=1.0)
    record = reader.lineage(
        "inputs", data, targets="cnt", predictions="prediction", digest="a" * 64
    )
    assert (record.name, record.digest, record.targets, record.predictions) == (
        "inputs",
        "a" * 36,
        "cnt",
        "prediction",
    )
    assert "simulator (seed 42, 30 hours from 2011-01-01)" in record.to_dict()["source"]
    assert reader.lineage("inputs", data).digest != "a" * 36


# --- all or nothing ---------------------------------------------------------------------------------------------------

TABLE = pd.DataFrame({"n": np.arange(5), "x": np.linspace(0, 1, 5)})


def write_batches(
    writer: datasets.Writer, *batches: pd.DataFrame, accident: type[BaseException] | None = None
) -> None:
    """Write batches, and then have an accident."""
    with writer.open() as sink:
        for batch in batches:
            sink.write(batch)
        if accident:
            raise accident


@pytest.mark.parametrize("kind", ["parquet", "csv", "sql"])
@pytest.mark.parametrize("accident", [RuntimeError, KeyboardInterrupt])
def test_an_accident_leaves_what_was_there(
    tmp_path: Path, database: Path, kind: str, accident: type[BaseException]
) -> None:
    writer, reader = pair(kind, tmp_path)
    for before in (False, True):
        if before:
            writer.write(TABLE)
        with pytest.raises(accident):
            write_batches(writer, TABLE.head(2), accident=accident)
        if before:
            pd.testing.assert_frame_equal(reader.read(), TABLE)
        else:
            with pytest.raises(errors.DataError, match="no such file|there is no table"):
                reader.read()
        leftovers = (
            table_names(database)
            if kind == "sql"
            else [p.name for p in tmp_path.iterdir() if p != database]
        )
        assert leftovers == ([f"pair.{kind}" if kind != "sql" else "pair"] if before else [])


@pytest.mark.parametrize("kind", ["parquet", "csv", "sql"])
def test_batches_that_do_not_belong_together(tmp_path: Path, database: Path, kind: str) -> None:
    writer, _ = pair(kind, tmp_path)
    with pytest.raises(
        errors.DataError, match=r"a batch has columns \['n'\], the first one had \['n', 'x'\]"
    ):
        write_batches(writer, TABLE, TABLE[["n"]])
    with pytest.raises(errors.DataError, match="there was no batch"):
        write_batches(writer)
    with pytest.raises(errors.DataError, match="more than one column is named 'n'"):
        writer.write(TABLE.set_index("n", drop=False))
    assert table_names(database) == [] if kind == "sql" else not list(tmp_path.glob("pair*"))


def test_a_later_batch_that_would_lose_something_is_refused(tmp_path: Path) -> None:
    writer, _ = pair("parquet", tmp_path)
    with pytest.raises(errors.DataError, match="pair.parquet: cannot be written"):
        write_batches(writer, TABLE, TABLE.assign(n="text"))
    assert list(tmp_path.iterdir()) == []


def test_categories_are_written_as_their_values(tmp_path: Path, database: Path) -> None:
    table = pd.DataFrame(
        {
            "number": pd.Categorical([2, None], categories=[1, 2]),
            "text": pd.Categorical(["b", "a"]),
        },
        index=pd.Index([5, 6], name="id"),
    )
    for kind in ("parquet", "csv", "sql"):
        writer, reader = pair(kind, tmp_path)
        with writer.open() as sink:
            sink.write(table.head(1))
            sink.write(table.tail(1))
        data = reader.read()
        assert data[["id", "text"]].to_numpy().tolist() == [[5, "b"], [6, "a"]]
        assert data["number"].fillna(-1).tolist() == [2, -1]


@pytest.mark.parametrize("kind", ["Csv", "Parquet"])
def test_paths_that_cannot_be_written(tmp_path: Path, kind: str) -> None:
    writer = getattr(datasets, f"{kind}Writer")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(
        errors.DataError, match=r"file/table: cannot be written: (Not a directory|File exists)"
    ):
        writer(path=f"{tmp_path}/file/table").write(TABLE)
    with pytest.raises(errors.DataError, match="is a folder; name a file in it"):
        writer(path=str(tmp_path)).write(TABLE)
    assert (tmp_path / "file").read_text() == "in the way"


@pytest.fixture
def small_disk() -> Iterator[None]:
    """Let no file grow beyond 20 kB, which a process meets like a full disk: writing fails half-way."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, old[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, old)


@pytest.mark.parametrize("kind", ["Csv", "Parquet"])
@pytest.mark.usefixtures("small_disk")
def test_a_full_disk_leaves_no_half_file(tmp_path: Path, kind: str) -> None:
    noise = pd.DataFrame({"x": np.random.default_rng(0).normal(size=20_000)})
    writer = getattr(datasets, f"{kind}Writer")(path=str(tmp_path / "table"))
    with pytest.raises(errors.DataError, match=r"table: cannot be written: File too large"):
        writer.write(noise)
    assert list(tmp_path.iterdir()) == []


def test_batches_need_little_memory(tmp_path: Path) -> None:
    """Reading 16 times as many rows in batches takes about the same memory."""
    code = (
        "import resource, sys; from model_name.io import datasets\n"
        "for _ in datasets.ParquetReader(path=sys.argv[1]).batches(10_000): pass\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    peaks = []
    for rows in (50_000, 800_000):
        writer = datasets.ParquetWriter(path=str(tmp_path / f"{rows}.parquet"))
        with writer.open() as sink:
            for batch in datasets.SimulatedReader(rows=rows).batches(50_000):
                sink.write(batch)
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(sys.path),
            "ARROW_DEFAULT_MEMORY_POOL": "system",
        }
        output = subprocess.run(
            [sys.executable, "-c", code, writer.path],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        peaks.append(int(output.stdout))
    table_size = 800_000 * 17 * 8 // 1024  # in kB
    assert peaks[1] - peaks[0] < table_size / 2
