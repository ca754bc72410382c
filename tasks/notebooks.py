"""Clean notebooks: the git filter that `make install` registers, and the same rule for the tasks.

Saving a notebook in JupyterLab changes what no reader cares about: counters, timings, the name of the kernel.
As a filter this file reads a notebook from stdin and writes it to stdout the way it is committed, so that none of it
reaches `git diff`. With `serve` as its argument it does so for every notebook that a command of git comes across.

`git status` and `git pull --rebase` look no further than the size of a file, and call such a notebook modified. So
JupyterLab tells git of every notebook that it saves (`after_save`), and `inv formats.status` does it for other editors.
"""

import contextlib
import json
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

HERE = Path(__file__).resolve().parent
ROOT = (
    HERE.parent if HERE.name == "tasks" else Path.cwd()
)  # a copy of this file runs at the root of the work tree
PARAMETERS = "parameters"  # the tag by which papermill finds the parameters of a job notebook


def clean(text: str) -> str:
    """Give the committed form of a notebook: nbdev's, without what stderr showed.

    The outputs of a job notebook, one with parameters, belong to a run and not to the source: none of them is kept.
    """
    from fastcore.nbio import nb2str
    from nbdev.clean import clean_nb

    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["nbdev"]
    notebook = json.loads(text)
    clean_nb(
        notebook,
        clear_all=settings.get("clear_all", False),
        allowed_metadata_keys=settings.get("allowed_metadata_keys", []),
        allowed_cell_metadata_keys=settings.get("allowed_cell_metadata_keys", []),
        allowed_out_metadata_keys=settings.get("allowed_out_metadata_keys", []),
        clean_ids=settings.get("clean_ids", True),
    )
    of_a_job = any(PARAMETERS in cell["metadata"].get("tags", []) for cell in notebook["cells"])
    for cell in notebook["cells"]:
        if "outputs" in cell:
            cell["outputs"] = [] if of_a_job else _lasting(cell["outputs"])
    return str(nb2str(notebook))


def notebooks() -> Iterator[Path]:
    """Find every notebook of the project."""
    return (
        path
        for path in sorted((ROOT / "nbs").rglob("*.ipynb"))
        if ".ipynb_checkpoints" not in path.parts
    )


def _lasting(outputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Drop logs and progress bars, then join the pieces of a stream that it had cut in two."""
    kept: list[dict[str, Any]] = []
    for output in outputs:
        if output.get("name") == "stderr":
            continue
        if kept and output["output_type"] == "stream" and kept[-1].get("name") == output["name"]:
            kept[-1]["text"] = _text(kept[-1]["text"]) + _text(output["text"])
        else:
            kept.append(output)
    return kept


def _text(value: str | list[str]) -> str:
    return value if isinstance(value, str) else "".join(value)


def stored(content: bytes) -> bytes:
    """Give what git stores of a file; what is not a notebook, or cannot be cleaned, stays as it is."""
    try:
        with contextlib.redirect_stdout(sys.stderr):  # stdout is the file that git stores
            return clean(content.decode()).encode()
    except Exception as error:  # noqa: BLE001 - a filter that fails must never lose what a person wrote
        print(f"A notebook was stored as it is, without cleaning: {error!r}", file=sys.stderr)
        return content


# ----------------------------------------------------------------------------------- what git status says of a notebook
def refresh(root: Path, names: list[str]) -> list[str]:
    """Let git note the size of notebooks that are, once cleaned, what it has already; return those that differ."""
    different = []
    for name in names:
        same = subprocess.run(
            ["git", "diff", "--quiet", "--", name], cwd=root, capture_output=True, check=False
        )
        if same.returncode == 0:  # --update leaves a file alone that git does not know
            subprocess.run(
                ["git", "add", "--update", "--", name], cwd=root, capture_output=True, check=False
            )
        else:
            different.append(name)
    return different


def look_modified(root: Path) -> list[str]:
    """Return the notebooks of which git says that they were modified, by their size."""
    command = ["git", "diff-files", "-z", "--name-only", "--diff-filter=M", "--", "*.ipynb"]
    done = subprocess.run(command, cwd=root, capture_output=True, check=True)
    return [name for name in done.stdout.decode(errors="surrogateescape").split("\0") if name]


def after_save(os_path: str, **_: Any) -> threading.Thread:
    """Let git look at a notebook that JupyterLab has saved; JupyterLab does not wait for it."""
    file = Path(os_path)
    names = [file.name] if file.suffix == ".ipynb" else []
    looking = threading.Thread(target=refresh, args=(file.parent, names))
    looking.start()
    return looking


# ------------------------------------------------------------------- git's protocol for filters that serve many files
# Source: https://git-scm.com/docs/gitattributes, "Long Running Filter Process"
_LARGEST = 65_516  # bytes of a packet


def serve(source: IO[bytes], target: IO[bytes]) -> None:
    """Filter files for as long as git asks."""
    _receive(source)  # who asks, and its version
    _send(target, b"git-filter-server\n", b"version=2\n")
    _receive(source)  # what it can do
    _send(target, b"capability=clean\n")
    while _receive(source):  # what to do, with which file
        result = stored(b"".join(_receive(source)))
        _send(target, b"status=success\n")
        _send(
            target, *(result[start : start + _LARGEST] for start in range(0, len(result), _LARGEST))
        )
        _send(target)  # and the status stands


def _receive(source: IO[bytes]) -> list[bytes]:
    """Read packets up to the one without a length; none at the end of the conversation."""
    packets = []
    while (head := source.read(4)) and (length := int(head, 16)):
        packets.append(source.read(length - 4))
    return packets


def _send(target: IO[bytes], *packets: bytes) -> None:
    """Write packets, and one without a length."""
    for packet in packets:
        target.write(b"%04x" % (len(packet) + 4) + packet)
    target.write(b"0000")
    target.flush()


def main(what: str = "clean") -> int:
    """Clean the notebook on stdin, or serve git for as long as it asks."""
    if what == "serve":
        serve(sys.stdin.buffer, sys.stdout.buffer)
    else:
        sys.stdout.buffer.write(stored(sys.stdin.buffer.read()))
    return 0


if (
    __name__ == "__main__"
):  # clones that were set up earlier start this file; later ones start tasks/hooks.py
    main(*sys.argv[1:])
