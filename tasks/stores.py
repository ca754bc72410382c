"""MLflow's embedded store, a SQLite file with artifacts beside it: look at it, back it up, restore it, move it.

The addresses of artifacts in the database are absolute, so a store that is put elsewhere has them written anew.
"""

import contextlib
import datetime
import hashlib
import json
import os
import shutil
import sqlite3
import tempfile
import time
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

DATABASE, ARTIFACTS, MANIFEST = "mlflow.db", "mlartifacts", "manifest.json"
LOCATIONS = {  # the columns in which MLflow keeps addresses of artifacts
    "experiments": ["artifact_location"],
    "runs": ["artifact_uri"],
    "logged_models": ["artifact_location"],
    "model_versions": ["source", "storage_location"],
}
SERVED = "mlflow-artifacts:"  # what a server calls the place that it serves artifacts from
STALE_HOURS = 24


class StoreError(Exception):
    """A store, a backup or a target that cannot be used, with the way out."""


def sqlite_path(address: str) -> Path:
    """Give the file of a SQLite address.

    Raises:
        StoreError: it is another kind of address, or there is no such file.
    """
    from model_name.io import osvariables

    path = osvariables.sqlite_path(address)
    if path is None:
        kind = address.partition(":")[0]
        raise StoreError(
            f"MLflow's address here is of kind {kind}, not SQLite: use the tools of that database "
            "(for PostgreSQL, pg_dump and pg_restore), or set MLFLOW_TRACKING_URI to sqlite:///mlflow.db"
        )
    if not path.is_file():
        raise StoreError(f"There is no store at {path} yet: the first run makes it (make run).")
    return path


@contextlib.contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a database for reading only."""
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=60)
    try:
        yield connection
    finally:
        connection.close()


# --------------------------------------------------------------------------------------------------------- looking
def examine(path: Path) -> tuple[dict[str, object], list[str]]:
    """Count what is in a store, and find what is wrong with it."""
    with reading(path) as database:
        check = database.execute("PRAGMA quick_check(1)").fetchone()[0]
        if check != "ok":
            return {}, [
                f"the database is damaged ({check}): restore a backup with inv mlflow.restore"
            ]
        counts: dict[str, object] = {
            name: database.execute(f"SELECT count(*) FROM {name}").fetchone()[0]
            for name in ("experiments", "runs", "registered_models", "model_versions")
        }
        problems = [*_left_running(database), *_without_artifacts(database)]
    inside = list(files(path.parent / ARTIFACTS))
    counts["artifacts"] = (
        f"{len(inside):,} files, {sum(file.stat().st_size for file in inside) / 2**20:,.0f} MiB"
    )
    counts["database"] = f"{path.stat().st_size / 2**20:,.1f} MiB"
    return counts, problems


def _left_running(database: sqlite3.Connection) -> Iterator[str]:
    before = (time.time() - STALE_HOURS * 3600) * 1000
    query = "SELECT run_uuid, name FROM runs WHERE status = 'RUNNING' AND lifecycle_stage = 'active' AND start_time < ?"
    for run, name in database.execute(query, [before]):
        yield (
            f"run {run} ({name}) says that it is running, for more than {STALE_HOURS} hours: if its process is gone, "
            f"mlflow runs delete --run-id {run}"
        )


def _without_artifacts(database: sqlite3.Connection) -> Iterator[str]:
    models = dict(database.execute("SELECT model_id, artifact_location FROM logged_models"))
    query = "SELECT name, version, source, storage_location FROM model_versions"
    query += " WHERE current_stage != 'Deleted_Internal'"
    for name, version, source, storage in database.execute(query):
        address = storage or models.get(str(source).removeprefix("models:/"), source) or ""
        place = local_path(address)
        if place is not None and not place.exists():
            yield f"version {version} of {name} has no model at {place}: restore a backup, or delete the version"


def local_path(address: str) -> Path | None:
    """Give the place of an address on this machine, None for an address elsewhere."""
    if address.startswith("file:"):
        return Path(unquote(urlsplit(address).path))
    return Path(address) if address.startswith("/") else None


def files(folder: Path) -> Iterator[Path]:
    """Find the files in a folder, which need not exist."""
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


# ---------------------------------------------------------------------------------------------- backup and restore
def backup(path: Path, target: Path) -> int:
    """Write a store into one file, consistent also while runs go on; give the number of artifact files in it.

    SQLite copies the database as it is at one moment. The artifacts follow: what the copy speaks of was there
    before it, and what came later does no harm.
    """
    if target.exists():
        raise StoreError(f"{target} exists: name another file with --to")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.part")
    hashes: dict[str, str] = {}
    try:
        with (
            tempfile.TemporaryDirectory() as folder,
            zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file,
        ):
            copy = Path(folder, DATABASE)
            with reading(path) as source, contextlib.closing(sqlite3.connect(copy)) as snapshot:
                source.backup(snapshot)
            hashes[DATABASE] = _pack(file, copy, DATABASE)
            for artifact in files(path.parent / ARTIFACTS):
                name = artifact.relative_to(path.parent).as_posix()
                with contextlib.suppress(
                    FileNotFoundError
                ):  # a run that was deleted in this very moment
                    hashes[name] = _pack(file, artifact, name)
            manifest = {"root": path.parent.as_posix(), "made": _now(), "sha256": hashes}
            file.writestr(MANIFEST, json.dumps(manifest, indent=1))
        partial.rename(target)
    finally:
        partial.unlink(missing_ok=True)
    return len(hashes) - 1


def _pack(archive: zipfile.ZipFile, path: Path, name: str) -> str:
    """Put a file into an archive; give the hash of exactly the bytes that went in."""
    digest = hashlib.sha256()
    with path.open("rb") as source, archive.open(name, "w", force_zip64=True) as member:
        while block := source.read(2**20):
            digest.update(block)
            member.write(block)
    return digest.hexdigest()


def _now() -> str:
    return datetime.datetime.now(tz=datetime.UTC).isoformat(timespec="seconds")


def restore(archive: Path, path: Path, replace: bool) -> int:
    """Put a backup in the place of a store, after every byte of it was checked; give the number of artifact files.

    What was there before is renamed, never deleted.
    """
    if path.exists() and not replace:
        raise StoreError(
            f"There is a store at {path}: --replace renames it and puts the backup in its place."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".restore-", dir=path.parent) as folder:
        manifest = _unpack(archive, Path(folder))
        database = Path(folder, DATABASE)
        here = path.parent / ARTIFACTS
        relocate(database, Path(manifest["root"]) / ARTIFACTS, here.as_uri(), here.as_posix())
        Path(folder, ARTIFACTS).mkdir(exist_ok=True)
        stamp = datetime.datetime.now(tz=datetime.UTC).strftime("%Y%m%d-%H%M%S")
        places = [path, path.parent / ARTIFACTS]
        for old in (
            *places,
            *(path.with_name(path.name + suffix) for suffix in ("-wal", "-shm", "-journal")),
        ):
            if old.exists():
                old.rename(old.with_name(f"{old.name}.before-{stamp}"))
        Path(folder, ARTIFACTS).rename(places[1])
        database.rename(path)  # last, because the store is there when its database is
    return len(manifest["sha256"]) - 1


def _unpack(archive: Path, folder: Path) -> dict[str, Any]:
    """Take a backup apart, and refuse it when a byte is not what it was."""
    try:
        with zipfile.ZipFile(archive) as file:
            manifest: dict[str, Any] = json.loads(file.read(MANIFEST))
            if set(file.namelist()) != {*manifest["sha256"], MANIFEST}:
                raise StoreError(
                    f"{archive} does not hold the files that it lists: take another backup"
                )
            for name, expected in manifest["sha256"].items():
                place = Path(file.extract(name, folder))
                if _sha256(place) != expected:
                    raise StoreError(
                        f"{archive}: {name} is not what was backed up: take another backup"
                    )
    except (OSError, zipfile.BadZipFile, KeyError, ValueError) as error:
        raise StoreError(
            f"{archive} is not a whole backup of a store ({error}): take another one"
        ) from error
    return manifest


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def relocate(database: Path, old: Path, new_uri: str, new_path: str) -> None:
    """Write the addresses of artifacts anew, for artifacts that were moved out of a folder."""
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        for table, columns in LOCATIONS.items():
            for column in columns:
                rows = connection.execute(
                    f"SELECT DISTINCT {column} FROM {table} WHERE {column} IS NOT NULL"
                ).fetchall()
                for (address,) in rows:
                    moved = relocated(address, old, new_uri, new_path)
                    connection.execute(
                        f"UPDATE {table} SET {column} = ? WHERE {column} = ?", [moved, address]
                    )


def relocated(address: str, old: Path, new_uri: str, new_path: str) -> str:
    """Give an address with the old folder at its beginning changed to the new one; any other as it is."""
    for before, after in (
        (old.as_uri(), new_uri),
        (f"file://{old.as_posix()}", new_uri),
        (old.as_posix(), new_path),
    ):
        if address == before or address.startswith(before + "/"):
            return after + (address.removeprefix(before) or "/" * after.endswith(":"))
    return address


# --------------------------------------------------------------------------------------------- to a server's database
def migrate(path: Path, address: str, artifacts: Path | None) -> dict[str, int]:
    """Copy a store into an empty database of a server, in one transaction; give the number of rows of each table.

    Args:
        path: the SQLite file.
        address: the SQLAlchemy address of the target, which may be new and empty.
        artifacts: a folder that the server will serve as its `--artifacts-destination`; the artifacts are copied
            there, and their addresses become the server's. Without it, artifacts and addresses stay as they are.

    Raises:
        StoreError: the target cannot be reached, has runs or models, or is of another version of MLflow.
    """
    import sqlalchemy as sa
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    engine = sa.create_engine(address)
    shown = engine.url.render_as_string(hide_password=True)
    try:
        engine.connect().close()  # a server that is not there is told at once: MLflow would ask for over a minute
        MlflowClient(tracking_uri=address, registry_uri=address).search_experiments(
            max_results=1
        )  # makes the tables
        with tempfile.TemporaryDirectory() as folder, engine.begin() as target:
            copy = Path(folder, DATABASE)
            with reading(path) as source, contextlib.closing(sqlite3.connect(copy)) as snapshot:
                source.backup(snapshot)
            if artifacts is not None:
                _serve(copy, path.parent / ARTIFACTS, artifacts)
            with reading(copy) as source:
                return _copy_tables(source, target, shown)
    except (sa.exc.SQLAlchemyError, MlflowException) as error:
        raise StoreError(f"{shown}: {str(getattr(error, 'orig', None) or error).strip()}") from None
    finally:
        engine.dispose()


def _serve(database: Path, old: Path, new: Path) -> None:
    """Copy artifacts to the folder that a server serves, and give them the addresses that it knows them by."""
    if new.exists() and any(new.iterdir()):
        raise StoreError(f"{new} is not empty: name a new folder for the artifacts")
    if old.exists():
        shutil.copytree(old, new, dirs_exist_ok=True)
    relocate(database, old, SERVED, SERVED)


def _copy_tables(source: sqlite3.Connection, target: Any, shown: str) -> dict[str, int]:
    """Copy every table, parents before children, and count both sides."""
    import sqlalchemy as sa

    metadata = sa.MetaData()
    metadata.reflect(target)
    revisions = [
        source.execute("SELECT version_num FROM alembic_version").fetchone()[0],
        target.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one(),
    ]
    if revisions[0] != revisions[1]:
        raise StoreError(
            f"the store has MLflow's tables of revision {revisions[0]}, {shown} those of {revisions[1]}: bring both to "
            "this MLflow with `mlflow db upgrade ADDRESS`, after a backup"
        )
    tables = [table for table in metadata.sorted_tables if table.name != "alembic_version"]
    _refuse_used(target, metadata, shown)
    for table in reversed(tables):
        target.execute(
            table.delete()
        )  # the experiment and the workspace that MLflow makes in an empty store
    copied = {}
    for table in tables:
        rows = list(_rows(source, table))
        for start in range(0, len(rows), 5_000):
            target.execute(table.insert(), rows[start : start + 5_000])
        copied[table.name] = len(rows)
        count = target.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
        if count != len(rows):
            raise StoreError(
                f"{shown}: table {table.name} took {count:,} of {len(rows):,} rows; nothing was kept"
            )
    _raise_sequences(target, tables)
    return {name: count for name, count in copied.items() if count}


def _refuse_used(target: Any, metadata: Any, shown: str) -> None:
    import sqlalchemy as sa

    for name in ("runs", "registered_models", "traces", "trace_info"):
        if (
            name in metadata.tables
            and target.execute(sa.select(metadata.tables[name]).limit(1)).first()
        ):
            raise StoreError(
                f"{shown} has {name.replace('_', ' ')} already: a store is only moved into an empty database"
            )


def _rows(source: sqlite3.Connection, table: Any) -> Iterator[dict[str, Any]]:
    """Read the rows of a table, with values as the target's types want them."""
    import sqlalchemy as sa

    there = {row[1] for row in source.execute(f'PRAGMA table_info("{table.name}")')}
    columns = [
        column for column in table.columns if column.name in there and column.computed is None
    ]
    names = ", ".join(f'"{column.name}"' for column in columns)
    convert: dict[str, Any] = {}
    for column in columns:
        if isinstance(column.type, sa.Boolean):
            convert[column.name] = bool
        elif isinstance(column.type, sa.JSON):
            convert[column.name] = json.loads
    if not columns:
        return
    for row in source.execute(f'SELECT {names} FROM "{table.name}"'):
        values = dict(zip((column.name for column in columns), row, strict=True))
        yield {
            name: value if value is None or name not in convert else convert[name](value)
            for name, value in values.items()
        }


def _raise_sequences(target: Any, tables: Iterable[Any]) -> None:
    """Let PostgreSQL count on after the numbers that were copied."""
    import sqlalchemy as sa

    if target.dialect.name != "postgresql":
        return
    for table in tables:
        for column in table.primary_key.columns:
            name = f'"{table.name}"'
            sequence = target.execute(
                sa.select(sa.func.pg_get_serial_sequence(name, column.name))
            ).scalar()
            if sequence:
                greatest = target.execute(sa.select(sa.func.max(column))).scalar()
                target.execute(sa.select(sa.func.setval(sequence, (greatest or 0) + 1, False)))


def default_backup() -> Path:
    """Give the place of a backup that has no name."""
    stamp = datetime.datetime.now(tz=datetime.UTC).strftime("%Y%m%d-%H%M%S")
    return Path("backups", f"mlflow-{stamp}.zip")


def address_in(variable: str) -> str:
    """Give the address that an environment variable holds, so that a password is in no command line."""
    address = os.environ.get(variable)
    if not address:
        raise StoreError(
            f"The environment variable {variable} is not set. It must hold the target's address, for example "
            "postgresql://mlflow:PASSWORD@localhost:5432/mlflow"
        )
    return address
