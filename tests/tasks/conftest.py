"""A small project in a git repository of its own, with the hooks and merge drivers that `make install` sets up."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest

from tasks import hooks, installs

ROOT = Path(__file__).parents[2]
Cell = tuple[str, str]  # its id, which also says what it is, and its source

MODULE: list[Cell] = [
    ("markdown-title", "# Adding\n\n> One number and another."),
    ("code-default", "#| default_exp adding"),
    ("code-one", '#| exports\ndef one(x: int) -> int:\n    """Add one."""\n    return x + 1'),
    ("code-show", "one(1)"),
    ("markdown-two", "Two is one and one."),
    ("code-two", '#| exports\ndef two(x: int) -> int:\n    """Add two."""\n    return x + 2'),
]
INDEX: list[Cell] = [("markdown-front", "# model_name\n\nIt adds.")]


@dataclass(frozen=True)
class Project:
    """A checkout of the small project."""

    root: Path

    def git(self, *arguments: str, ok: bool = True) -> str:
        """Run git; give what it said, on both channels."""
        done = subprocess.run(
            ["git", *arguments],
            cwd=self.root,
            capture_output=True,
            text=True,
            env=environment(),
            check=False,
        )
        said = done.stdout + done.stderr
        assert (done.returncode == 0) is ok, said
        return said

    def write(self, cells: Sequence[Cell], name: str = "nbs/adding.ipynb") -> None:
        notebook = nbformat.v4.new_notebook()
        notebook.metadata["kernelspec"] = {
            "display_name": "python3",
            "language": "python",
            "name": "python3",
        }
        for identity, source in cells:
            kind = (
                nbformat.v4.new_code_cell
                if identity.startswith("code")
                else nbformat.v4.new_markdown_cell
            )
            notebook.cells.append(kind(source, id=identity))
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, path)

    def cells(self, name: str = "nbs/adding.ipynb") -> list[Cell]:
        return [
            (cell.id, cell.source) for cell in nbformat.read(self.root / name, as_version=4).cells
        ]

    def read(self, name: str) -> str:
        return (self.root / name).read_text(encoding="utf-8")

    def commit(self, message: str) -> str:
        self.git("add", "--all")
        return self.git("commit", "-m", message)

    def stale(self) -> list[str]:
        """Give the committed files that are not what the committed notebooks export."""
        from tasks import exports

        clone = self.root.parent / f"{self.root.name}-clone"
        shutil.rmtree(clone, ignore_errors=True)
        subprocess.run(["git", "clone", "--quiet", self.root, clone], check=True, env=environment())
        copy = clone.parent / f"{clone.name}-export"
        shutil.rmtree(copy, ignore_errors=True)
        exports.prepare(clone, copy)
        wanted = exports.export(copy) | {exports.README: exports.readme(clone)}
        committed = exports.modules(clone) | {
            exports.README: (clone / exports.README).read_text(encoding="utf-8")
        }
        return sorted(
            name
            for name in wanted.keys() | committed.keys()
            if wanted.get(name) != committed.get(name)
        )


def environment() -> dict[str, str]:
    """Give this environment without what an outer git says, and with an author."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    person = {
        f"GIT_{who}_{what}": "a@example.org"
        for who in ("AUTHOR", "COMMITTER")
        for what in ("NAME", "EMAIL")
    }
    return clean | person | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_EDITOR": "true"}


@pytest.fixture(scope="session")
def first_commit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("template") / "project"
    (root / "tasks").mkdir(parents=True)
    for name in ("hooks.py", "exports.py", "notebooks.py"):
        shutil.copy(ROOT / "tasks" / name, root / "tasks")
    for name in (".gitattributes", "pyproject.toml", "settings.ini"):
        shutil.copy(ROOT / name, root)
    (root / ".gitignore").write_text(".venv\n__pycache__/\n", encoding="utf-8")
    (root / ".venv").symlink_to(sys.prefix)
    (root / "model_name").mkdir()
    (root / "model_name" / "__init__.py").write_text('"""Written by hand."""\n', encoding="utf-8")
    project = Project(root)
    project.write(MODULE)
    project.write(INDEX, "nbs/index.ipynb")
    project.git("init", "--quiet", "--initial-branch", "main")
    (root / ".git" / installs.COPY).mkdir()
    for name in installs.TOOLS:
        shutil.copy(ROOT / "tasks" / name, root / ".git" / installs.COPY)
    for key, value in installs.GIT.items():
        project.git("config", "--local", key, value)
    for name in hooks.HOOKS:
        installs._install_hook(root / ".git" / "hooks" / name, installs.shim(name), remove=False)
    project.commit("feat: add numbers")
    return root


@pytest.fixture
def project(first_commit: Path, tmp_path: Path) -> Project:
    """A checkout with one commit, on the branch main."""
    root = tmp_path / "project"
    shutil.copytree(first_commit, root, symlinks=True)
    return Project(root)
