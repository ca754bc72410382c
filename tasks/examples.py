"""Run the examples of notebooks in a copy of the project, and compare what they show with what is committed."""

import difflib
import json
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from invoke import Context, Exit

from tasks.notebooks import ROOT, clean

COMMAND = "nbdev-test nbs --save --timing --skip-folder-re '^[_.]|^runs$'"  # pytest runs the job notebooks


def copy_project(folder: Path) -> None:
    """Copy what git knows of the project, and what it would take in, as it is now."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name, follow_symlinks=False)


# nbdev's shell is no kernel: pandas would cut tables to the width of a terminal, and figures would lose their words
AS_IN_A_KERNEL = """
import pandas
from matplotlib_inline.backend_inline import set_matplotlib_formats

pandas.set_option("display.max_columns", 20)
set_matplotlib_formats("png")
"""


def _like_a_kernel(folder: Path) -> dict[str, str]:
    """Let nbdev's shell show tables as Jupyter does; return the variables of the environment that it takes."""
    settings = folder / "pyproject.toml"
    settings.write_text(
        settings.read_text("utf-8").replace("exec_profile = false", "exec_profile = true"), "utf-8"
    )
    startup = folder / ".ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "tables.py").write_text(AS_IN_A_KERNEL, encoding="utf-8")
    return {"IPYTHONDIR": str(folder / ".ipython"), "COLUMNS": "80"}


def run(c: Context, folder: Path, env: dict[str, str], only: str = "") -> dict[str, str]:
    """Run notebooks in a copy; return those whose outputs are not the committed ones, in their new form.

    Args:
        c: runs the command.
        folder: for the copy.
        env: variables of the environment.
        only: a regular expression of the names to run; by default all.

    Raises:
        Exit: a notebook failed, or wrote a file beside itself.
    """
    copy_project(folder)
    env = env | _like_a_kernel(folder)
    before = _files(folder)
    with c.cd(folder):
        c.run(f"{COMMAND} --file-re {shlex.quote(only or '.')}", env=env)
    if written := sorted(_files(folder) - before):
        raise Exit(
            "\n".join(
                [
                    *(f"{name} was written" for name in written),
                    "Examples write to temporary folders only.",
                ]
            )
        )
    changed = {}
    for path in sorted((folder / "nbs").rglob("*.ipynb")):
        name = path.relative_to(folder).as_posix()
        now = clean(path.read_text(encoding="utf-8"))
        if list(shown(now)) != list(shown((ROOT / name).read_text(encoding="utf-8"))):
            changed[name] = now
    return changed


def _files(folder: Path) -> set[str]:
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {
        path.as_posix()
        for path in paths
        if not {"__pycache__", ".ipynb_checkpoints", ".ipython"} & set(path.parts)
    }


def shown(text: str) -> Iterator[str]:
    """Yield what a notebook shows, a line at a time: texts as they are, of a figure only the words that go with it.

    Words that the cell has of its own (`#| fig-alt`) stand for those of the figure, which may have times in them.
    """
    for cell in json.loads(text)["cells"]:
        own = "#| fig-alt" in "".join(cell["source"])
        for output in cell.get("outputs", []):
            for kind, content in sorted(_contents(output).items()):
                words = "" if own else output.get("metadata", {}).get(kind, {}).get("alt", "")
                yield f"{cell['id']}: {kind} {words}".rstrip()
                if kind.startswith("text/"):
                    yield from "".join(content).splitlines()


def _contents(output: dict[str, Any]) -> dict[str, Any]:
    return (
        output["data"]
        if "data" in output
        else {"text/stream": output.get("text", output.get("traceback", ""))}
    )


def differences(name: str, now: str) -> Iterator[str]:
    """Yield the lines of a notebook's outputs that are not the committed ones."""
    committed = (ROOT / name).read_text(encoding="utf-8")
    yield from difflib.unified_diff(
        list(shown(committed)), list(shown(now)), name, "now", n=1, lineterm=""
    )
