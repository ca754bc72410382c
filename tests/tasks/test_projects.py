"""Upgrades and the doctor, on a project that was made from a table, and a template that went on."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest

from model_name.scaffold import projects as template
from tasks import projects

ROOT = Path(__file__).parents[2]
NAME = "guests"


def ask(folder: Path, *command: str | Path, ok: bool = True, **more: str) -> str:
    """Run a program in a folder, without what an outer git or MLflow says; give what it said, on both channels."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("GIT_", "MLFLOW_", "PYTHON"))}
    person = {f"GIT_{who}_{what}": "a@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environment = kept | person | {"GIT_CONFIG_GLOBAL": os.devnull} | more
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert (done.returncode == 0) is ok, said
    return said


def invoke(folder: Path, *words: str | Path, ok: bool = True, **more: str) -> str:
    return ask(folder, sys.executable, "-m", "invoke", *words, ok=ok, **more)


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{path}: {text.count(old)} times {old!r}"
    path.write_text(text.replace(old, new), encoding="utf-8")


def edit(path: Path, number: int, add: str) -> None:
    """Add a sentence to a cell of a notebook."""
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[number].source += add
    nbformat.write(notebook, path)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project as the template gives it, in which git merges notebooks."""
    folder = tmp_path_factory.mktemp("made")
    rows = ["age,city,stays", *(f"{20 + k * k % 53},{'AB'[k % 2]},{k % 7}" for k in range(200))]
    (folder / "guests.csv").write_text("\n".join(rows), encoding="utf-8")
    project = template.create(NAME, into=folder / NAME, data=folder / "guests.csv", target="age")
    (project / ".venv").symlink_to(sys.prefix)
    invoke(project, "installs.git")
    for key, value in {"core.trustctime": "false", "core.checkStat": "minimal"}.items():
        ask(project, "git", "config", key, value)  # so that git does not clean every notebook of a copy to compare it
    return project


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template, a version later: other words in three notebooks and a Makefile, and a file more."""
    folder = tmp_path_factory.mktemp("newer") / "template"
    for path, file in template.template().items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(file.content)
    ask(folder, "git", "init", "--quiet")
    settings = (folder / "settings.ini").read_text(encoding="utf-8").splitlines(keepends=True)
    later = ["version = 99.0.0\n" if line.startswith("version = ") else line for line in settings]
    (folder / "settings.ini").write_text("".join(later), encoding="utf-8")
    replace(folder / "Makefile", "# Everyday commands.", "# The commands of every day.")
    edit(folder / "nbs/utils/splitters.ipynb", 0, "\n\nThe template says more.")
    edit(folder / "nbs/utils/signers.ipynb", 0, "\n\nThe template says more.")
    (folder / "nbs/io/extras.ipynb").write_bytes((folder / "nbs/core/errors.ipynb").read_bytes())
    replace(folder / "nbs/io/extras.ipynb", "default_exp core.errors", "default_exp io.extras")
    replace(folder / "nbs/io/extras.ipynb", "# Errors", "# Extras")
    return folder


@pytest.fixture
def project(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / NAME, symlinks=True)
    return tmp_path / NAME


def test_an_upgrade_keeps_edits_merges_and_marks_conflicts(project: Path, newer: Path) -> None:
    schema = project / "nbs/core/schemas.ipynb"
    replace(schema, 'description=\\"City.\\"', 'description=\\"Where they live.\\"')
    edit(project / "nbs/utils/splitters.ipynb", 3, "\n# ours, further down")
    edit(project / "nbs/utils/signers.ipynb", 0, "\n\nWe say something else.")
    replace(project / "Makefile", "# Everyday commands.", "# Our commands.")
    ask(project, "git", "add", "--all")
    ask(project, "git", "commit", "--quiet", "--message", "feat: what is ours")

    said = invoke(project, "projects.upgrade", newer, ok=False)

    conflicts = ask(project, "git", "diff", "--name-only", "--diff-filter=U").split()
    assert conflicts == ["Makefile", "nbs/utils/signers.ipynb"]
    assert "- Makefile\n- nbs/utils/signers.ipynb" in said
    assert "git add --all && git commit" in said
    makefile = (project / "Makefile").read_text(encoding="utf-8")
    assert makefile.startswith("<<<<<<< ")
    assert "# Our commands." in makefile and "# The commands of every day." in makefile  # noqa: PT018
    signers = (project / "nbs/utils/signers.ipynb").read_text(encoding="utf-8")
    nbformat.validate(nbformat.reads(signers, as_version=4))
    assert "We say something else." in signers and "The template says more." in signers  # noqa: PT018
    assert "Where they live." in schema.read_text(encoding="utf-8")
    splitters = nbformat.read(project / "nbs/utils/splitters.ipynb", as_version=4)
    assert splitters.cells[0].source.endswith("The template says more.")
    assert splitters.cells[3].source.endswith("# ours, further down")
    assert (project / "nbs/io/extras.ipynb").is_file()
    assert json.loads((project / template.RECORD).read_text(encoding="utf-8"))["version"] == "99.0.0"


def test_an_upgrade_without_conflicts_is_committed_whole(project: Path, newer: Path) -> None:
    replace(project / "nbs/core/schemas.ipynb", 'description=\\"City.\\"', 'description=\\"Where they live.\\"')
    invoke(project, "formats.modules")
    ask(project, "git", "commit", "--quiet", "--all", "--message", "feat: what is ours")
    assert "Merged." in invoke(project, "projects.upgrade", newer)
    assert ask(project, "git", "status", "--porcelain") == ""
    assert len(ask(project, "git", "log", "-1", "--format=%P").split()) == 2, "both sides are in the history"
    assert (project / NAME / "io/extras.py").is_file(), "what came is exported"
    assert "Where they live." in (project / NAME / "core/schemas.py").read_text(encoding="utf-8")
    assert "already has everything" in invoke(project, "projects.upgrade", newer)


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda folder: (folder / template.RECORD).unlink(), "only projects that were made from a template"),
        (lambda folder: replace(folder / "Makefile", "# Everyday", "# Our"), "commit them first"),
        (lambda folder: ask(folder, "git", "commit", "--quiet", "--amend", "--message", "x"), "git fetch --unshallow"),
    ],
)
def test_what_could_be_lost_is_refused(project: Path, newer: Path, spoil: Callable[[Path], object], why: str) -> None:
    spoil(project)
    assert why in invoke(project, "projects.upgrade", newer, ok=False)


def test_what_is_no_template_is_refused(project: Path, tmp_path: Path) -> None:
    assert "neither a checkout nor a wheel" in invoke(project, "projects.upgrade", tmp_path, ok=False)


# ------------------------------------------------------------------------------------------------------------ doctor
def test_the_doctor_can_look_at_everything_here() -> None:
    findings = {each.what: each for each in projects.examine()}
    assert len(findings) == len(projects.LOOKS)
    assert not [each for each in findings.values() if "could not be examined" in each.found]
    for name in ("Python", "environment", "lock", "kernel", "exports", "notebooks", "README", "data"):
        assert findings[name].mend == "", findings[name]


def test_each_fault_is_named_with_what_mends_it(project: Path) -> None:
    replace(project / "nbs/core/schemas.ipynb", 'description=\\"City.\\"', 'description=\\"Where they live.\\"')
    notebook = nbformat.read(project / "nbs/core/errors.ipynb", as_version=4)
    next(cell for cell in notebook.cells if cell.cell_type == "code")["execution_count"] = 7
    nbformat.write(notebook, project / "nbs/core/errors.ipynb")
    (project / "README.md").write_text("mine", encoding="utf-8")
    (project / "data/guests.csv").unlink()
    replace(project / "settings.ini", "[requirements]\nruntime =", "[requirements]\nruntime =\n  pandas>=99")
    ask(project, "git", "config", "--unset", "merge.nbmerge.driver")
    elsewhere = {"KAFKA_BOOTSTRAP_SERVERS": "localhost:1", "MLFLOW_TRACKING_URI": "http://localhost:1"}
    said = invoke(project, "projects.doctor", ok=False, **elsewhere)
    lines = said.splitlines()
    mends = {line.split()[0]: lines[place + 1].strip() for place, line in enumerate(lines) if "BROKEN" in line}
    assert mends == {
        "environment": "mend: rm -f .venv/installed && make install",
        "lock": "mend: inv installs.lock && make install",
        "git": "mend: inv installs.git",
        "exports": "mend: inv formats.modules",
        "notebooks": "mend: inv formats.outputs",
        "README": "mend: inv docs.readme",
        "store": "mend: start the server, or: unset MLFLOW_TRACKING_URI",
        "broker": "mend: start it, or: unset KAFKA_BOOTSTRAP_SERVERS",
        "data": "mend: copy it there, or change the path in confs/*.yaml",
    }
    assert "guests itself is not installed" in said
    assert "does not satisfy pandas>=99 of settings.ini" in said
    assert "data/guests.csv is not there" in said
    assert "9 to mend" in said


def test_a_look_that_fails_is_a_finding_too() -> None:
    def faint() -> projects.Finding:
        raise RuntimeError("dizzy")

    [found] = projects.examine([faint])
    assert "could not be examined: RuntimeError('dizzy')" in found.found
    assert found.mend == "make install"
