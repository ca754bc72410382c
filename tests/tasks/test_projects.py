"""Another name for a fork, and the doctor, on copies of this repository."""

import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import nbformat
import pytest

from tasks import projects

ROOT = Path(__file__).parents[2]
NAME = "own_house"


def ask(folder: Path, *command: str | Path, ok: bool = True, **more: str) -> str:
    """Run a program in a folder, without what an outer git or MLflow says; give what it said, on both channels."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("GIT_", "MLFLOW_", "PYTHON"))
    }
    person = {
        f"GIT_{who}_{what}": "a@example.org"
        for who in ("AUTHOR", "COMMITTER")
        for what in ("NAME", "EMAIL")
    }
    environment = kept | person | {"GIT_CONFIG_GLOBAL": os.devnull} | more
    words = [str(word) for word in command]
    done = subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    said = done.stdout + done.stderr
    assert (done.returncode == 0) is ok, said
    return said


def invoke(folder: Path, *words: str | Path, ok: bool = True, **more: str) -> str:
    return ask(folder, sys.executable, "-m", "invoke", *words, ok=ok, **more)


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{path}: {text.count(old)} times {old!r}"
    path.write_text(text.replace(old, new), encoding="utf-8")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fork: what git knows of this repository, in one of its own."""
    folder = tmp_path_factory.mktemp("fork") / "fork"
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(
        listed, cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name, follow_symlinks=False)
    ask(folder, "git", "init", "--quiet")
    (folder / ".venv").symlink_to(sys.prefix)
    invoke(folder, "installs.git")
    plain = ["-c", "filter.nbclean.process=", "-c", "filter.nbclean.clean=cat"]  # they are clean
    ask(folder, "git", *plain, "add", "--all")
    ask(folder, "git", "commit", "--quiet", "--message", "feat: a fork")
    return folder


@pytest.fixture
def fork(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "fork", symlinks=True)
    return tmp_path / "fork"


# ------------------------------------------------------------------------------------------------------------- rename
def test_a_fork_gets_another_name_and_its_checks_pass(fork: Path) -> None:
    ask(fork, "git", "config", "core.checkStat", "minimal")
    ask(fork, "git", "config", "core.trustctime", "false")
    invoke(fork, "projects.rename", NAME, PYTHONPATH=str(fork))
    tracked = [
        path
        for path in ask(fork, "git", "ls-files").splitlines()
        if path.endswith((".py", ".ipynb", ".toml"))
    ]
    names = [
        (path, (fork / path).read_text("utf-8").replace("registered_model_name", ""))
        for path in tracked
    ]
    assert [path for path, text in names if "model_name" in path + text] == []
    assert "mlflow_registered_model_name: " in (fork / "nbs/io/osvariables.ipynb").read_text(
        "utf-8"
    )
    invoke(fork, "checks.modules", PYTHONPATH=str(fork))
    ask(fork, sys.executable, "-m", "ruff", "check", ".")
    quick = [
        "tests/core/test_errors.py",
        "tests/utils/test_splitters.py",
        "tests/io/test_osvariables.py",
    ]
    said = ask(
        fork,
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-n",
        "0",
        "-p",
        "no:cacheprovider",
        *quick,
        PYTHONPATH=str(fork),
    )
    assert " passed" in said
    assert ask(fork, sys.executable, "-m", NAME, "--help", PYTHONPATH=str(fork)).startswith(
        "Usage: own_house"
    )


@pytest.mark.parametrize("name", ["Own", "2nd", "json", "own-house", ""])
def test_names_that_no_package_can_have(made: Path, name: str) -> None:
    assert "cannot be the name of a package" in invoke(
        made, "projects.rename", "--name", name, ok=False
    )


def test_a_fork_with_changes_that_are_not_committed_is_not_renamed(fork: Path) -> None:
    (fork / "Makefile").write_text("mine", encoding="utf-8")
    assert "commit them first" in invoke(fork, "projects.rename", NAME, ok=False)
    assert (fork / "model_name").is_dir()


# ------------------------------------------------------------------------------------------------------------ doctor
def test_the_doctor_can_look_at_everything_here() -> None:
    findings = {each.what: each for each in projects.examine()}
    assert len(findings) == len(projects.LOOKS)
    assert not [each for each in findings.values() if "could not be examined" in each.found]
    for name in (
        "Python",
        "environment",
        "lock",
        "kernel",
        "exports",
        "notebooks",
        "README",
        "data",
    ):
        assert findings[name].fix == "", findings[name]


def test_each_fault_is_named_with_its_fix(fork: Path) -> None:
    notebook = nbformat.read(fork / "nbs/core/errors.ipynb", as_version=4)
    next(cell for cell in notebook.cells if cell.cell_type == "code")["execution_count"] = 7
    nbformat.write(notebook, fork / "nbs/core/errors.ipynb")
    (fork / "README.md").write_text("mine", encoding="utf-8")
    replace(fork / "model_name/core/errors.py", "class ProjectError", "class  ProjectError")
    replace(
        fork / "confs/promote.yaml",
        "job:\n",
        "data: {table: {KIND: CsvReader, path: data/guests.csv}}\njob:\n",
    )
    pin = f"tqdm=={metadata.version('tqdm')}"
    replace(fork / "requirements.lock", pin, "tqdm==0.0.1")
    replace(
        fork / "settings.ini",
        "[requirements]\nruntime =",
        "[requirements]\nruntime =\n  pandas>=99",
    )
    ask(fork, "git", "config", "--unset", "merge.nbmerge.driver")
    elsewhere = {
        "KAFKA_BOOTSTRAP_SERVERS": "localhost:1",
        "MLFLOW_TRACKING_URI": "http://localhost:1",
    }
    said = invoke(fork, "projects.doctor", ok=False, **elsewhere)
    lines = said.splitlines()
    fixes = {
        line.split()[0]: lines[place + 1].strip()
        for place, line in enumerate(lines)
        if "BROKEN" in line
    }
    assert fixes == {
        "environment": "fix: rm -f .venv/installed && make install",
        "lock": "fix: inv installs.lock && make install",
        "git": "fix: inv installs.git",
        "exports": "fix: inv formats.modules",
        "notebooks": "fix: inv formats.outputs",
        "README": "fix: inv docs.readme",
        "store": "fix: start the server, or: unset MLFLOW_TRACKING_URI",
        "broker": "fix: start it, or: unset KAFKA_BOOTSTRAP_SERVERS",
        "data": "fix: copy it there, or change the path in confs/*.yaml",
    }
    assert f"tqdm is {metadata.version('tqdm')}, not 0.0.1" in said
    assert "does not satisfy pandas>=99, tqdm>=4.67 of settings.ini" in said
    assert "data/guests.csv is not there" in said
    assert "9 to fix" in said


def test_a_look_that_fails_is_a_finding_too() -> None:
    def faint() -> projects.Finding:
        raise RuntimeError("dizzy")

    [found] = projects.examine([faint])
    assert "could not be examined: RuntimeError('dizzy')" in found.found
    assert found.fix == "make install"
