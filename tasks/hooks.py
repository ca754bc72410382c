"""What git starts by itself: the filter, the merge drivers and the hooks that `inv installs.git` and `.hooks` register.

git runs a copy of this file and of the two that it loads, which is in `.git`: a branch that is checked out changes
what is in tasks/, and not what runs here. `inv installs.git` makes the copy, and asks before it renews it.

A notebook merges cell by cell. What is generated from notebooks is never merged by hand: the driver lets it pass, and
the hooks export again before the commit is made, from exactly what is staged. No hook asks anything, and without
`.venv` none of them runs. git starts this file in the middle of a merge, when any other file may be half merged, so it
imports nothing of tasks/ but loads the two modules that it needs by their path.
"""

import argparse
import json
import os
import re
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = (
    HERE.parent if HERE.name == "tasks" else Path.cwd()
)  # git starts what it runs at the root of the work tree
MARKER = re.compile(r"^(?:<span[^>]*><b>)?(?:<{7}|>{7}) ", re.MULTILINE)
HOOKS = ("pre-commit", "pre-merge-commit", "post-merge", "commit-msg", "post-rewrite")


def _tasks(module: str) -> dict[str, Any]:
    return runpy.run_path(str(HERE / f"{module}.py"))


def _git(*arguments: str, text: str | None = None) -> str:
    done = subprocess.run(
        ["git", *arguments],
        input=text,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
    )
    return done.stdout


def _names(*arguments: str) -> list[str]:
    return [name for name in _git(*arguments).split("\0") if name]


# ------------------------------------------------------------------------------------------------- merge drivers
def merge_notebook(base: str, ours: str, theirs: str, path: str) -> int:
    """Merge two notebooks cell by cell into the file `ours`; give 1 when a person has to choose."""
    _tasks("exports")  # before nbformat, which then starts without the grammars of web addresses
    import nbformat
    from nbdime import args as options
    from nbdime.merging import merge_notebooks

    parser = argparse.ArgumentParser()
    for add in (options.add_generic_args, options.add_diff_args, options.add_merge_args):
        add(parser)
    chosen = parser.parse_args(["--merge-strategy", "inline", "--output-strategy", "remove"])
    texts = [Path(file).read_text(encoding="utf-8") for file in (base, ours, theirs)]
    empty = nbformat.writes(nbformat.v4.new_notebook())
    before, mine, other = (nbformat.reads(text or empty, as_version=4) for text in texts)
    merged, decisions = merge_notebooks(before, mine, other, chosen)
    text = _tasks("notebooks")["clean"](nbformat.writes(merged))
    Path(ours).write_text(text, encoding="utf-8", newline="\n")
    if not any(decision.conflict for decision in decisions):
        return 0
    cells = marked(text)
    where = f"cell {', '.join(map(str, cells))}" if cells else "the metadata or the outputs"
    print(
        f"{path}: both branches changed {where}. Open the notebook, keep what is right between the lines <<<<<<< and\n"
        f">>>>>>>, delete those lines, then: git add {path} && git commit. The modules are exported by themselves.",
        file=sys.stderr,
    )
    return 1


def marked(notebook: str) -> list[int]:
    """Give the numbers, from 1, of the cells in which a merge left its marks."""
    cells = json.loads(notebook)["cells"]
    return [
        number for number, cell in enumerate(cells, 1) if MARKER.search("".join(cell["source"]))
    ]


def merge_generated(base: str, ours: str, theirs: str, path: str) -> int:
    """Merge a generated file into the file `ours`: by lines where they fit, and otherwise leave it to the export."""
    label = ["-L", "ours", "-L", "base", "-L", "theirs"]
    done = subprocess.run(
        ["git", "merge-file", "-p", *label, ours, base, theirs], capture_output=True, check=False
    )
    text = Path(ours).read_text(encoding="utf-8")
    hand_written = path.endswith(".py") and not _tasks("exports")["generated"](text)
    if done.returncode == 0 or hand_written:
        Path(ours).write_bytes(done.stdout)
        return min(done.returncode, 1)
    return 0  # the version of this branch stays until the notebooks are exported again


# --------------------------------------------------------------------------------------------------------- hooks
def export_staged(merging: bool = False) -> int:
    """Put what the staged notebooks export into the commit; refuse notebooks with marks of an unfinished merge."""
    staged = _names("diff", "--cached", "--name-only", "--no-renames", "-z", "--", "nbs")
    notebooks = [name for name in staged if name.endswith(".ipynb")]
    if not notebooks:
        return 0
    there = [name for name in notebooks if _git("ls-files", "--", name)]
    unfinished = {name: cells for name in there if (cells := marked(_git("show", f":{name}")))}
    for name, cells in unfinished.items():
        print(
            f"{name}: the marks of a merge, <<<<<<< and >>>>>>>, are still in cell {', '.join(map(str, cells))}. "
            f"Delete them, then: git add {name}",
            file=sys.stderr,
        )
    if unfinished:
        return 1
    exports = _tasks("exports")
    try:
        with tempfile.TemporaryDirectory() as folder:
            wanted = _exported_from_index(
                exports, Path(folder), front_page=exports["INDEX"] in there
            )
    except exports["ExportError"] as error:
        print(
            f"What is staged cannot be exported ({', '.join(there)}): {error}\n"
            "Fix the notebook and stage it; `git commit --no-verify` commits it all the same.",
            file=sys.stderr,
        )
        return 1
    changed = _stage(exports, wanted)
    if changed:
        print(f"exported into this commit: {', '.join(changed)}", file=sys.stderr)
    if changed and merging:
        _note().write_text(_git("rev-parse", "HEAD"), encoding="utf-8")
    return 0


def _note() -> Path:
    """Where one hook of a merge tells the next one that it has staged something, and on top of which commit."""
    return Path(_git("rev-parse", "--git-path", "exported-into-merge").strip())


def amend_merge() -> int:
    """Take into a merge what was exported for it: git writes its tree before it asks the hook that exports."""
    note = _note()
    if note.exists():
        first_parent = note.read_text(encoding="utf-8")
        note.unlink()
        parents = _git("log", "-1", "--format=%P").split()
        if parents[:1] == [
            first_parent.strip()
        ]:  # plumbing, because `git commit --amend` refuses inside a merge
            above = [word for parent in parents for word in ("-p", parent)]
            tree = _git("write-tree").strip()
            commit = _git(
                "commit-tree", tree, *above, text=_git("log", "-1", "--format=%B")
            ).strip()
            _git("update-ref", "-m", "merge: exported notebooks", "HEAD", commit)
    return 0


def _exported_from_index(exports: dict[str, Any], copy: Path, front_page: bool) -> dict[str, str]:
    """Give the generated files that belong to the notebooks in the index, whatever the working tree looks like."""
    package = exports["PACKAGE"]
    listed = _names(
        "ls-files", "-z", "--", "nbs", "pyproject.toml", f"{package}/**/__init__.py", package
    )
    wanted = [
        name
        for name in listed
        if not name.startswith(f"{package}/") or name.endswith("/__init__.py")
    ]
    _git("checkout-index", "-z", "--stdin", f"--prefix={copy.as_posix()}/", text="\0".join(wanted))
    for path in copy.glob(f"{package}/**/__init__.py"):
        if path not in exports["by_hand"](copy):
            path.unlink()
    (copy / package).mkdir(exist_ok=True)
    result: dict[str, str] = exports["export"](copy)
    if front_page:
        result[exports["README"]] = exports["readme"](copy)
    return result


def _stage(exports: dict[str, Any], wanted: dict[str, str]) -> list[str]:
    """Make the index hold the generated files; give the names of those that were changed by it."""
    package = exports["PACKAGE"]
    changed = []
    for name in _names("ls-files", "-z", "--", package):
        text = _git("show", f":{name}") if name.endswith(".py") and name not in wanted else ""
        if exports["generated"](text):  # its notebook is gone
            _git("rm", "--quiet", "--cached", "--", name)
            _follow(name, text, None)
            changed.append(f"{name} (removed)")
    for name, text in wanted.items():
        before = _git("show", f":{name}") if _git("ls-files", "--", name) else None
        if before != text:
            blob = _git("hash-object", "-w", "--stdin", text=text).strip()
            _git("update-index", "--add", "--cacheinfo", f"100644,{blob},{name}")
            _follow(name, before, text)
            changed.append(name)
    return changed


def _follow(name: str, before: str | None, after: str | None) -> None:
    """Let the working tree follow the index where it was the same; what a person has there stays."""
    path = ROOT / name
    if (path.read_text(encoding="utf-8") if path.exists() else None) != before:
        return
    if after is None:
        path.unlink()
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(after, encoding="utf-8", newline="\n")


def check_message(file: str) -> int:
    """Refuse a commit message that is not a Conventional Commit; say how to go on without typing it again."""
    cz = Path(sys.executable).parent / "cz"
    command = [cz, "check", "--allow-abort", "--commit-msg-file", file]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return 0
    lines = Path(file).read_text(encoding="utf-8").splitlines()
    subject = next((line for line in lines if line.strip() and not line.startswith("#")), "")
    print(
        f"{subject!r} is not a Conventional Commit. Write `type: what it does`, as in `fix(io): close the file`.\n"
        "Types: feat, fix, perf, refactor, docs, test, build, ci, style, chore; `!` before the colon marks a breaking\n"
        "change. Your message is kept: `git commit -eF .git/COMMIT_EDITMSG` opens it again, `inv commits.new` asks.",
        file=sys.stderr,
    )
    return 1


def after_rebase(command: str) -> int:
    """Export once after a rebase, whose commits git makes without asking the other hooks."""
    if command != "rebase":
        return 0
    exports = _tasks("exports")
    with tempfile.TemporaryDirectory() as folder:
        wanted = _exported_from_index(
            exports, Path(folder), front_page=(ROOT / exports["INDEX"]).exists()
        )
    changed = _stage(exports, wanted)
    if changed:
        print(
            f"The rebase left generated files behind their notebooks. They are exported and staged: "
            f"{', '.join(changed)}\nCommit them: git commit --amend --no-edit",
            file=sys.stderr,
        )
    return 0


def main(what: str, *arguments: str) -> int:
    """Do what git asks for."""
    notebooks = _tasks("notebooks") if what in ("clean", "serve") else {}
    actions = {
        "clean": lambda: notebooks["main"](),
        "serve": lambda: notebooks["main"]("serve"),
        "merge-notebook": merge_notebook,
        "merge-generated": merge_generated,
        "pre-commit": lambda *_: export_staged(),
        "pre-merge-commit": lambda *_: export_staged(merging=True),
        "post-merge": lambda *_: amend_merge(),
        "commit-msg": check_message,
        "post-rewrite": after_rebase,
    }
    return actions[what](*arguments)


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main(*sys.argv[1:]))
