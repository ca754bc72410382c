"""Fingerprints and row hashes over every value, the state of git, and the record of a run."""

import datetime as dt
import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pydantic as pdt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_name.core import errors
from model_name.io import redaction
from model_name.records import environments, gitstates, provenance
from model_name.records.fingerprints import Fingerprint, fingerprint
from model_name.records.provenance import Provenance
from model_name.records.rowhashes import row_hashes

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
days = st.datetimes(dt.datetime(1900, 1, 1), dt.datetime(2100, 1, 1))


def _series(values: st.SearchStrategy[Any], dtype: str, size: int) -> st.SearchStrategy[pd.Series]:
    return st.lists(values, min_size=size, max_size=size).map(
        lambda items: pd.Series(items, dtype=dtype)
    )


@st.composite
def tables(draw: st.DrawFn, min_rows: int = 0) -> pd.DataFrame:
    """Tables with a column of every kind, with missing values."""
    size = draw(st.integers(min_rows, 8))
    data = pd.DataFrame(
        {
            "count": draw(_series(st.integers(-(2**63), 2**63 - 1), "int64", size)),
            "nullable": draw(_series(st.none() | st.integers(-5, 5), "Int64", size)),
            "share": draw(_series(st.floats(), "float64", size)),
            "flag": draw(_series(st.booleans(), "bool", size)),
            "day": draw(_series(st.none() | days, "datetime64[ns]", size)),
            "text": draw(_series(st.none() | texts, "str", size)),
            "object": draw(_series(st.none() | texts, "object", size)),
            "category": draw(_series(st.none() | st.sampled_from("abc"), "category", size)),
        }
    )
    labels = draw(st.lists(st.integers(-9, 99), min_size=size, max_size=size, unique=True))
    return data.set_axis(pd.Index(labels, name="instant", dtype="int64"))


# ------------------------------------------------------------------------------------------- fingerprint
@given(data=tables(), cuts=st.lists(st.integers(0, 8), max_size=4))
@settings(max_examples=100, deadline=None)
def test_batches_make_no_difference(data: pd.DataFrame, cuts: list[int]) -> None:
    whole, batches = Fingerprint().update(data), Fingerprint()
    edges = sorted({0, len(data), *(min(cut, len(data)) for cut in cuts)})
    for start, end in zip(edges, edges[1:] or edges, strict=False):
        batches.update(data.iloc[start:end])
    assert batches.record() == whole.record()
    assert whole.rows == len(data)


@given(data=tables(min_rows=1), pick=st.data())
@settings(max_examples=150, deadline=None)
def test_any_changed_cell_changes_it_and_names_the_column(
    data: pd.DataFrame, pick: st.DataObject
) -> None:
    name = pick.draw(st.sampled_from(list(data.columns)))
    row = pick.draw(st.integers(0, len(data) - 1))
    values = data[name].astype(object).tolist()
    old = values[row]
    other: dict[str, Any] = {
        "count": lambda: (old + 1) if old < 2**63 - 1 else 0,
        "nullable": lambda: 77,
        "share": lambda: 0.5 if old != 0.5 else None,
        "flag": lambda: not old,
        "day": lambda: pd.Timestamp(2200, 1, 1),
        "text": lambda: "changed" if pd.isna(old) else f"{old}\0",
        "object": lambda: "" if pd.isna(old) else None,
        "category": lambda: "z",
    }
    values[row] = other[name]()
    dtype = "category" if name == "category" else data[name].dtype
    changed = data.assign(**{name: pd.Series(values, index=data.index, dtype=dtype)})
    before, after = Fingerprint().update(data).record(), Fingerprint().update(changed).record()
    assert before.sha256 != after.sha256
    assert before.differences(after) == [name]
    assert (row_hashes(data) != row_hashes(changed)).nonzero()[0].tolist() == [row]


@given(data=tables(min_rows=2))
@settings(max_examples=50, deadline=None)
def test_order_labels_names_and_types_change_it(data: pd.DataFrame) -> None:
    labels = data.index.tolist()
    variants = {
        "rows": data.iloc[::-1],
        "fewer rows": data.iloc[:-1],
        "label": data.set_axis(pd.Index([*labels[:-1], 1000], name="instant")),
        "index name": data.rename_axis("other"),
        "name": data.rename(columns={"count": "counts"}),
        "no column": data.drop(columns="flag"),
        "index as a column": data.reset_index(),
        "type": data.astype({"flag": "int64"}),
    }
    digests = {fingerprint(data), *map(fingerprint, variants.values())}
    assert len(digests) == 1 + len(variants)


@given(data=tables())
@settings(max_examples=50, deadline=None)
def test_storage_and_column_order_make_no_difference(data: pd.DataFrame) -> None:
    stored = data.astype(
        {
            "count": "Int64",
            "share": "Float64",
            "flag": "boolean",
            "object": "str",
            "text": "category",
            "category": "str",
        }
    )
    stored = stored[stored.columns[::-1]]
    assert fingerprint(stored) == fingerprint(data)
    assert row_hashes(stored).tolist() == row_hashes(data).tolist()


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_resolutions_of_time_make_no_difference(unit: str) -> None:
    days = pd.DataFrame(
        {"day": pd.to_datetime(["2011-01-01", None, "1900-02-03"]).astype(f"datetime64[{unit}]")}
    )
    expected = pd.DataFrame(
        {"day": pd.to_datetime(["2011-01-01", None, "1900-02-03"]).astype("datetime64[ns]")}
    )
    assert fingerprint(days) == fingerprint(expected)


def test_time_zones_are_instants() -> None:
    paris = pd.DataFrame({"at": pd.to_datetime(["2011-01-01 12:00"]).tz_localize("Europe/Paris")})
    utc = pd.DataFrame({"at": pd.to_datetime(["2011-01-01 11:00"]).tz_localize("UTC")})
    naive = pd.DataFrame({"at": pd.to_datetime(["2011-01-01 11:00"])})
    assert fingerprint(paris) == fingerprint(utc) != fingerprint(naive)


def test_zero_keeps_its_sign_and_missing_is_missing() -> None:
    def digest(*values: Any, dtype: str = "float64") -> str:
        return fingerprint(pd.DataFrame({"x": pd.Series(values, dtype=dtype)}))

    assert digest(0.0) != digest(-0.0)
    assert digest(1.0, np.nan) == digest(1.0, None, dtype="Float64")
    with_both = pd.array([1.0, 2.0], dtype="Float64")
    with_both._data[1] = np.nan  # type: ignore[attr-defined]  # 0/0 in a nullable column leaves a NaN that is not <NA>
    assert fingerprint(pd.DataFrame({"x": with_both})) == digest(1.0, np.nan)


def test_texts_do_not_run_into_each_other() -> None:
    assert fingerprint(pd.DataFrame({"x": ["ab", "c"]})) != fingerprint(
        pd.DataFrame({"x": ["a", "bc"]})
    )
    assert fingerprint(pd.DataFrame({"x": [None, "a"]})) != fingerprint(
        pd.DataFrame({"x": ["a", None]})
    )
    assert fingerprint(pd.DataFrame({"x": ["", "a"]})) != fingerprint(
        pd.DataFrame({"x": [None, "a"]})
    )


def test_a_batch_without_any_value_takes_the_kind_of_the_others() -> None:
    data = pd.DataFrame({"x": ["a", None, None, "b"]}, dtype=object)
    batches = [data.iloc[:1], data.iloc[1:3], data.iloc[3:]]
    digest = Fingerprint()
    for batch in batches:
        digest.update(batch)
    assert digest.hexdigest() == fingerprint(data)


@pytest.mark.parametrize(
    "values",
    [[b"a", None], [dt.date(2011, 1, 1), None], [dt.time(1), None], [pd.Timedelta(1), None]],
    ids=str,
)
def test_rarer_types(values: list[Any]) -> None:
    data = pd.DataFrame({"x": pd.Series(values, dtype=object)})
    assert fingerprint(data) != fingerprint(data.iloc[::-1].reset_index(drop=True))
    assert row_hashes(data)[0] != row_hashes(data)[1]


def test_decimals_and_large_unsigned_numbers() -> None:
    from decimal import Decimal

    decimals = pd.DataFrame({"x": [Decimal("1.10"), Decimal("2.25")]})
    unsigned = pd.DataFrame({"x": np.array([2**64 - 1, 0], dtype="uint64")})
    for data in (decimals, unsigned):
        assert fingerprint(data) != fingerprint(data.iloc[::-1].reset_index(drop=True))
        assert row_hashes(data)[0] != row_hashes(data)[1]


@pytest.mark.parametrize(
    "values",
    [[1, "a"], [[1], [2]], [{"a": 1}, None], [1 + 2j, 0], [object(), None], [2**70, 1]],
    ids=["mixed", "lists", "mappings", "complex", "objects", "huge"],
)
def test_values_without_a_plain_form_are_refused(values: list[Any]) -> None:
    data = pd.DataFrame({"weird": pd.Series(values, dtype=object)})
    with pytest.raises(errors.DataError, match="column 'weird' has no fingerprint"):
        fingerprint(data)
    with pytest.raises(errors.DataError, match="column 'weird' has no fingerprint"):
        row_hashes(data)


def test_batches_that_do_not_fit_are_refused() -> None:
    digest = Fingerprint().update(pd.DataFrame({"x": [1], "y": [1]}))
    with pytest.raises(
        errors.DataError, match="column 'x' changes from int64 to text in the batch at row 1"
    ):
        digest.update(pd.DataFrame({"x": ["a"], "y": [1]}))
    with pytest.raises(errors.DataError, match="the batch at row 1 adds or lacks the columns y, z"):
        digest.update(pd.DataFrame({"x": [1], "z": [1]}))
    with pytest.raises(errors.DataError, match="two columns have the same name"):
        fingerprint(pd.DataFrame([[1, 2]], columns=["x", "x"]))


def test_formats_make_no_difference(bike_table: Path, tmp_path: Path) -> None:
    def typed(data: pd.DataFrame) -> pd.DataFrame:
        data = data.astype(
            {"season": "category", "weathersit": "category", "holiday": bool, "instant": "int64"}
        )
        return data.assign(dteday=pd.to_datetime(data["dteday"])).set_index("instant")

    data = typed(pd.read_csv(bike_table))
    data.reset_index().to_parquet(tmp_path / "bikes.parquet")
    again = typed(pd.read_parquet(tmp_path / "bikes.parquet"))
    assert fingerprint(again) == fingerprint(data)
    assert (row_hashes(again) == row_hashes(data)).all()
    assert len(set(row_hashes(data))) == len(data)
    reread = Fingerprint()
    for batch in pd.read_csv(bike_table, chunksize=5_000):
        reread.update(typed(batch))
    assert reread.hexdigest() == fingerprint(data)


def test_known_values_stay_what_they_are() -> None:
    """A record of last year has to be comparable with one of today: change the version in the document instead."""
    data = pd.DataFrame({"x": [1, 2], "text": ["a", None]}, index=pd.Index([5, 6], name="instant"))
    assert fingerprint(data) == "caa8df6e8310167b05916040e371c5c03206d7a7c3bb425dc57b83ba974ca15b"
    assert row_hashes(data).tolist() == [2787163011735868481, 2937897664649891942]


@given(data=tables(min_rows=1), pick=st.data())
@settings(max_examples=50, deadline=None)
def test_the_rows_that_differ_are_known(data: pd.DataFrame, pick: st.DataObject) -> None:
    gone = pick.draw(st.sets(st.integers(0, len(data) - 1)))
    kept = data.iloc[[row for row in range(len(data)) if row not in gone]]
    order = pick.draw(st.permutations(range(len(kept))))
    before, after = (
        Fingerprint().update(data).record(),
        Fingerprint().update(kept.iloc[list(order)]).record(),
    )
    apart = before.rows_apart(after)
    assert apart is not None
    assert (sorted(apart[0]), apart[1]) == (sorted(row_hashes(data)[sorted(gone)].tolist()), [])


def test_one_changed_cell_of_many_rows_is_named() -> None:
    data = pd.DataFrame(
        {"x": np.arange(20_000), "y": np.arange(20_000) / 7, "z": ["a", "b"] * 10_000}
    )
    before, values = Fingerprint().update(data).record(), data["y"].to_numpy(copy=True)
    values[15_000] += 1e-9
    after = Fingerprint()
    for start in range(0, 20_000, 3_000):
        after.update(data.assign(y=values).iloc[start : start + 3_000])
    assert before.compare(after.record()) == "has other values in 'y'; 1 row(s) changed"
    assert before.rows_apart(after.record()) == (
        [int(row_hashes(data)[15_000])],
        [int(row_hashes(data.assign(y=values))[15_000])],
    )


MANY = "more rows differ than a record can tell"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda data: data, ""),
        (
            lambda data: data.iloc[::-1],
            "has other values in '[index] instant', 'x', 'y'; the rows are the same, in another order",
        ),
        (lambda data: data.drop(columns="y"), "lacks the column(s) 'y'"),
        (lambda data: data.assign(z=1), "adds the column(s) 'z'"),
        (lambda data: data.iloc[:-2], "has 2,998 rows, not 3,000; 2 row(s) are gone"),
        (
            lambda data: pd.concat([data, data.rename(lambda label: label + 5_000).head(3)]),
            "has 3,003 rows, not 3,000; 3 row(s) were added",
        ),
        (lambda data: data.assign(x=data["x"] + 1), f"has other values in 'x'; {MANY}"),
        (lambda data: data.astype({"x": "float64"}), f"has other values in 'x'; {MANY}"),
    ],
    ids=["same", "order", "lacks", "adds", "fewer", "more", "values", "type"],
)
def test_differences_in_words(change: Any, told: str) -> None:
    data = (
        pd.DataFrame({"x": np.arange(3_000), "y": "a"})
        .assign(y=lambda table: table["x"].astype(str))
        .rename_axis("instant")
    )
    assert (
        Fingerprint().update(data).record().compare(Fingerprint().update(change(data)).record())
        == told
    )


def test_the_sketch_of_a_table_has_one_size() -> None:
    sizes = []
    for rows in (20_000, 200_000):
        sketch = Fingerprint().update(pd.DataFrame({"x": np.arange(rows)})).record().sketch
        assert sketch is not None
        sizes.append(len(sketch))
    assert max(sizes) < 25_000
    assert abs(sizes[1] - sizes[0]) < 500


def test_several_index_levels() -> None:
    data = pd.DataFrame(
        {"x": [1, 2]}, index=pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["k", "l"])
    )
    assert list(Fingerprint().update(data).columns) == ["[index] k", "[index] l", "x"]
    assert fingerprint(data) != fingerprint(data.swaplevel().rename_axis(["k", "l"]))


# ------------------------------------------------------------------------------------------------- git
def _git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_the_state_of_git(tmp_path: Path) -> None:
    _git(tmp_path, "init", "-b", "work")
    assert gitstates.git_state(tmp_path) == gitstates.GitState(
        commit=None, branch="work", dirty=False, reason="nothing was committed yet"
    )
    (tmp_path / "a.txt").write_text("1")
    assert gitstates.git_state(tmp_path).dirty is True
    _git(tmp_path, "add", ".")
    _git(tmp_path, "commit", "-m", "first")
    commit = _git(tmp_path, "rev-parse", "HEAD")
    assert gitstates.git_state(tmp_path) == gitstates.GitState(
        commit=commit, branch="work", dirty=False
    )
    (tmp_path / "a.txt").write_text("2")
    _git(tmp_path, "checkout", "--detach")
    assert gitstates.git_state(tmp_path) == gitstates.GitState(
        commit=commit, branch=None, dirty=True
    )


# What lies about in a checkout and is nobody's business; none of it is source of a package.
PRIVATE = (
    "id_rsa", "service-account.json", "credentials.ini", "notes.md", "customers.csv", "scratch.py",
    "nbs/keys.json", "shop/token.txt", "new folder/tool.py",
)  # fmt: skip


def test_a_record_has_names_and_hashes_of_files_that_it_leaves_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _git(tmp_path, "init", "-b", "work")
    (tmp_path / "a.txt").write_text("1")
    _git(tmp_path, "add", ".")
    _git(tmp_path, "commit", "-m", "first")
    (tmp_path / "id_rsa").write_text("hunter2")
    (tmp_path / "gone.lnk").symlink_to("nowhere")
    monkeypatch.setattr(gitstates.osvariables, "own_project", lambda: tmp_path)
    state = gitstates.code_state()
    assert (state.dirty, state.patch, state.left_out) == (True, "", ["gone.lnk", "id_rsa"])
    assert state.hashes == {"id_rsa": hashlib.sha256(b"hunter2").hexdigest()}


def test_a_patch_has_every_change_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, again = tmp_path / "there", tmp_path / "again"
    there.mkdir()
    _git(there, "init", "-b", "work")
    (there / ".gitattributes").write_text("*.txt filter=shout\n")
    for name, text in {"changed.txt": "1\n", "gone.txt": "2\n", "same.txt": "3\n"}.items():
        (there / name).write_text(text)
    for folder in ("shop", "new folder", "nbs"):
        (there / folder).mkdir()
    (there / "shop" / "__init__.py").touch()
    (there / "new folder" / "é.bin").write_bytes(b"old")
    _git(there, "add", ".")
    _git(there, "commit", "-m", "first")
    _git(there, "config", "filter.shout.clean", "no-such-program")
    (there / "changed.txt").write_text("one\n")
    (there / "gone.txt").unlink()
    (there / "new folder" / "é.bin").write_bytes(bytes(range(256)))
    (there / ".env").write_text("TOKEN=hunter2")
    (there / "large.csv").write_bytes(b"x" * 300_001)
    (there / "shop" / "login.py").write_text("password = 'correct horse'\n")
    (there / "nbs" / "new.ipynb").write_text("{}\n")
    for name in PRIVATE:
        (there / name).write_text("hunter2")
    monkeypatch.setenv("DATABASE_PASSWORD", "correct horse")
    before = {path: path.read_bytes() for path in there.rglob("*") if path.is_file()}
    patch, left_out = gitstates.git_patch(there)
    assert patch is not None
    assert {path: path.read_bytes() for path in there.rglob("*") if path.is_file()} == before
    assert sorted(left_out) == sorted([".env", "large.csv", *PRIVATE])
    assert ("hunter2" in patch, "correct horse" in patch, "password = '***'" in patch) == (
        False,
        False,
        True,
    )
    _git(tmp_path, "clone", str(there), str(again))
    subprocess.run(["git", "-C", str(again), "apply"], input=patch.encode(), check=True)
    found = {
        path.relative_to(again).as_posix()
        for path in again.rglob("*")
        if path.is_file() and ".git" not in path.parts
    }
    kept = {".gitattributes", "changed.txt", "same.txt", "new folder/é.bin", "shop/__init__.py"}
    assert found == kept | {"shop/login.py", "nbs/new.ipynb"}
    assert (again / "changed.txt").read_text() == "one\n"
    assert (again / "new folder" / "é.bin").read_bytes() == bytes(range(256))


def test_without_a_commit_there_is_no_patch(tmp_path: Path) -> None:
    _git(tmp_path, "init", "-b", "work")
    (tmp_path / "a.txt").write_text("1")
    assert gitstates.git_patch(tmp_path) == (None, [])
    assert gitstates.git_patch(tmp_path / "nowhere") == (None, [])


def test_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = gitstates.git_state(tmp_path / "nowhere")
    assert (nowhere.commit, nowhere.dirty, "nowhere" in str(nowhere.reason)) == (None, None, True)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gitstates.git_state(tmp_path) == gitstates.GitState(reason="git is not installed here")


def test_git_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(*args: object, **options: Any) -> None:
        raise subprocess.TimeoutExpired("git", options["timeout"])

    monkeypatch.setattr(gitstates.subprocess, "run", hang)
    assert gitstates.git_state(tmp_path) == gitstates.GitState(
        reason="git did not answer within 10 seconds"
    )


# ---------------------------------------------------------------------------------------------- the record
def test_the_record_survives_json() -> None:
    data = Fingerprint().update(pd.DataFrame({"x": [1]})).record()
    started = dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)
    run = provenance.begin(
        {"job": {"api_key": "hunter2", "top": float("inf")}},
        notebook=Path("a") / "b.ipynb",
        started=started,
    )
    run = run.with_input("inputs", data).finish()
    assert run.finished is not None
    assert run.finished > started
    document = json.loads(run.to_json())
    assert (document["schema_version"], document["notebook"], document["package"]) == (
        2,
        "a/b.ipynb",
        "model_name",
    )
    assert document["configuration"] == {"job": {"api_key": "***", "top": float("inf")}}
    assert document["inputs"]["inputs"] == data.model_dump()
    assert provenance.read_record(run.to_json(), "the run") == run
    assert Provenance.model_validate_json(json.dumps({**document, "added_later": 1})) == run


def test_the_record_says_what_ran(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    configuration = {
        "job": {"model": {"random_state": 7}, "splitter": {"seed": 8, "shuffle": True}}
    }
    run = provenance.begin(configuration, verb="train")
    assert run.distributions["numpy"] == np.__version__
    assert run.distributions["model-name"] == run.version
    assert run.seeds == {"job.model.random_state": 7, "job.splitter.seed": 8}
    assert run.threads["OMP_NUM_THREADS"] == "3"
    assert run.source is not None
    assert (run.source.name, "job.run()" in run.source.code) == ("train.ipynb", True)
    package = Path(provenance.__file__).parent.parent
    assert run.modules.keys() >= {
        path.relative_to(package).as_posix() for path in package.glob("io/*.py")
    }
    assert (run.outcome, run.directory) == ("running", ".")


def test_records_of_other_versions_are_refused() -> None:
    document = json.loads(provenance.begin({}).to_json())
    with pytest.raises(
        errors.ConfigError,
        match="version 3, and this model_name reads version 2: install the version",
    ):
        provenance.read_record(json.dumps(document | {"schema_version": 3}), "the run 0a1b")
    with pytest.raises(
        errors.ConfigError, match="version 1, which does not say which modules .* run the job again"
    ):
        provenance.read_record(json.dumps(document | {"schema_version": 1}), "the run 0a1b")
    for broken in ("", "[]", "{}", '{"schema_version": "two"}', "null"):
        with pytest.raises(errors.ConfigError, match="the run 0a1b is not the record of a run"):
            provenance.read_record(broken, "the run 0a1b")


@pytest.mark.parametrize("field", ["configuration", "metrics", "modules", "started"])
def test_a_record_that_was_edited_is_noticed(field: str) -> None:
    document = json.loads(provenance.begin({"job": {"limit": 5}}).to_json())
    document[field] = "2026-01-31T12:00:00Z" if field == "started" else {"edited": 1}
    with pytest.raises(errors.GateError, match="the run 0a1b was edited since it was written"):
        provenance.read_record(json.dumps(document), "the run 0a1b")


def test_a_notebook_carries_its_records(tmp_path: Path) -> None:
    notebook = tmp_path / "train.ipynb"
    notebook.write_text(
        json.dumps(
            {"cells": [], "metadata": {"kernelspec": {}}, "nbformat": 4, "nbformat_minor": 5}
        )
    )
    with pytest.raises(errors.ConfigError, match=r"train.ipynb has no record of a run"):
        provenance.embedded(notebook)
    plain, endless = (
        provenance.begin({"job": {"limit": 5}}),
        provenance.begin({"job": {"limit": float("inf")}}),
    )
    provenance.embed(notebook, [plain.to_json(), endless.to_json()])
    assert [provenance.read_record(text, "it") for text in provenance.embedded(notebook)] == [
        plain,
        endless,
    ]
    assert (
        json.loads(notebook.read_text(), parse_constant=pytest.fail)["metadata"]["kernelspec"] == {}
    )
    assert [path.name for path in tmp_path.iterdir()] == ["train.ipynb"]


def test_what_is_not_a_notebook_has_no_record(tmp_path: Path) -> None:
    with pytest.raises(errors.ConfigError, match="is not a notebook that can be read"):
        provenance.embedded(tmp_path / "absent.ipynb")


def test_tags_leave_out_what_is_not_known() -> None:
    run = Provenance(
        package="p",
        version="1",
        python="3",
        platform="x",
        started=dt.datetime.now(dt.UTC),
        configuration={},
    )
    assert run.tags() == {"p.version": "1"}
    known = run.model_copy(
        update={"git": gitstates.GitState(commit="c", branch="b", dirty=True), "notebook": "n"}
    )
    assert known.tags() == {
        "mlflow.source.git.commit": "c",
        "mlflow.source.git.branch": "b",
        "mlflow.source.name": "n",
        "p.git_dirty": "true",
        "p.version": "1",
    }


def test_a_package_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise environments.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(environments.importlib.metadata, "version", missing)
    assert environments.describe_environment().version == "not installed"


class _Service(pdt.BaseModel):
    address: str = "http://me:hunter2@host/x?a=b@c"
    login: pdt.SecretStr = pdt.SecretStr("hunter2")


def test_masks() -> None:
    data = {
        "service": _Service(),
        "tokens": ["hunter2"],
        "use_key": True,
        "key": None,
        "n": 3,
        "at": "me@host",
    }
    masked = redaction.mask(data)
    assert "hunter2" not in json.dumps(masked)
    assert masked["service"]["address"] == "http://***@host/x?a=b@c"
    assert {name: masked[name] for name in ("use_key", "key", "n", "at")} == {
        "use_key": True,
        "key": None,
        "n": 3,
        "at": "me@host",
    }
