"""MLflow: what is in its store, its interface, backups, and the way to a server."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from invoke import Context, Exit, task

from tasks import stores


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except stores.StoreError as error:
        raise Exit(str(error)) from None


def _address() -> str:
    from model_name.io import osvariables

    return osvariables.env().mlflow_tracking_uri


@task(default=True)
def doctor(_c: Context) -> None:
    """Is MLflow's store complete? Prints its content, and how to fix faults."""
    import mlflow

    from model_name.core import errors
    from model_name.io import services

    address = _address()
    if not address.startswith("sqlite:"):
        try:
            services.MlflowService().start()
        except errors.ServiceError as error:
            raise Exit(str(error)) from None
        print(f"MLflow {mlflow.__version__}: the server at {address.rpartition('@')[2]} answers.")
        return
    with _explained():
        path = stores.sqlite_path(address)
        counts, problems = stores.examine(path)
    print(f"MLflow {mlflow.__version__}, store {path}")
    for name, count in counts.items():
        print(f"  {name.replace('_', ' '):<18} {count}")
    if problems:
        raise Exit("\n".join([*problems, f"{len(problems)} problem(s)"]))
    print("Nothing is wrong with it.")


@task(help={"port": "where the interface answers on this machine"})
def ui(c: Context, port: int = 5000) -> None:
    """Show runs and models in a browser, for this machine only."""
    c.run(
        f"mlflow ui --backend-store-uri {shlex.quote(_address())} --host 127.0.0.1 --port {port}",
        hide=False,
    )


@task(
    help={
        "host": "the address to listen on; 0.0.0.0 lets other machines in, and there is no password",
        "port": "the port to listen on",
        "workers": "how many processes answer",
        "artifacts": "the folder or object store that artifacts are served from",
        "allowed": "the names by which others reach this machine, as in mlflow.example.org:5000 (separated by commas)",
    }
)
def server(
    c: Context,
    host: str = "127.0.0.1",
    port: int = 5000,
    workers: int = 2,
    artifacts: str = "mlartifacts",
    allowed: str = "",
) -> None:
    """Serve the store of MLFLOW_TRACKING_URI; clients set MLFLOW_TRACKING_URI to http://HOST:PORT."""
    address = _address()
    if address.startswith(("http:", "https:")):
        raise Exit(
            "MLFLOW_TRACKING_URI names a server already: to start one, let it name the database behind it."
        )
    command = f"mlflow server --host {shlex.quote(host)} --port {port} --workers {workers}"
    command += f" --artifacts-destination {shlex.quote(artifacts)}"
    command += f" --allowed-hosts {shlex.quote(allowed)}" if allowed else ""
    # by the environment: an address can hold a password, and arguments can be seen by everyone on the machine
    c.run(command, env={"MLFLOW_BACKEND_STORE_URI": address})


@task(help={"to": "the file to write; by default backups/mlflow-DATE.zip"})
def backup(_c: Context, to: str = "") -> None:
    """Write the embedded store, database and artifacts, into one file. Runs may continue meanwhile."""
    target = Path(to) if to else stores.default_backup()
    with _explained():
        count = stores.backup(stores.sqlite_path(_address()), target)
    print(
        f"{target}: the database and {count:,} artifact files, {target.stat().st_size / 2**20:,.1f} MiB"
    )


@task(
    help={
        "file": "a backup that inv mlflow.backup wrote",
        "to": "where the store goes, as the path of its database; by default where the project looks for it",
        "replace": "put it in the place of the store that is there, which is renamed",
    }
)
def restore(_c: Context, file: str, to: str = "", replace: bool = False) -> None:
    """Restore a backup: check every byte, and set the addresses of artifacts to the new folder."""
    from model_name.io import osvariables

    address = _address()
    path = Path(to).absolute() if to else osvariables.sqlite_path(address)
    if path is None:
        raise Exit("MLFLOW_TRACKING_URI is not a SQLite file: name one with --to mlflow.db")
    with _explained():
        count = stores.restore(Path(file), path, replace)
    print(f"{path}: restored, with {count:,} artifact files")


@task(
    help={
        "variable": "the environment variable that holds the target's address, as postgresql://user:password@host/name",
        "artifacts": "a new folder for the artifacts, which the server then serves as its --artifacts-destination",
    }
)
def migrate(_c: Context, variable: str, artifacts: str = "") -> None:
    """Copy the embedded store into an empty database of a server (PostgreSQL), in one transaction."""
    with _explained():
        address = stores.address_in(variable)
        path = stores.sqlite_path(_address())
        copied = stores.migrate(path, address, Path(artifacts).absolute() if artifacts else None)
    print(
        f"{sum(copied.values()):,} rows of {len(copied)} tables are copied: "
        + ", ".join(sorted(copied))
    )
    if artifacts:
        print(
            f"To serve it: MLFLOW_TRACKING_URI=${variable} inv mlflow.server --artifacts {artifacts}"
        )
