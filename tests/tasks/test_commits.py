"""The next version and the changelog, from the history of a real repository."""

import datetime
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tasks import commits
from tests.tasks.conftest import Project, environment

ROOT = Path(__file__).parents[2]
EMPTY = "# Changelog\n\n## [Unreleased]\n\n## [0.1.0]\n\nThe first version.\n"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A checkout at version 0.1.0, without hooks."""
    project = Project(tmp_path)
    shutil.copytree(
        ROOT / "tasks", tmp_path / "tasks", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in ("settings.ini", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    settings = re.sub(r"(?m)^version = .*$", "version = 0.1.0", project.read("settings.ini"))
    (tmp_path / "settings.ini").write_text(settings, encoding="utf-8")
    (tmp_path / ".gitignore").write_text("__pycache__/\n", encoding="utf-8")
    (tmp_path / "CHANGELOG.md").write_text(EMPTY, encoding="utf-8")
    project.git("init", "--quiet", "--initial-branch", "main")
    project.commit("feat: everything")
    return project


def inv(project: Project, *arguments: str, ok: bool = True) -> str:
    command = [sys.executable, "-m", "invoke", *arguments]
    done = subprocess.run(
        command,
        cwd=project.root,
        env=environment(),
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert (done.returncode == 0) is ok, done.stdout + done.stderr
    return done.stdout + done.stderr


def change(project: Project, *messages: str) -> None:
    for message in messages:
        project.git("commit", "--allow-empty", "-m", message)


@pytest.mark.parametrize(
    ("before", "messages", "after"),
    [
        ("0.1.0", ["fix: a", "docs: b"], "0.1.1"),
        ("0.1.9", ["perf(io): a"], "0.1.10"),
        ("0.1.1", ["fix: a", "feat(io): b"], "0.2.0"),
        ("0.1.1", ["refactor!: a"], "0.2.0"),
        ("1.4.2", ["fix(core)!: a"], "2.0.0"),
        ("1.4.2", ["fix: a\n\nBREAKING CHANGE: b"], "2.0.0"),
        ("1.4.2", ["docs: a", "ci: b", "Merge branch 'c'"], "1.4.2"),
    ],
)
def test_next_version_follows_from_the_commits(
    before: str, messages: list[str], after: str
) -> None:
    changes = [found for message in messages if (found := commits.parsed(message))]
    assert commits.raised(before, commits.called_for(changes, before)) == after


def test_entries_go_under_the_heading_that_users_know() -> None:
    messages = [
        "feat(io): read ORC",
        "fix: close files",
        "refactor: tidy",
        "feat!: drop Python 3.10",
        "feat: say so",
    ]
    changes = [found for message in messages if (found := commits.parsed(message))]
    text = EMPTY.replace(
        "[Unreleased]\n", "[Unreleased]\n\n### Added\n\n- A sentence of a person.\n"
    )
    drafted = commits.drafted(text, changes)
    assert commits.section(drafted, "Unreleased") == (
        "### Added\n\n- A sentence of a person.\n- `io`: read ORC\n- say so\n\n"
        "### Fixed\n\n- close files\n\n### Changed\n\n- **Breaking.** drop Python 3.10"
    )
    assert commits.section(drafted, "0.1.0") == "The first version."
    assert commits.drafted(drafted, changes) == drafted


def test_bump_changes_version_changelog_and_tag_in_one_commit(project: Project) -> None:
    change(project, "feat: one", "fix(io): two")
    assert "0.1.0 -> 0.2.0" in inv(project, "commits.bump", "--dry")
    assert project.git("status", "--porcelain") + project.git("tag") == ""
    inv(project, "commits.bump")
    today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    assert project.read("CHANGELOG.md") == EMPTY.replace(
        "## [0.1.0]",
        f"## [0.2.0] - {today}\n\n### Added\n\n- one\n\n### Fixed\n\n- `io`: two\n\n## [0.1.0]",
    )
    assert "\nversion = 0.2.0\n" in project.read("settings.ini")
    assert (
        project.git("log", "-1", "--format=%s %D").strip()
        == "bump: version 0.1.0 → 0.2.0 HEAD -> main, tag: v0.2.0"
    )
    assert inv(project, "commits.notes").startswith("### Added\n\n- one")
    change(project, "docs: three")
    assert "Nothing since 0.2.0 concerns users" in inv(project, "commits.bump", ok=False)
    change(project, "fix: four")
    assert "0.2.0 -> 0.2.1" in inv(project, "commits.bump", "--dry")


def test_bump_keeps_what_a_person_wrote(project: Project) -> None:
    text = EMPTY.replace("[Unreleased]\n", "[Unreleased]\n\n### Added\n\n- Read ORC files.\n")
    (project.root / "CHANGELOG.md").write_text(text, encoding="utf-8")
    project.commit("feat(io): orc")
    inv(project, "commits.bump")
    assert (
        commits.section(project.read("CHANGELOG.md"), "0.2.0") == "### Added\n\n- Read ORC files."
    )


def test_bump_refuses_a_working_tree_with_changes(project: Project) -> None:
    change(project, "feat: one")
    (project.root / "CHANGELOG.md").write_text(EMPTY + "\nMore.\n", encoding="utf-8")
    assert "changes that are not committed" in inv(project, "commits.bump", ok=False)
    assert "version = 0.1.0" in project.read("settings.ini")


def test_check_names_the_commits_of_a_range_that_are_wrong(project: Project) -> None:
    project.git("switch", "--quiet", "--create", "work")
    change(project, "feat: one", "fix: two")
    assert "2 commit message(s) are as they should be" in inv(project, "commits.check")
    change(project, "did things")
    said = inv(project, "commits.check", ok=False)
    assert "did things" in said
    assert "feat: one" not in said
    assert "1 commit message(s)" in inv(project, "commits.check", "--commits", "HEAD^")
    assert "There is no commit" in inv(project, "commits.check", "--commits", "HEAD..HEAD")
