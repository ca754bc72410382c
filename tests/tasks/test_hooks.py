"""Commits export, branches merge cell by cell, and what a person has to decide is marked and never lost."""

import io
import subprocess
from pathlib import Path

import pytest

from tasks import installs
from tests.tasks.conftest import INDEX, MODULE, Cell, Project


def edited(**sources: str) -> list[Cell]:
    """Give the notebook with other sources for some of its cells; an underscore stands for a hyphen."""
    changes = {name.replace("_", "-"): source for name, source in sources.items()}
    assert changes.keys() <= dict(MODULE).keys()
    return [(name, changes.get(name, source)) for name, source in MODULE]


ONE = '#| exports\ndef one(x: int) -> int:\n    """Add one, exactly."""\n    return 1 + x'
TWO = '#| exports\ndef two(x: int) -> int:\n    """Add two, exactly."""\n    return 2 + x'


def branches(project: Project, ours: list[Cell], theirs: list[Cell]) -> None:
    """Commit one version of the notebook on main and another one on the branch theirs."""
    project.git("switch", "--quiet", "--create", "theirs")
    project.write(theirs)
    project.commit("feat: their version")
    project.git("switch", "--quiet", "main")
    project.write(ours)
    project.commit("feat: our version")


# ------------------------------------------------------------------------------------------------------- commits
def test_first_commit_holds_the_exports_of_its_notebooks(project: Project) -> None:
    names = project.git("ls-files", "model_name", "README.md").split()
    assert names == [
        "README.md",
        "model_name/__init__.py",
        "model_name/_modidx.py",
        "model_name/adding.py",
    ]
    assert "return x + 2" in project.read("model_name/adding.py")
    assert project.read("model_name/__init__.py") == '"""Written by hand."""\n'
    assert project.stale() == []
    assert project.git("status", "--porcelain") == ""


def test_commit_exports_what_is_staged_and_leaves_what_is_not(project: Project) -> None:
    project.write(edited(code_one=ONE))
    project.git("add", "nbs/adding.ipynb")
    project.write(edited(code_one=ONE, code_two=TWO))
    assert "exported into this commit: model_name/adding.py" in project.git(
        "commit", "-m", "fix: add exactly"
    )
    committed = project.git("show", "HEAD:model_name/adding.py")
    assert ("return 1 + x" in committed, "return 2 + x" in committed) == (True, False)
    assert project.stale() == []
    assert project.git("status", "--porcelain").split() == ["M", "nbs/adding.ipynb"]


def test_module_that_a_person_has_open_is_not_overwritten(project: Project) -> None:
    draft = project.read("model_name/adding.py") + "\n# to be taken back with nbdev-update\n"
    (project.root / "model_name/adding.py").write_text(draft, encoding="utf-8")
    project.write(edited(code_one=ONE))
    project.git("add", "nbs")
    project.git("commit", "-m", "fix: add exactly")
    assert project.read("model_name/adding.py") == draft
    assert project.stale() == []


def test_module_of_a_deleted_notebook_goes_with_it(project: Project) -> None:
    project.git("rm", "--quiet", "nbs/adding.ipynb")
    assert "model_name/adding.py (removed)" in project.git("commit", "-m", "refactor: add nothing")
    assert not (project.root / "model_name/adding.py").exists()
    assert project.stale() == []


def test_front_page_becomes_the_readme(project: Project) -> None:
    project.write([(INDEX[0][0], "# model_name\n\nIt adds, and says so.")], "nbs/index.ipynb")
    project.commit("docs: say more")
    assert "It adds, and says so." in project.read("README.md")
    assert project.stale() == []


def test_commit_without_notebooks_exports_nothing(project: Project) -> None:
    (project.root / "notes.txt").write_text("a\n", encoding="utf-8")
    assert "export" not in project.commit("docs: take a note")


def test_notebook_that_cannot_be_exported_is_refused_with_the_way_out(project: Project) -> None:
    project.write(edited(code_one="#| exports\ndef one(x: int ->"))
    project.git("add", "nbs")
    said = project.git("commit", "-m", "feat: half a thought", ok=False)
    assert (
        "What is staged cannot be exported (nbs/adding.ipynb): nbdev-export failed: SyntaxError"
        in said
    )
    assert "git commit --no-verify" in said


def test_other_messages_are_refused_and_kept(project: Project) -> None:
    (project.root / "notes.txt").write_text("a\n", encoding="utf-8")
    project.git("add", "notes.txt")
    for message in ("added things", "feat add", "feature: add", "feat:add"):
        said = project.git("commit", "-m", message, ok=False)
        assert f"{message!r} is not a Conventional Commit" in said
    project.git("commit", "-m", "docs: take a note")


@pytest.mark.parametrize(
    "message", ["feat(io)!: add", "fixup! feat: add", 'Revert "feat: add"', "chore: größer"]
)
def test_conventional_messages_and_those_of_git_pass(project: Project, message: str) -> None:
    project.git("commit", "--allow-empty", "-m", message)


# -------------------------------------------------------------------------------------------------------- merges
def test_branches_that_changed_different_cells_merge_and_end_export_clean(project: Project) -> None:
    branches(
        project,
        ours=edited(code_one=ONE),
        theirs=edited(code_two=TWO, markdown_two="Two, exactly."),
    )
    project.git("merge", "theirs", "-m", "Merge branch 'theirs'")
    assert project.cells() == edited(code_one=ONE, code_two=TWO, markdown_two="Two, exactly.")
    module = project.read("model_name/adding.py")
    assert "return 1 + x" in module
    assert "return 2 + x" in module
    assert project.stale() == []
    assert project.git("status", "--porcelain") == ""
    assert len(project.git("log", "-1", "--format=%P").split()) == 2


def test_neighbouring_cells_and_new_symbols_on_both_sides_merge(project: Project) -> None:
    """Both sides add a line at the same place of `_modidx.py` and of `__all__`, which lines cannot merge."""
    three = ("code-three", "#| exports\ndef three(x: int) -> int:\n    return x + 3")
    zero = ("code-zero", "#| exports\ndef zero(x: int) -> int:\n    return x")
    branches(project, ours=[*MODULE[:3], zero, *MODULE[3:]], theirs=[*MODULE, three])
    project.git("merge", "theirs", "-m", "Merge branch 'theirs'")
    assert project.cells() == [*MODULE[:3], zero, *MODULE[3:], three]
    assert project.stale() == []
    assert '__all__ = ["one", "zero", "two", "three"]' in project.read("model_name/adding.py")


def test_new_notebooks_on_both_sides_merge_export_clean(project: Project) -> None:
    project.git("switch", "--quiet", "--create", "theirs")
    project.write(
        [("code-default", "#| default_exp b"), ("code-b", "#| exports\nb = 1")], "nbs/b.ipynb"
    )
    project.commit("feat: b")
    project.git("switch", "--quiet", "main")
    project.write(
        [("code-default", "#| default_exp a"), ("code-a", "#| exports\na = 1")], "nbs/a.ipynb"
    )
    project.commit("feat: a")
    project.git("merge", "theirs", "-m", "Merge branch 'theirs'")
    assert project.stale() == []


def test_same_cell_on_both_sides_stops_marked_with_nothing_lost(project: Project) -> None:
    theirs = ONE.replace("exactly", "surely").replace("1 + x", "x + 1 + 0")
    branches(project, ours=edited(code_one=ONE), theirs=edited(code_one=theirs, code_two=TWO))
    said = project.git("merge", "theirs", "-m", "Merge branch 'theirs'", ok=False)
    assert "nbs/adding.ipynb: both branches changed cell 3." in said
    assert "git add nbs/adding.ipynb && git commit" in said
    cells = dict(project.cells())
    for line in [*ONE.splitlines(), *theirs.splitlines()]:
        assert line in cells["code-one"]
    assert cells["code-one"].count("<<<<<<< ") == cells["code-one"].count(">>>>>>> ") == 1
    assert cells["code-two"] == TWO, "what only one side changed is merged all the same"
    assert project.git("diff", "--name-only", "--diff-filter=U").split() == ["nbs/adding.ipynb"]

    project.git("add", "nbs/adding.ipynb")
    said = project.git("commit", "--no-edit", ok=False)
    assert "nbs/adding.ipynb: the marks of a merge" in said

    project.write(edited(code_one=theirs, code_two=TWO))
    project.git("add", "nbs/adding.ipynb")
    project.git("commit", "--no-edit")
    assert project.stale() == []
    assert "x + 1 + 0" in project.read("model_name/adding.py")


def test_rebase_ends_with_the_exports_staged(project: Project) -> None:
    three = ("code-three", "#| exports\ndef three(x: int) -> int:\n    return x + 3")
    zero = ("code-zero", "#| exports\ndef zero(x: int) -> int:\n    return x")
    branches(project, ours=[*MODULE[:3], zero, *MODULE[3:]], theirs=[*MODULE, three])
    said = project.git("rebase", "theirs")
    assert project.cells() == [*MODULE[:3], zero, *MODULE[3:], three]
    if "git commit --amend --no-edit" in said:
        project.git("commit", "--amend", "--no-edit")
    assert project.stale() == []
    assert project.git("status", "--porcelain") == ""


def test_hand_written_modules_conflict_as_ever(project: Project) -> None:
    path = project.root / "model_name" / "__init__.py"
    project.git("switch", "--quiet", "--create", "theirs")
    path.write_text('"""Theirs."""\n', encoding="utf-8")
    project.commit("docs: theirs")
    project.git("switch", "--quiet", "main")
    path.write_text('"""Ours."""\n', encoding="utf-8")
    project.commit("docs: ours")
    project.git("merge", "theirs", ok=False)
    assert '<<<<<<< ours\n"""Ours."""\n=======\n"""Theirs."""\n>>>>>>> theirs\n' in path.read_text(
        encoding="utf-8"
    )


def test_only_what_is_made_from_notebooks_is_made_again_after_a_merge() -> None:
    root = Path(__file__).parents[2]
    paths = [
        "README.md",
        "benchmarks/README.md",
        "CHANGELOG.md",
        "model_name/execution/executors.py",
        "tasks/hooks.py",
    ]
    told = subprocess.run(
        ["git", "check-attr", "merge", *paths], cwd=root, capture_output=True, text=True, check=True
    )
    drivers = dict(line.split(": merge: ") for line in told.stdout.splitlines())
    assert {path for path, driver in drivers.items() if driver == "nbexport"} == {
        paths[0],
        paths[3],
    }


# ------------------------------------------------------------------------------------- what a branch cannot change
HOSTILE = "from pathlib import Path\nPath(__file__).with_name('it-ran').touch()\n"


def test_a_branch_does_not_change_what_git_runs(project: Project) -> None:
    for name in installs.TOOLS:
        (project.root / "tasks" / name).write_text(HOSTILE, encoding="utf-8")
    project.write(edited(code_one=ONE))
    assert "exported into this commit: model_name/adding.py" in project.commit("fix: add exactly")
    assert not list(project.root.rglob("it-ran"))


def test_a_branch_with_an_environment_of_its_own_runs_nothing(project: Project) -> None:
    (project.root / ".venv").unlink()
    python = project.root / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\ntouch it-ran\n", encoding="utf-8")
    python.chmod(0o755)
    project.git("add", "--force", ".venv")
    project.git("commit", "-m", "feat: bring an interpreter")
    project.write(edited(code_one=ONE))
    assert "make install" in project.commit("fix: add exactly")
    assert not list(project.root.rglob("it-ran"))


def test_a_changed_tool_has_to_be_agreed_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tasks").mkdir()
    for name in installs.TOOLS:
        Path("tasks", name).write_text("first", encoding="utf-8")
    copy = tmp_path / "copy"
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    assert installs._copy_tools(copy), "the first time belongs to an installation"
    Path("tasks", "hooks.py").write_text("second", encoding="utf-8")
    assert installs._copy_tools(copy)
    assert "inv installs.git --trust" in capsys.readouterr().out
    assert (copy / "hooks.py").read_text() == "first"
    assert installs._copy_tools(copy, trust=True)
    assert (copy / "hooks.py").read_text() == "second"


def test_the_command_of_clones_that_are_there_still_works(project: Project) -> None:
    project.git("config", "filter.nbclean.clean", ".venv/bin/python -I tasks/notebooks.py")
    project.git("config", "--unset", "filter.nbclean.process")
    project.write(MODULE)
    project.git("add", "--all", "--renormalize")
    assert project.git("status", "--porcelain") == ""
