"""Profiles: tables as people have them, what is understood in them, and what is refused with a way out."""

import gzip
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from model_name.core import errors
from model_name.io import datasets, readings
from model_name.scaffold import declarations, profiles
from model_name.scaffold import leaks as searched

ROWS = 120
CSV = {
    "KIND": "CsvReader",
    "trim": True,
    "missing": list(readings.USUAL_MISSING),
}  # of a plain file


def people(rows: int = ROWS) -> pd.DataFrame:
    random = np.random.default_rng(3)
    return pd.DataFrame(
        {
            "age": random.integers(18, 90, rows),
            "income": random.gamma(2, 900, rows).round(2),
            "city": random.choice(["Lyon", "Oslo", "Bern"], rows),
            "left": random.choice(["yes", "no"], rows),
        }
    )


@pytest.fixture
def stored(tmp_path: Path) -> Callable[..., Path]:
    def store(table: pd.DataFrame, **options: object) -> Path:
        path = tmp_path / "people.csv"
        table.to_csv(path, **{"index": False} | options)
        return path

    return store


def profile(path: Path, target: str = "left", **options: str) -> profiles.TableProfile:
    return profiles.profile(path, target, **options)


# ------------------------------------------------------------------------------------------------------------- forms
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_any_usual_separator(stored: Callable[..., Path], separator: str) -> None:
    found = profile(stored(people(), sep=separator))
    assert [column.name for column in found.columns] == ["age", "income", "city", "left"]
    assert found.reader == CSV | ({} if separator == "," else {"separator": separator})


def test_a_byte_order_mark_belongs_to_no_name(stored: Callable[..., Path]) -> None:
    path = stored(people(), encoding="utf-8-sig")
    found = profile(path)
    assert found.columns[0].name == "age"
    assert list(datasets.CsvReader(path=str(path)).read()) == ["age", "income", "city", "left"]


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "utf-16"])
def test_names_that_are_not_ascii_in_any_encoding(
    stored: Callable[..., Path], encoding: str
) -> None:
    table = people().rename(columns={"age": "Größe", "city": "città"})
    path = stored(table, encoding=encoding)
    found = profile(path)
    assert [column.field for column in found.columns] == ["grosse", "income", "citta", "left"]
    assert list(found.reader_of(str(path)).read()) == list(table)


def test_what_is_not_utf8_far_down_is_read_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    lines = ["name,age", *(f"person {k % 7},{k % 50}" for k in range(40_000)), "Zoë,12", ""]
    path.write_bytes("\n".join(lines).encode("cp1252"))
    assert profile(path, "age").reader == CSV | {"encoding": "cp1252"}


def test_a_decimal_comma(stored: Callable[..., Path]) -> None:
    table = people()
    path = stored(table, sep=";", decimal=",")
    found = profile(path, "income")
    assert (found.task, found.reader["decimal"]) == ("regression", ",")
    assert found.named("income").most == table["income"].max()
    read = datasets.CsvReader(path=str(path), separator=";", decimal=",").read()
    pd.testing.assert_series_equal(read["income"], table["income"])


def test_comma_and_point_in_one_table_are_brought_together(stored: Callable[..., Path]) -> None:
    table = people().assign(
        weight=lambda data: data["income"].map(lambda value: f"{value / 7:.4f}".replace(".", ","))
    )
    path = stored(table)
    found = profile(path)
    assert found.reader["columns"] == {"weight": {"kind": "number", "decimal": ","}}
    read = found.reader_of(str(path)).read()
    np.testing.assert_allclose(read["weight"], table["income"] / 7, atol=0.0001)
    assert read["income"].tolist() == table["income"].tolist()


def test_parquet_with_its_own_types(tmp_path: Path) -> None:
    table = people().assign(
        city=lambda data: data["city"].astype("category"), since=pd.Timestamp("2024-01-01")
    )
    table.loc[3:9, "since"] = pd.Timestamp("2024-05-01")
    table.to_parquet(tmp_path / "people.parquet")
    found = profile(tmp_path / "people.parquet")
    kinds = {column.name: column.kind for column in found.columns}
    assert kinds == {
        "age": "integer",
        "income": "number",
        "city": "category",
        "left": "category",
        "since": "date",
    }
    assert found.reader == {"KIND": "ParquetReader"}


def test_quoted_texts_with_separators_and_line_ends(stored: Callable[..., Path]) -> None:
    table = people().assign(
        note=['"so", he said\nand left' if k % 2 else "nothing; really" for k in range(ROWS)]
    )
    assert profile(stored(table)).named("note").categories == (
        '"so", he said\nand left',
        "nothing; really",
    )


# ----------------------------------------------------------------------------------------------------------- columns
def test_types_gaps_ranges_and_categories(stored: Callable[..., Path]) -> None:
    table = people().assign(
        member=lambda data: (data["age"] % 3 == 0).astype(int),
        consent=["Yes", "No", None] * (ROWS // 3),
        rooms=[1, 2, 3, None] * (ROWS // 4),
        month=[k % 12 + 1 for k in range(ROWS)],
    )
    found = profile(stored(table))
    described = {column.name: (column.kind, round(column.missing, 2)) for column in found.columns}
    assert described == {
        "age": ("integer", 0), "income": ("number", 0), "city": ("category", 0), "left": ("category", 0),
        "member": ("boolean", 0), "consent": ("boolean", 0.33), "rooms": ("integer", 0.25), "month": ("integer", 0),
    }  # fmt: skip
    assert (found.named("age").least, found.named("age").most) == (
        table["age"].min(),
        table["age"].max(),
    )
    assert found.named("city").categories == ("Bern", "Lyon", "Oslo")
    assert found.named("left").categories == ("no", "yes"), "a target keeps the words of its owner"
    assert found.named("month").dense


def test_zeros_in_front_make_a_name(stored: Callable[..., Path]) -> None:
    found = profile(stored(people().assign(zip=[f"{k % 30:05d}" for k in range(ROWS)])))
    assert (found.named("zip").kind, found.named("zip").use) == ("text", "feature")


def test_a_column_that_mixes_numbers_and_words_stays_a_text_and_says_so(
    stored: Callable[..., Path],
) -> None:
    found = profile(stored(people().assign(size=["12", "14", "large"] * (ROWS // 3)))).named("size")
    assert (found.kind, found.categories) == ("category", ("12", "14", "large"))
    assert "mixes numbers (67% of the values)" in found.notes[0]
    assert "`large`" in found.notes[0]


@pytest.mark.parametrize("word", ["unknown", "#NV", "#DIV/0!", "k.A.", "out of order"])
def test_a_few_words_among_numbers_are_missing_values_and_that_is_said(
    stored: Callable[..., Path], word: str
) -> None:
    table = people().assign(size=[word if k % 10 == 3 else str(k % 40 + 1) for k in range(ROWS)])
    path = stored(table)
    found = profile(path)
    assert (found.named("size").kind, found.named("size").use) == ("integer", "feature")
    assert f"In it `{word}` stands for a missing value (12 rows)." in found.named("size").notes
    assert found.reader_of(str(path)).read()["size"].isna().sum() == 12


def test_a_question_mark_among_numbers_is_a_missing_value(stored: Callable[..., Path]) -> None:
    table = people().assign(size=["12", "14", "?", "16"] * (ROWS // 4))
    path = stored(table)
    found = profile(path)
    assert (found.named("size").kind, found.named("size").missing) == ("integer", 0.25)
    assert found.reader_of(str(path)).read()["size"].isna().sum() == ROWS / 4


@pytest.mark.parametrize(
    ("written", "options"),
    [
        ("${:,.2f}", {}), ("{:,.2f}", {}), ("{:.2f} %", {}), ("{:,.2f} €", {}), ("+{:.2f}", {}),
        ("{:,.2f} €", {"sep": ";", "decimal": ","}), ("{:,.2f} EUR", {"sep": ";", "decimal": ","}), ("USD {:,.2f}", {}),
        ("{:,.2f} kg", {}), ("CHF {:.2f}", {}),
    ],
)  # fmt: skip
def test_amounts_as_people_write_them(
    stored: Callable[..., Path], written: str, options: dict[str, str]
) -> None:
    amounts = [1_000.25 + 317.5 * k for k in range(ROWS)]
    texts = pd.Series([written.format(amount) for amount in amounts])
    if options:  # 1.317,75 €
        texts = texts.str.translate(str.maketrans(",.", ".,"))
    path = stored(people().assign(paid=texts), **options)
    found = profile(path)
    assert (found.named("paid").kind, found.named("paid").use) == ("number", "feature")
    np.testing.assert_allclose(found.reader_of(str(path)).read()["paid"], amounts)
    assert ("paid" in found.reader.get("columns", {})) == (written != "+{:.2f}"), (
        "a plain number is read as it is"
    )


def test_words_with_digits_are_no_amounts(stored: Callable[..., Path]) -> None:
    found = profile(stored(people().assign(size=["$12", "12 kg", "1,2"] * (ROWS // 3))))
    assert found.named("size").kind == "category"


@pytest.mark.parametrize("name", ["a file", "a Parquet file"])
def test_a_column_of_lists_is_left_out(tmp_path: Path, name: str) -> None:
    table = people().assign(tags=[[k % 3, k] for k in range(ROWS)])
    path = tmp_path / ("people.csv" if name == "a file" else "people.parquet")
    table.to_csv(path, index=False) if name == "a file" else table.to_parquet(path)
    found = profile(path).named("tags")
    assert (found.kind, found.use) == ("list", "left out")
    assert "columns of their own" in found.notes[-1]


def test_unnamed_columns_are_left_out(stored: Callable[..., Path], tmp_path: Path) -> None:
    one = profile(stored(people(), index=True))
    assert [column.use for column in one.columns if column.name.startswith("\0")] == ["left out"]
    assert one.reader == CSV
    path = tmp_path / "two.csv"
    path.write_text(
        "\n".join([",age,,left", *(f"{k},{k % 40},x,{k % 2}" for k in range(60))]), encoding="utf-8"
    )
    two = profile(path)
    assert [column.use for column in two.columns] == ["left out", "feature", "left out", "target"]
    declarations.require_accepted(two, str(path))


def test_a_constant_and_an_empty_column_are_left_out(stored: Callable[..., Path]) -> None:
    found = profile(stored(people().assign(country="CH", note=None)))
    assert {column.name: column.use for column in found.of("left out")} == {
        "country": "left out",
        "note": "left out",
    }


def test_prose_and_names_are_kept_and_are_no_features(stored: Callable[..., Path]) -> None:
    found = profile(stored(people().assign(note=[f"said {k}" for k in range(ROWS)])))
    assert found.named("note").use == "kept"


@pytest.mark.parametrize(
    ("written", "first"),
    [
        ("%Y-%m-%d", "2024-01-13"), ("%d.%m.%Y", "2024-01-13"), ("%m/%d/%Y", "2024-01-13"), ("%d/%m/%Y", "2024-01-13"),
        ("%Y-%m-%dT%H:%M:%S", "2024-01-13"), ("%d %b %Y", "2024-01-13"), ("%Y/%m/%d %H:%M", "2024-01-13"),
    ],
)  # fmt: skip
def test_dates_in_any_usual_form(stored: Callable[..., Path], written: str, first: str) -> None:
    days = pd.date_range(first, periods=ROWS, freq="D")
    path = stored(people().assign(day=days.strftime(written)))
    found = profile(path)
    day = found.named("day")
    assert (day.kind, day.time, str(day.least)[:10]) == ("date", True, first)
    assert ("columns" not in found.reader) == written.startswith("%Y-"), (
        "ISO 8601 is what schemas read"
    )
    assert (
        declarations.build(found)["Inputs"].check(found.reader_of(str(path)).read())["day"].tolist()
        == days.tolist()
    )


def test_a_birthday_is_no_time(stored: Callable[..., Path]) -> None:
    days = pd.date_range("1960-01-01", periods=ROWS, freq="90D").strftime("%Y-%m-%d")
    assert profile(stored(people().assign(date_of_birth=days))).time is None


# ------------------------------------------------------------------------------------------------------------- names
@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("age (years)", "age_years"), ("class", "class_"), ("2nd", "column_2nd"), ("größe", "grosse"), ("age", "age"),
        ("Exited", "Exited"), ("creditScore", "credit_score"), ("check", "check_"), ("日付", "column_7"), ("l", "l_"),
        ("_private", "private"), ("a__b", "a_b"), ("%", "column_7"), ("Index", "index"), ("HTTP status", "http_status"),
    ],
)  # fmt: skip
def test_names_that_python_does_not_take(name: str, field: str) -> None:
    assert profiles.field_name(name, 7) == field


@given(st.lists(st.text(max_size=12), min_size=1, max_size=8))
def test_every_list_of_names_gets_identifiers_each_once(names: list[str]) -> None:
    fields = profiles._field_names(names)
    assert len(set(fields)) == len(names)
    assert all(
        field.isidentifier() and field.isascii() and not field.startswith("_") for field in fields
    )


# ------------------------------------------------------------------------------------------------- index, task, leaks
def test_the_index_is_the_name_of_the_row_and_not_its_number(stored: Callable[..., Path]) -> None:
    table = people().assign(row=range(ROWS), customer_id=[7_000 + 13 * k for k in range(ROWS)])
    found = profile(stored(table))
    assert [column.name for column in found.of("index")] == ["customer_id"]
    assert found.named("row").use == "kept"
    assert profile(stored(table), index="row").named("row").use == "index"
    assert profile(stored(people())).of("index") == []


@pytest.mark.parametrize(
    "name", ["Kunde-Nr", "Customer ID", "customer.id", "custId", "OrderNumber", "Kd. Nr."]
)
def test_a_number_of_the_row_is_known_by_any_usual_name(
    stored: Callable[..., Path], name: str
) -> None:
    table = people().assign(**{name: [7_000 + 13 * k for k in range(ROWS)]})
    assert [column.name for column in profile(stored(table)).of("index")] == [name]


@pytest.mark.parametrize("name", ["paid", "humid", "avoid", "Euro"])
def test_words_that_end_like_a_number_of_the_row_are_amounts(
    stored: Callable[..., Path], name: str
) -> None:
    table = people().assign(**{name: [7_000 + 13 * k for k in range(ROWS)]})
    assert profile(stored(table)).named(name).use == "feature"


@pytest.mark.parametrize(
    ("target", "asked", "task"),
    [
        ("left", None, "classification"), ("city", None, "classification"), ("income", None, "regression"),
        ("age", None, "regression"), ("stars", None, "classification"), ("stars", "regression", "regression"),
        ("decade", "classification", "classification"),
    ],
)  # fmt: skip
def test_the_task_follows_from_the_target_unless_it_is_said(
    stored: Callable[..., Path], target: str, asked: str | None, task: str
) -> None:
    table = people().assign(
        stars=[1, 2, 3, 4, 5] * (ROWS // 5), decade=[k % 9 + 1 for k in range(ROWS)]
    )
    assert profiles.profile(stored(table), target, task=asked).task == task


def leaks(table: pd.DataFrame, target: str) -> dict[str, str]:
    return searched.find_leaks(
        {name: table[name] for name in table if name != target}, table[target]
    )


def test_leaks_are_found_with_their_evidence() -> None:
    table = people(2_000)
    table["code"] = table["left"].map({"yes": "L", "no": "S"})
    table["leaving"] = table["left"]
    table["reason"] = table["city"].where(table["left"] == "yes")
    found = leaks(table, "left")
    assert set(found) == {"code", "leaving", "reason"}
    assert "each of its values" in found["code"]
    assert "equals" in found["leaving"]
    assert "being missing" in found["reason"]


def test_numbers_that_make_the_target_are_leaks() -> None:
    random = np.random.default_rng(1)
    table = pd.DataFrame(random.normal(5, 2, (500, 4)), columns=["one", "two", "noise", "more"])
    assert set(leaks(table.assign(sum=table["one"] + table["two"]), "sum")) == {"one", "two"}
    assert (
        leaks(table.assign(rest=table["one"] - table["two"]), "rest")["one"]
        == "the target is `one` - `two`"
    )
    assert set(leaks(table.assign(area=table["more"] * table["two"]), "area")) == {"more", "two"}
    assert "order" in leaks(table.assign(tax=table["one"] * 1.19 + 3), "tax")["one"]
    assert "separates" in leaks(table.assign(high=table["one"] > 5), "high")["one"]


def test_strong_features_are_no_leaks() -> None:
    random = np.random.default_rng(2)
    table = pd.DataFrame(
        {"one": random.normal(size=3_000), "city": random.choice(list("abc"), 3_000)}
    )
    table["target"] = 3 * table["one"] + (table["city"] == "a") + random.normal(0, 0.1, 3_000)
    table["label"] = (table["one"] + random.normal(0, 0.1, 3_000)) > 0
    assert leaks(table[["one", "city", "target"]], "target") == {}
    assert leaks(table[["one", "city", "label"]], "label") == {}


def test_a_profile_survives_json(stored: Callable[..., Path]) -> None:
    found = profile(
        stored(people().assign(flag=[True, False] * (ROWS // 2), bit=[0, 1] * (ROWS // 2)))
    )
    again = profiles.TableProfile.model_validate_json(found.model_dump_json())
    assert again == found
    assert [type(value) for value in again.named("bit").categories] == [int, int]
    assert [type(value) for value in again.named("flag").categories] == [bool, bool]


# ---------------------------------------------------------------------------------------------------------- refusals
def refusal(path: Path, target: str = "left", **options: str) -> str:
    with pytest.raises(errors.DataError) as caught:
        profiles.profile(path, target, **options)
    return str(caught.value)


def test_a_target_that_is_not_there(stored: Callable[..., Path]) -> None:
    said = refusal(stored(people()), "Left")
    assert said == (
        "people.csv has no column 'Left' for the target; did you mean 'left'? (columns: age, income, city, left)"
    )


def test_an_index_that_is_not_there_or_repeats(stored: Callable[..., Path]) -> None:
    assert "no column 'ages' for the index; did you mean 'age'?" in refusal(
        stored(people()), index="ages"
    )
    assert "does not name every row" in refusal(stored(people()), index="city")


def test_a_constant_target(stored: Callable[..., Path]) -> None:
    said = refusal(stored(people().assign(left="yes")))
    assert "the target 'left' is 'yes' in all of the 120 rows" in said


def test_a_target_with_missing_values(stored: Callable[..., Path]) -> None:
    table = people()
    table.loc[:6, "left"] = None
    assert "the target 'left' has no value in 7 of 120 rows: remove these rows" in refusal(
        stored(table)
    )


def test_a_table_with_one_row(stored: Callable[..., Path]) -> None:
    assert "people.csv has 1 row: a model is trained on some rows and tested on others" in refusal(
        stored(people(1))
    )


def test_duplicate_columns(tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_text(
        "\n".join(["age,age,left", *(f"{k},{k},{k % 2}" for k in range(40))]), encoding="utf-8"
    )
    assert "more than one column is named 'age': rename one" in refusal(path)
    table = pa.table(
        [pa.array(range(40)), pa.array(range(40)), pa.array(["a", "b"] * 20)],
        ["age", "age", "left"],
    )
    parquet.write_table(table, tmp_path / "people.parquet")
    assert "more than one column is named 'age': rename one" in refusal(tmp_path / "people.parquet")


def test_tasks_that_a_target_does_not_allow(stored: Callable[..., Path]) -> None:
    assert "only numbers can be regressed: --task classification" in refusal(
        stored(people()), task="regression"
    )
    assert "--task regression" in refusal(stored(people()), "income", task="classification")
    days = pd.date_range("2024-01-01", periods=ROWS).strftime("%Y-%m-%d")
    assert "is a date" in refusal(stored(people().assign(day=days)), "day")


def test_nothing_to_learn_from(stored: Callable[..., Path]) -> None:
    said = refusal(stored(pd.DataFrame({"same": 1, "left": ["yes", "no"] * 20})))
    assert (
        "no column is left to learn from: 'same' is left out (It is the same in every row" in said
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (None, "no such file"),
        (
            b"a,b\n1,2\n" * 3 + b"1,2,3\n" + b"1,2\n" * 50,
            "line 7 has 3 values where the header has 2",
        ),
    ],
)
def test_files_that_are_no_tables(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "people.csv"
    if content is not None:
        path.write_bytes(content)
    assert said in refusal(path, "b")


def test_hundreds_of_columns(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    table = pd.DataFrame(
        random.normal(size=(60, 600)).round(3), columns=[f"sensor {k}" for k in range(600)]
    )
    table.assign(state=random.choice(["on", "off"], 60)).to_csv(tmp_path / "wide.csv", index=False)
    found = profile(tmp_path / "wide.csv", "state")
    assert len(found.of("feature")) == 600
    assert found.columns[599].field == "sensor_599"
    assert sys.getsizeof(json.dumps(found.model_dump())) < 600_000


# ------------------------------------------------------------------------------------------------------- one reading
def test_ambiguous_dates_are_asked_for_or_follow_the_others(stored: Callable[..., Path]) -> None:
    early = [f"{k % 12 + 1:02d}/{k % 11 + 1:02d}/2005" for k in range(ROWS)]
    path = stored(people().assign(due=early))
    assert "--date-order day-first, or --date-order month-first" in refusal(path)
    assert (
        str(profiles.profile(path, "left", date_order="month-first").named("due").most)[:7]
        == "2005-12"
    )
    others = [f"{k % 28 + 1:02d}/03/2005" for k in range(ROWS)]
    followed = profile(stored(people().assign(due=early, paid=others))).named("due")
    assert (
        followed.notes[0]
        == "Its dates are read as day and then month, as in the other dates of the table."
    )
    monthly = [f"01/{k % 12 + 1:02d}/{2005 + k // 12}" for k in range(ROWS)]
    months = profile(stored(people().assign(month=monthly))).named("month")
    assert str(months.most)[:10] == "2014-12-01"
    assert "Otherwise all would be of one month" in months.notes[0]


def test_births_open_ends_and_large_numbers(stored: Callable[..., Path]) -> None:
    table = people().assign(
        born=[f"{k % 28 + 1:02d}.12.{k % 80 + 20:02d}" for k in range(ROWS)],
        until=["31.12.9999" if k % 2 else f"{k % 28 + 1:02d}.06.2024" for k in range(ROWS)],
        serial=[2**53 + k for k in range(ROWS)],
    )
    found = profile(stored(table))
    assert str(found.named("born").most)[:4] < "2027"
    assert (found.named("until").missing, str(found.named("until").most)[:4]) == (0.5, "2024")
    assert "no day but an open end" in found.named("until").notes[1]
    assert (found.named("serial").distinct, found.named("serial").least) == (ROWS, 2**53)


def test_labels_that_differ_in_case_and_blanks_are_one_and_that_is_said(
    stored: Callable[..., Path],
) -> None:
    path = stored(people().assign(left=["Yes", "yes", "YES ", "No"] * (ROWS // 4)))
    found = profile(path)
    assert found.named("left").categories == ("No", "Yes")
    assert "are one label" in found.named("left").notes[0]
    assert sorted(found.reader_of(str(path)).read()["left"].unique()) == ["No", "Yes"]


def test_numbers_of_the_row_are_known_by_their_values(stored: Callable[..., Path]) -> None:
    for values in (
        [f"K{k:04d}" for k in range(ROWS)],
        [4_000 + k for k in range(ROWS)],
        [2**60 + 7 * k for k in range(ROWS)],
    ):
        found = profile(stored(people().assign(trade=values)))
        assert found.named("trade").use == "index", values[0]


def test_names_of_outputs_are_changed_on_reading(stored: Callable[..., Path]) -> None:
    path = stored(people().rename(columns={"left": "prediction", "age": "probability_of_age"}))
    found = profile(path, "prediction")
    assert (found.target, found.columns[0].name) == (
        "observed_prediction",
        "observed_probability_of_age",
    )
    declarations.require_accepted(found, str(path))


def test_a_label_of_one_row_and_advice_that_does_not_go_in_circles(
    stored: Callable[..., Path],
) -> None:
    table = people()
    table.loc[5, "left"] = "perhaps"
    assert "labels that are in a single row: 'perhaps'" in refusal(stored(table))
    table["left"] = [f"label {k}" for k in range(ROWS)]
    for task in ("classification", "regression"):
        assert "put the texts into groups" in refusal(stored(table), task=task)


@pytest.mark.parametrize("share", [0.02, 0.005, 0.001])
def test_what_only_the_rare_label_has_is_a_leak_however_rare_it_is(share: float) -> None:
    random = np.random.default_rng(4)
    fraud = pd.Series(np.arange(4_000) % round(1 / share) == 0)
    when = pd.Series(pd.date_range("2024-01-01", periods=4_000, freq="h"))
    table = pd.DataFrame(
        {
            "chargeback_date": when.where(fraud),
            "when": when,
            "gap": when.where(random.random(4_000) > share),
        }
    )
    table["strong"] = random.normal(size=4_000) + 3 * fraud
    assert set(leaks(table.assign(fraud=fraud), "fraud")) == {"chargeback_date"}


# ---------------------------------------------------------------------------------------- newer rows of the same kind
@pytest.mark.parametrize(
    ("seen", "newer", "value"),
    [
        (["9,50 €", "8,00 €"], "1.200,00 €", 1200.0),
        (["$9.50", "$8"], "$1,200.00", 1200.0),
        (["(5.00)", "3.00"], "(1,200.00)", -1200.0),
        (["1,50", "2,25"], "1.000,50", 1000.5),
        (["1.5", "2.5", "3", "4", "5", "#DIV/0!"], "#REF!", np.nan),
        (["20.0", "", "21.0"], "20.5", 20.5),
        (["20", "", "21"], "20.5", 20.5),
    ],
)
def test_numbers_beyond_those_seen_are_read_too(
    stored: Callable[..., Path], tmp_path: Path, seen: list[str], newer: str, value: float
) -> None:
    table = people().assign(paid=[seen[k % len(seen)] for k in range(ROWS)])
    found = profile(stored(table))
    table.assign(paid=[seen[0], newer] * (ROWS // 2)).to_csv(tmp_path / "newer.csv", index=False)
    read = found.reader_of(str(tmp_path / "newer.csv")).read()
    column = found.named("paid")
    assert column.use == "feature"
    checked = declarations.build(found)["Inputs"].check(read)["paid"]
    np.testing.assert_array_equal(checked.iloc[1], value)


def test_amounts_above_a_thousand_have_shown_how_they_are_written(
    stored: Callable[..., Path],
) -> None:
    path = stored(people().assign(paid=["$1200.50", "$8.00"] * (ROWS // 2)))
    assert "thousands" not in profile(path).reader["columns"]["paid"]


def test_the_code_of_namibia_is_no_gap_when_it_comes_later(
    stored: Callable[..., Path], tmp_path: Path
) -> None:
    table = people().assign(country=["DE", "US", "FR", "ZA"] * (ROWS // 4))
    found = profile(stored(table))
    table.assign(country="NA").to_csv(tmp_path / "newer.csv", index=False)
    read = found.reader_of(str(tmp_path / "newer.csv")).read()
    assert set(declarations.build(found)["Inputs"].check(read)["country"]) == {"NA"}


@pytest.mark.parametrize("written", [["0.0", "1.0"], ["1.0", "2.0", "3.0"]])
def test_labels_that_were_stored_as_floats_are_labels(
    stored: Callable[..., Path], written: list[str]
) -> None:
    path = stored(people().assign(left=[written[k % len(written)] for k in range(ROWS)]))
    found = profile(path)
    assert found.task == "classification"
    targets = declarations.build(found)["Targets"].check(found.reader_of(str(path)).read())
    assert sorted(targets["left"].unique()) == [int(float(label)) for label in written]
    assert profile(path, task="regression").task == "regression"
    many = stored(people().assign(left=[f"{k % 9}.0" for k in range(ROWS)]))
    assert (profile(many).task, profile(many, task="classification").task) == (
        "regression",
        "classification",
    )


@pytest.mark.parametrize(("name", "limited"), [("score", False), ("pct", False), ("visits", True)])
def test_a_target_is_limited_by_its_name_and_never_by_what_was_seen(
    stored: Callable[..., Path], name: str, limited: bool
) -> None:
    found = profile(stored(people().assign(**{name: range(ROWS)})), name)
    check = declarations.build(found)["Targets"].check
    if limited:
        with pytest.raises(errors.DataError, match="below the least allowed value"):
            check(pd.DataFrame({name: [-3, 4]}))
    else:
        assert check(pd.DataFrame({name: [-3, 4]}))[name].tolist() == [-3, 4]


def test_whole_numbers_beyond_64_bits_stay_apart(tmp_path: Path) -> None:
    serial = np.array([2**63 + k % 3 for k in range(ROWS)], dtype="uint64")
    people().assign(serial=serial).to_parquet(tmp_path / "people.parquet")
    found = profile(tmp_path / "people.parquet")
    assert found.named("serial").categories == tuple(str(2**63 + k) for k in range(3))
    assert set(found.reader_of(str(tmp_path / "people.parquet")).read()["serial"]) == set(
        map(str, serial)
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"PK\x03\x04" + b"0" * 500, "Excel workbook"),
        (b"\xd0\xcf\x11\xe0" + b"0" * 500, "old Excel workbook"),
        (gzip.compress(b"a,left\n1,2\n", mtime=0), "call it .csv.gz"),
        (b"<!doctype html><html><body>404</body></html>", "looks like HTML, XML or JSON"),
        (b'[{"a": 1, "left": 2}]', "looks like HTML, XML or JSON"),
        (b'{"a": 1, "left": 2}\n' * 30, "looks like HTML, XML or JSON"),
        ("a,left\n1,2\n".encode("utf-16-le"), "UTF-16 without a mark"),
        ("a,left\n1,2\n".encode("utf-32"), "UTF-32"),
    ],
)
def test_files_of_another_kind_are_named(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "people.csv").write_bytes(content)
    assert said in refusal(tmp_path / "people.csv")


def test_bytes_that_windows_does_not_know_are_read_as_latin_1(tmp_path: Path) -> None:
    text = people().assign(city="Z\xfcrich\x81").to_csv(index=False).encode("latin-1")
    (tmp_path / "people.csv").write_bytes(text)
    assert profile(tmp_path / "people.csv").reader["encoding"] == "latin-1"


@pytest.mark.parametrize(("filled", "found"), [(0.95, True), (0.6, True), (0.3, False)])
def test_what_most_rows_of_the_rare_label_have_and_no_others_is_a_leak(
    filled: float, found: bool
) -> None:
    random = np.random.default_rng(6)
    fraud = pd.Series(np.arange(4_000) % 20 == 0)
    when = pd.Series(pd.date_range("2024-01-01", periods=4_000, freq="h"))
    table = pd.DataFrame(
        {"chargeback_date": when.where(fraud & (random.random(4_000) < filled)), "fraud": fraud}
    )
    table["often"] = when.where(
        (fraud & (random.random(4_000) < 0.9)) | (random.random(4_000) < 0.05)
    )
    assert set(leaks(table, "fraud")) == ({"chargeback_date"} if found else set())


@pytest.mark.parametrize(
    ("written", "alike"),
    [
        (["Jan-24", "Feb-24"], True),
        (["2024-W05", "2024-W06"], True),
        (["31. Januar 2024", "28. Februar 2024"], True),
        (["31/12/2024", "2024-01-05", "15.03.2024"], True),
        (["31/01/2024 01:05 +0100", "28/02/2024 11:30 +0100"], True),
        (["10.0.0.1", "10.0.0.2"], False),
        (["2024-01-31-001", "2024-01-31-002"], False),
        (["pack 10", "pack 20"], False),
        (["1.10.0", "1.2.0"], False),
    ],
)
def test_dates_that_are_not_read_are_named(
    stored: Callable[..., Path], written: list[str], alike: bool
) -> None:
    found = profile(
        stored(people().assign(when=[written[k % len(written)] for k in range(ROWS)]))
    ).named("when")
    assert found.kind == "category"
    assert any("look like dates" in note for note in found.notes) == alike
