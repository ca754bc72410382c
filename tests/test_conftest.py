"""The tests' own ground: a test that hangs ends by itself, and signals are those of a terminal."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parent.parent
HANGS = """
import subprocess, sys, threading

def test_that_hangs():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    print("child", child.pid)
    threading.Thread(target=wait_forever, daemon=True).start()
    wait_forever()

def wait_forever():
    threading.Event().wait()

def test_that_comes_after():
    pass
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A suite of its own with the project's conftest and settings, one test of which hangs."""
    (tmp_path / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text())
    (tmp_path / "test_it.py").write_text(HANGS)
    return tmp_path


def pytest_in(suite: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-c",
        str(ROOT / "pyproject.toml"),
        "--rootdir",
        str(suite),
        str(suite),
    ]
    settings = ["-p", "no:cacheprovider", "-o", f"pythonpath={ROOT}", "-o", "timeout=3"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [*command, *settings, *options],
        cwd=suite,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_test_that_hangs_fails_with_all_stacks_and_leaves_no_child(
    suite: Path, workers: str
) -> None:
    ended = pytest_in(suite, "-n", workers)
    assert ended.returncode == 1
    shown = ended.stdout + ended.stderr
    assert "test_that_hangs hangs: not done after 3 s" in shown
    assert shown.count("in wait_forever") == 2, "the main thread and the other one"
    number = next(line.split()[1] for line in shown.splitlines() if line.startswith("child "))
    assert (
        not psutil.pid_exists(int(number))
        or psutil.Process(int(number)).status() == psutil.STATUS_ZOMBIE
    )
    if workers == "1":
        assert "1 failed, 1 passed" in ended.stdout, "another worker goes on with the rest"


def test_signals_are_those_of_a_terminal_whatever_the_parent_ignores(suite: Path) -> None:
    (suite / "test_it.py").write_text(
        "import os, signal, subprocess, sys\n"
        "import pytest\n"
        "def test_signals():\n"
        "    with pytest.raises(KeyboardInterrupt):\n"
        "        os.kill(os.getpid(), signal.SIGINT); signal.pause()\n"
        "    child = subprocess.Popen([sys.executable, '-c', 'import signal; print(flush=True); signal.pause()'],\n"
        "        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)\n"
        "    child.stdout.readline(); child.send_signal(signal.SIGINT)\n"
        "    assert child.wait() == -signal.SIGINT\n"
    )
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # which a child inherits
    try:
        ended = pytest_in(suite, "-n", "0", "-o", "timeout=60")
    finally:
        signal.signal(signal.SIGINT, before)
    assert ended.returncode == 0, ended.stdout
