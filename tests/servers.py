"""Servers that tests start on the loopback interface, and end: PostgreSQL, and MLflow on a store."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from model_name.io import services


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


# ------------------------------------------------------------------------------------------------------- PostgreSQL
def _programs() -> Path | None:
    """Return the folder of PostgreSQL's programs: that of Debian's newest version, or the one on the path."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name)
    )
    on_path = shutil.which("initdb")
    return found[-1] if found else Path(on_path).parent if on_path else None


def _user() -> dict[str, Any]:
    """Return as whom the server runs: PostgreSQL refuses to run as root."""
    if os.getuid() != 0:
        return {}
    import pwd

    with contextlib.suppress(KeyError):
        user = pwd.getpwnam("postgres")
        return {"user": user.pw_uid, "group": user.pw_gid}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid}


def missing_postgresql() -> str:
    """Return why no PostgreSQL server can be started; empty if one can."""
    if os.name != "posix" or _programs() is None:
        return "there is no PostgreSQL on this machine: install it, e.g. with `apt-get install postgresql`"
    return ""


@contextlib.contextmanager
def postgresql() -> Iterator[str]:
    """Run a PostgreSQL server of its own; yield the address of its databases, without their name."""
    programs, user, port = _programs(), _user(), free_port()
    assert programs is not None
    with tempfile.TemporaryDirectory(prefix="postgresql-", ignore_cleanup_errors=True) as folder:
        if user:
            os.chown(folder, user["user"], user["group"])
        command = [
            programs / "initdb",
            "-D",
            f"{folder}/data",
            "-U",
            "mlflow",
            "--auth=trust",
            "-E",
            "UTF8",
        ]
        subprocess.run([*command, "--no-sync"], check=True, capture_output=True, cwd=folder, **user)
        command = [
            programs / "postgres",
            "-D",
            f"{folder}/data",
            "-p",
            str(port),
            "-h",
            "127.0.0.1",
        ]
        command += ["-k", folder, "-F"]
        with subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL, **user) as server:
            address = f"postgresql://mlflow:unused@127.0.0.1:{port}"
            try:
                _wait_for_database(f"{address}/postgres")
                yield address
            finally:  # a fast end: the polite one waits for every open connection
                server.send_signal(signal.SIGINT)


def _wait_for_database(address: str) -> None:
    engine = sa.create_engine(address)
    for _ in range(300):
        try:
            engine.connect().close()
        except sa.exc.OperationalError:
            time.sleep(0.1)
        else:
            engine.dispose()
            return
    raise TimeoutError("PostgreSQL does not start")


def new_database(server: str) -> str:
    """Make an empty database on a PostgreSQL server, and return its address."""
    name = f"store{time.monotonic_ns()}"
    engine = sa.create_engine(f"{server}/postgres", isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return f"{server}/{name}"


# ----------------------------------------------------------------------------------------------------------- MLflow
@contextlib.contextmanager
def mlflow(store: services.MlflowService, artifacts: Path | None = None) -> Iterator[str]:
    """Run an MLflow server on a store; yield its address.

    Args:
        store: whose database it serves.
        artifacts: the folder of the files that it receives and serves; None serves none.
    """
    address = f"http://127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--workers", "1"]
    command += [
        "--port",
        address.rpartition(":")[2],
        "--backend-store-uri",
        store.resolved_tracking_uri,
    ]
    command += (
        ["--no-serve-artifacts"]
        if artifacts is None
        else ["--artifacts-destination", str(artifacts)]
    )
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            for _ in range(600):
                with contextlib.suppress(OSError):
                    urllib.request.urlopen(f"{address}/health").close()
                    break
                time.sleep(0.2)
            yield address
        finally:
            process.terminate()
