"""Which process is which: the living, the dead, those with a number used again, and those elsewhere."""

import dataclasses
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from model_name.core import errors
from model_name.io import osvariables, stores


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A process that waits."""
    process = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE
    )
    yield process
    process.communicate()


def identity(pid: int) -> stores.ProcessId:
    started = stores._started(pid)
    assert started is not None
    return dataclasses.replace(stores.ProcessId.own(), pid=pid, started=started)


def test_a_process_dies_when_it_is_killed_and_not_before(child: subprocess.Popen[bytes]) -> None:
    its = identity(child.pid)
    assert its != stores.ProcessId.own()
    assert not its.is_dead()
    child.kill()
    os.waitid(
        os.P_PID, child.pid, os.WEXITED | os.WNOWAIT
    )  # it has ended, and nobody has asked about it yet
    assert its.is_dead()
    child.wait()
    assert its.is_dead()


def test_another_process_with_the_same_number(child: subprocess.Popen[bytes]) -> None:
    assert dataclasses.replace(
        identity(child.pid), started=stores.ProcessId.own().started
    ).is_dead()


def test_nobody_knows_about_processes_elsewhere(child: subprocess.Popen[bytes]) -> None:
    elsewhere = dataclasses.replace(identity(child.pid), machine="0" * 16, started="never")
    assert not elsewhere.is_here()
    assert not elsewhere.is_dead()


def test_systems_without_such_files(
    child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    its = identity(child.pid)
    assert not its.is_dead()
    child.kill()
    child.wait()
    assert its.is_dead()


@pytest.mark.skipif(sys.platform != "linux", reason="namespaces are Linux")
def test_a_container_is_a_machine_of_its_own_until_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    def named(namespace: str, boot: str) -> str:
        monkeypatch.setattr(Path, "readlink", lambda path: Path(namespace))
        monkeypatch.setattr(stores, "_boot", lambda: boot)
        return stores._machine()

    host, container = stores._FIRST_NAMESPACE, "pid:[4026532281]"
    assert named(host, "first") == named(host, "second"), "a machine is the same after a reboot"
    made = [
        named(*each)
        for each in ((host, "a"), (container, "a"), (container, "b"), ("pid:[4026532999]", "a"))
    ]
    assert len(set(made)) == 4


def test_a_machine_without_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    assert stores._first_line(Path("/no/such/file")) == ""
    with_number = stores._machine()
    monkeypatch.setattr(stores, "_first_line", lambda file: "")
    assert stores._machine() != with_number


@pytest.mark.parametrize("lost", ["host", "machine", "pid", "started"])
def test_tags_that_were_lost_name_nobody(lost: str) -> None:
    tags = stores.ProcessId.own().tags()
    assert stores.ProcessId.from_tags(tags) == stores.ProcessId.own()
    del tags[f"{stores._TAGS}{lost}"]
    assert stores.ProcessId.from_tags(tags) is None
    assert stores.ProcessId.from_tags(tags | {f"{stores._TAGS}pid": "x"}) is None


def test_a_new_store_is_for_its_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    old = tmp_path / "old.db"
    old.touch(mode=0o644)
    for path in (tmp_path / "runs" / "mlflow.db", old):
        with stores.creation_lock(osvariables.sqlite_address(path)):
            assert path.is_file()
    modes = [
        path.stat().st_mode & 0o777
        for path in (tmp_path / "runs", tmp_path / "runs" / "mlflow.db", old)
    ]
    assert modes == [0o700, 0o600, 0o644]
    with stores.creation_lock(f"sqlite:///{tmp_path}/there.db?mode=ro"):
        assert not (tmp_path / "there.db").exists()


def test_a_lock_that_is_a_link_is_refused(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("kept")
    (tmp_path / "mlflow.db.lock").symlink_to(victim)
    address = osvariables.sqlite_address(tmp_path / "mlflow.db")
    with (
        pytest.raises(errors.ServiceError, match="is a symbolic link"),
        stores.creation_lock(address),
    ):
        pass
    assert victim.read_text() == "kept"


@pytest.mark.parametrize("address", ["https://ann:pa/ss@h", "postgresql://ann:p#s@h/db"])
def test_a_password_that_ends_the_host_is_refused(address: str) -> None:
    with pytest.raises(errors.ServiceError, match="write them as %2F") as caught:
        stores.check_address(address)
    assert not {"pa", "p#s", "ann"} & set(str(caught.value).split())
