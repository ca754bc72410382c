"""Remove what can be made again, and find the rows of a table that have to go."""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from invoke import Context, Exit, task

CACHES = [
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    ".import_linter_cache",
    ".hypothesis",
    ".coverage*",
    "htmlcov",
]
BUILDS = ["build", "dist", "*.egg-info", "_site", "_proc"]
OUTPUTS = ["outputs"]
STORES = ["mlflow.db*", "mlruns", "mlartifacts"]
SOURCES = ["benchmarks", "model_name", "nbs", "tasks", "tests"]


def _remove(paths: Iterable[Path]) -> None:
    for path in sorted(paths):
        print(f"removing {path}")
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _remove_matching(patterns: list[str]) -> None:
    _remove(path for pattern in patterns for path in Path().glob(pattern))


@task
def caches(_c: Context) -> None:
    """Remove the caches of the tools, byte code and JupyterLab's checkpoints."""
    _remove_matching(CACHES)
    for name in ("__pycache__", ".ipynb_checkpoints"):
        _remove(path for folder in SOURCES for path in Path(folder).rglob(name))


@task
def builds(_c: Context) -> None:
    """Remove built distributions and the built site."""
    _remove_matching(BUILDS)


@task
def outputs(_c: Context) -> None:
    """Remove outputs/: executed notebooks and predictions."""
    _remove_matching(OUTPUTS)


@task(
    help={
        "yes": "do it: every run and every model in it are gone, and only a backup brings them back"
    }
)
def stores(_c: Context, yes: bool = False) -> None:
    """Remove the embedded MLflow store with its artifacts (inv mlflow.backup keeps a copy, in backups/)."""
    found = [path for pattern in STORES for path in Path().glob(pattern)]
    if found and not yes:
        names = ", ".join(sorted(path.name for path in found))
        raise Exit(
            f"This removes every run and model: {names}. If that is meant: inv cleans.stores --yes"
        )
    _remove(found)


@task(
    help={
        "table": "a CSV or Parquet file",
        "to": "a file for the cleaned copy, CSV or Parquet; without it, nothing is written",
        "rows": "how many offending values are shown; --to keeps all of them beside the copy",
    }
)
def data(_c: Context, table: str, to: str = "", rows: int = 20) -> None:
    """Check a table against the schema: print the refused values, and write a copy without their rows."""
    from model_name.core import errors

    try:
        refused = report(table, to, rows)
    except errors.ProjectError as error:
        raise Exit(str(error)) from None
    if refused and not to:
        raise Exit(f"--to FILE writes a copy without the {refused:,} offending row(s).")


def report(table: str, to: str, rows: int) -> int:
    """Show what the schema refuses, and write the copy; give the number of rows that have to go."""
    import pandas as pd

    from model_name.core import columns, schemas

    read = _reader(table).read()
    parts = [schemas.InputsSchema]
    if schemas.target_name() in read.columns:  # rows whose target is not known yet have none
        parts.append(schemas.TargetsSchema)
    found = (
        pd.concat([columns.offending(schema, read) for schema in parts])
        .drop_duplicates()
        .sort_values("row")
    )
    places = found["row"].unique()
    print(
        f"{table}: {len(read):,} rows, {len(places):,} of them with {len(found):,} value(s) that the schema refuses"
    )
    for (column, fault), group in found.groupby(["column", "fault"], sort=False):
        print(f"  {column} {fault}: {len(group):,}")
    if len(found):
        print("\n" + found.head(rows).assign(row=found["row"] + 1).to_string(index=False))
        print(f"... and {len(found) - rows:,} more" if len(found) > rows else "")
    if to:
        kept = read.drop(index=read.index[places])
        if kept.empty:
            raise Exit(
                "No row is left: nothing was written. Is it the right table, and the right schema?"
            )
        clean = pd.concat([schema.check(kept) for schema in parts], axis="columns")
        _writer(to).write(clean)
        print(f"{to}: {len(clean):,} rows, in the columns and types that the schema declares")
        if len(found):
            faults = Path(to).with_name(f"{Path(to).stem}-refused.csv")
            found.assign(row=found["row"] + 1, value=found["value"].astype(str)).to_csv(
                faults, index=False
            )
            print(f"{faults}: every refused value, by its row")
    return len(places)


def _reader(path: str) -> Any:
    """Read a file as the jobs do: with what their configuration says about its texts."""
    from model_name import steps

    return steps.load_steps(["train"], steps.data_overrides(path))[0].job.inputs


def _writer(path: str) -> Any:
    """Choose a writer by the ending of a file."""
    from model_name.io import datasets

    kinds = {".csv": datasets.CsvWriter, ".parquet": datasets.ParquetWriter}
    chosen = kinds.get(Path(path).suffix.lower())
    if chosen is None:
        raise Exit(f"{path}: a table ends in {' or '.join(kinds)}")
    return chosen(path=path)


@task(name="all")
def everything(c: Context) -> None:
    """Remove caches, builds and outputs, but neither the store (inv cleans.stores) nor `.venv`."""
    caches(c)
    builds(c)
    outputs(c)
