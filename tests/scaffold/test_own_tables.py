"""A project takes its own table: in every usual form, shuffled, and with newer rows of the same kind.

Each table is written as people write tables. What `profile` understands is declared, and the declarations are held
against the table, a shuffled copy and newer rows, all read by the reader that is written into the configurations.
"""

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model_name.core import errors
from model_name.scaffold import declarations, profiles

ROWS = 60
TODAY = datetime.date(2026, 11, 26)
Random = np.random.Generator


class Kind(NamedTuple):
    """A kind of column: its values, in a first and in a newer version, and how each is written."""

    values: Callable[[Random, int, bool], list[Any]]
    forms: dict[str, Callable[[Any], str]]


def days(random: Random, rows: int, newer: bool) -> list[Any]:
    first = pd.Timestamp("2026-01-01" if newer else "2020-01-01")
    return [
        first + pd.Timedelta(days=int(day))
        for day in random.integers(0, 1_500 if not newer else 300, rows)
    ]


def local_times(random: Random, rows: int, newer: bool) -> list[Any]:
    return [day.tz_localize("UTC").tz_convert("Europe/Berlin") for day in days(random, rows, newer)]


def births(random: Random, rows: int, newer: bool) -> list[Any]:
    return [
        pd.Timestamp("1930-01-15") + pd.Timedelta(days=int(day))
        for day in random.integers(0, 33_000, rows)
    ]


def amounts(random: Random, rows: int, newer: bool) -> list[Any]:
    return [
        round(float(value), 2) for value in random.normal(1_500, 1_200 * (2 if newer else 1), rows)
    ]


def comma(text: str) -> str:
    """Exchange point and comma."""
    return text.translate(str.maketrans(",.", ".,"))


def strftime(form: str) -> Callable[[Any], str]:
    return lambda day: str(day.strftime(form))


def clock(seconds: int) -> str:
    return f"{seconds // 3600}:{seconds % 3600 // 60:02d}:{seconds % 60:02d}"


KINDS: dict[str, Kind] = {
    "orders": Kind(
        lambda random, rows, newer: random.integers(0, 30 if newer else 5, rows).tolist(),
        {"plain": str, "blanks": " {} ".format},
    ),
    "level": Kind(
        lambda random, rows, newer: random.integers(-40 if newer else 2, 90, rows).tolist(),
        {"plain": str},
    ),
    "ratio": Kind(
        lambda random, rows, newer: random.normal(0.5, 2 if newer else 0.1, rows).round(4).tolist(),
        {"plain": str},
    ),
    "paid": Kind(
        amounts,
        {
            "plain": "{:.2f}".format,
            "dollars": "${:,.2f}".format,
            "euros": lambda v: comma(f"{v:,.2f} €"),
            "code": lambda v: comma(f"{v:,.2f} EUR"),
            "francs": lambda v: f"CHF {v:,.2f}".replace(",", "'"),
            "comma": lambda v: f"{v:.2f}".replace(".", ","),
            "percent": "{:.2f} %".format,
            "kilos": "{:.2f} kg".format,
            "behind": lambda v: f"{abs(v):.2f}{'-' if v < 0 else ''}",
            "narrow": lambda v: f"{v:,.2f}".replace(",", "\u202f"),
        },
    ),
    "opened": Kind(
        days,
        {
            name: strftime(form)
            for name, form in {
                "iso": "%Y-%m-%d",
                "iso time": "%Y-%m-%dT%H:%M:%S",
                "points": "%d.%m.%Y",
                "slashes": "%d/%m/%Y",
                "american": "%m/%d/%Y",
                "time": "%d.%m.%Y %H:%M",
                "short": "%d.%m.%y",
                "month": "%d %b %Y",
                "compact": "%Y%m%d",
                "noon": "%m/%d/%Y %I:%M %p",
                "utc": "%Y-%m-%dT%H:%M:%SZ",
            }.items()
        },
    ),
    "read_at": Kind(local_times, {"offset": lambda time: str(time.isoformat())}),
    "date_of_birth": Kind(
        births,
        {"short": strftime("%d.%m.%y"), "iso": strftime("%Y-%m-%d"), "us": strftime("%m/%d/%Y")},
    ),
    "colour": Kind(
        lambda random, rows, newer: random.choice(
            ["red", "green", "blue"] + ["violet"] * newer, rows
        ).tolist(),
        {"plain": str, "blanks": " {}  ".format, "capitals": str.upper},
    ),
    "active": Kind(
        lambda random, rows, newer: random.choice([True, False], rows).tolist(),
        {
            "python": str,
            "digits": lambda v: str(int(v)),
            "words": lambda v: "Yes" if v else "no",
            "letters": lambda v: "y" if v else "N",
            "german": lambda v: "ja" if v else "nein",
        },
    ),
    "zip": Kind(
        lambda random, rows, newer: random.integers(0, 40, rows).tolist(),
        {"zeros": "{:05d}".format},
    ),
    "lasted": Kind(
        lambda random, rows, newer: random.integers(0, 90_000, rows).tolist(),
        {
            "clock": clock,
            "pandas": lambda s: str(pd.Timedelta(seconds=s)),
        },
    ),
    "serial": Kind(
        lambda random, rows, newer: (2**53 + random.permutation(9 * rows)[:rows]).tolist(),
        {"plain": str},
    ),
    "ticket": Kind(
        lambda random, rows, newer: list(range(700 + 100 * newer, 700 + 100 * newer + rows)),
        {"plain": str, "code": "K{:04d}".format},
    ),
    "self": Kind(
        lambda random, rows, newer: random.normal(size=rows).round(3).tolist(), {"plain": str}
    ),
    "prediction": Kind(
        lambda random, rows, newer: random.normal(size=rows).round(3).tolist(), {"plain": str}
    ),
}
HEADERS = {
    "orders": ["orders", "orders\nper day", " orders", "Orders (n)", "count", ""],
    "level": ["level", "class", "index", "values", "dtype", "2nd"],
}
NEVER_MISSING = {"ticket", "serial"}
MISSING = ["", "NA", "NULL", "None", "N/A", "#N/A", "-", "?"]


@st.composite
def tables(draw: st.DrawFn) -> dict[str, Any]:
    """Draw what a table is made of."""
    names = draw(st.lists(st.sampled_from(sorted(KINDS)), min_size=2, max_size=6, unique=True))
    forms = {name: draw(st.sampled_from(sorted(KINDS[name].forms))) for name in names}
    separator = draw(st.sampled_from([",", ";", "\t", "|"]))
    return {
        "forms": forms,
        "headers": {name: draw(st.sampled_from(HEADERS.get(name, [name]))) for name in names},
        "gaps": {
            name: draw(st.sampled_from(MISSING))
            for name in names
            if name not in NEVER_MISSING and draw(st.booleans())
        },
        "separator": separator,
        "encoding": draw(st.sampled_from(["utf-8", "utf-8-sig", "cp1252", "utf-16"])),
        "target": draw(st.sampled_from(["amount", "answer", "Grade", "prediction of it"])),
        "seed": draw(st.integers(0, 2**16)),
    }


def write(made: dict[str, Any], path: Path, newer: bool = False, shuffle: bool = False) -> str:
    """Write a table as it was drawn; return the name of its target."""
    random = np.random.default_rng(made["seed"] + newer)
    written: dict[str, list[str]] = {}
    for name, form in made["forms"].items():
        values = KINDS[name].values(random, ROWS, newer)
        texts = [KINDS[name].forms[form](value) for value in values]
        if name in made["gaps"]:
            every = 5 if newer else 9
            texts = [
                made["gaps"][name] if row % every == 2 else text for row, text in enumerate(texts)
            ]
        written[name] = texts
    targets = {
        "amount": [f"{value:.2f}" for value in random.normal(10, 50 if newer else 3, ROWS)],
        "answer": [random.choice(["Yes", "yes ", "No", "no"]) for _ in range(ROWS)],
        "Grade": [random.choice(["low", "high", "none"]) for _ in range(ROWS)],
        "prediction of it": [str(value) for value in random.integers(0, 9, ROWS)],
    }
    frame = pd.DataFrame(written)
    frame["\0"] = targets[made["target"]]
    if shuffle:
        frame = frame.sample(frac=1, random_state=1)
    frame.columns = [*(made["headers"][name] for name in written), made["target"]]
    text = frame.to_csv(index=False, sep=made["separator"])
    path.write_bytes(
        text.encode(
            made["encoding"], errors="replace" if made["encoding"] == "cp1252" else "strict"
        )
    )
    return str(made["target"])


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(made=tables())
def test_a_project_takes_its_own_table_a_shuffled_copy_and_newer_rows(
    made: dict[str, Any], tmp_path: Path
) -> None:
    paths = {name: tmp_path / f"{name}.csv" for name in ("own", "shuffled", "newer")}
    target = write(made, paths["own"])
    write(made, paths["shuffled"], shuffle=True)
    write(made, paths["newer"], newer=True)
    try:
        found = profiles.profile(paths["own"], target, today=TODAY)
        declarations.require_accepted(found, str(paths["own"]))
    except errors.DataError as refused:
        ways = ("--date-order", "rename", "no column is left")
        assert any(way in str(refused) for way in ways), refused  # noqa: PT017 (or is accepted)
        return
    again = profiles.TableProfile.model_validate_json(found.model_dump_json())
    tables_ = declarations.build(again)
    checked = {}
    for name, path in paths.items():
        read = again.reader_of(str(path)).read()
        checked[name] = tables_["Inputs"].check(read)
        assert len(tables_["Targets"].check(read)) == ROWS
    own = checked["own"].reset_index(drop=not tables_["Inputs"].index_name())
    shuffled = checked["shuffled"].reset_index(drop=not tables_["Inputs"].index_name())
    by = list(own.columns)
    first, second = (
        frame.astype("str").sort_values(by).reset_index(drop=True) for frame in (own, shuffled)
    )
    pd.testing.assert_frame_equal(first, second)
