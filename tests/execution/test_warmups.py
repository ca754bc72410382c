"""Kernels that are forked from a warm process: what they share, what they do not, and that none is left behind."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from model_name.core import errors
from model_name.execution import executors, warmups
from model_name.io import services

pytestmark = pytest.mark.skipif(not warmups.can_fork(), reason="kernels are forked on Linux only")
TELL = """
import json, os, random, sys, threading
import numpy as np
print(json.dumps({"pid": os.getpid(), "session": os.getsid(0), "parent": os.getppid(), "here": os.getcwd(),
    "warm": "sklearn.ensemble" in sys.modules, "left": getattr(sys, "left_behind", None),
    "variable": os.environ.get("KERNEL_TEST"), "drawn": [random.random(), np.random.rand()]}))
sys.left_behind = 1
"""


def write(path: Path, *cells: str) -> Path:
    body = [
        {
            "cell_type": "code",
            "id": f"c{i}",
            "metadata": {},
            "source": cell,
            "outputs": [],
            "execution_count": None,
        }
        for i, cell in enumerate(["config = None", *cells])
    ]
    body[0]["metadata"] = {"tags": ["parameters"]}
    path.write_text(json.dumps({"cells": body, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    return path


def told(folder: Path, isolated: bool = False) -> dict[str, object]:
    """Run a notebook that tells about its process."""
    executor = executors.PapermillExecutor(show_log=False, show_progress=False, isolated=isolated)
    nowhere = services.MlflowService(tracking_uri=f"sqlite:///{folder.as_posix()}/none.db")
    done = executor.execute(write(folder / "tell.ipynb", TELL), {}, folder / "done.ipynb", nowhere)
    assert done.error is None
    outputs = json.loads(done.notebook.read_text())["cells"][-1]["outputs"]
    found: dict[str, object] = json.loads("".join(outputs[0]["text"]))
    return found


def test_each_notebook_has_a_process_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = told(tmp_path), told(tmp_path)
    assert first["warm"], "the imports are shared"
    assert first["parent"] == second["parent"], "and were made once"
    for one in (first, second):
        assert (one["session"], one["left"], one["here"]) == (one["pid"], None, str(Path.cwd()))
    assert first["drawn"] != second["drawn"], "copies do not draw the same numbers"

    monkeypatch.setenv("KERNEL_TEST", "new")
    monkeypatch.chdir(tmp_path)
    third = told(tmp_path)
    assert (third["variable"], third["here"]) == ("new", str(tmp_path))
    assert third["parent"] != first["parent"], "a warm process from other surroundings is not used"


def test_isolated_notebooks_have_a_fresh_interpreter(tmp_path: Path) -> None:
    fresh = told(tmp_path, isolated=True)
    assert (fresh["parent"], fresh["warm"]) == (os.getpid(), False)


def test_a_kernel_that_nobody_wants_any_more_ends_before_it_begins() -> None:
    warm = warmups.ForkServer(["json"])
    with tempfile.TemporaryFile() as stderr:
        unwanted = warm.fork([], dict(os.environ), stderr.fileno())
        unwanted.kill()
        assert (unwanted.pid, unwanted.wait()) == (None, -signal.SIGKILL)
        warm._channel.close()  # `stop` would kill it where it takes more than a second to start
        assert warm.process.wait(timeout=120) == 0
    warm.stop()


def test_modules_that_start_threads_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "threading_module.py").write_text(
        "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    warm = warmups.ForkServer(["threading_module"])
    warm.process.wait(timeout=120)
    assert "importing threading_module started threads" in warm.stderr_tail()
    warm.stop()


@pytest.mark.parametrize("isolated", [False, True])
def test_no_process_outlives_a_killed_command(isolated: bool, tmp_path: Path) -> None:
    wait = (
        "import os, subprocess, sys, time\nchild = subprocess.Popen(['sleep', '600'])\n"
        "print('pids', os.getppid(), os.getpid(), child.pid, file=sys.stderr); time.sleep(600)"
    )
    parent = (
        "import sys; from pathlib import Path\n"
        "from model_name.execution import executors; from model_name.io import services\n"
        "nowhere = services.MlflowService(tracking_uri='sqlite:///none.db')\n"
        f"executor = executors.PapermillExecutor(isolated={isolated})\n"
        "executor.execute(Path('wait.ipynb'), {}, Path('done.ipynb').absolute(), nowhere)"
    )
    write(tmp_path / "wait.ipynb", wait)
    with subprocess.Popen(
        [sys.executable, "-c", parent], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    ) as command:
        assert command.stderr is not None
        line = next(line for line in command.stderr if line.startswith("pids"))
        command.kill()
    left = [int(number) for number in line.split()[1:]]
    deadline = time.monotonic() + 120
    while any(map(runs, left)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [number for number in left if runs(number)] == []


def runs(pid: int) -> bool:
    """Tell whether a process runs; one that ended and that nobody has asked about yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_starts_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    places = [warmups.acquire_slot() for _ in range(max(2, os.cpu_count() or 1))]
    assert None not in places
    assert warmups.acquire_slot() is None
    waits: list[int] = []

    def make_room() -> None:
        waits.append(1)
        places[0].release()

    assert warmups.acquire_slot(make_room) is not None
    assert waits == [1]


@pytest.mark.parametrize("planted", ["folder", "lock"])
def test_a_planted_link_in_the_place_of_locks_is_refused(
    planted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "victim").mkdir()
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    folder = tmp_path / f"model_name-{os.getuid()}"
    if planted == "folder":
        folder.symlink_to(tmp_path / "victim")
    else:
        folder.mkdir()
        (folder / "kernel-0.lock").symlink_to(tmp_path / "victim" / "file")
    with pytest.raises(errors.ServiceError, match=r"not a folder of this user|is a symbolic link"):
        warmups.acquire_slot()
    assert list((tmp_path / "victim").iterdir()) == []
