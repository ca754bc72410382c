"""Clean notebooks: the git filter that `make install` registers, and the same rule for the tasks.

Saving a notebook in JupyterLab changes what no reader cares about: counters, timings, the name of the kernel.
As a filter this file reads a notebook from stdin and writes it to stdout the way it is committed, so that none of it
reaches `git diff`. Imports are few, because git starts it once a file.
"""

import contextlib
import json
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
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
    return (path for path in sorted((ROOT / "nbs").rglob("*.ipynb")) if ".ipynb_checkpoints" not in path.parts)


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


def main() -> None:
    """Filter stdin to stdout; what is not a notebook, or cannot be cleaned, passes unchanged."""
    content = sys.stdin.buffer.read()
    try:
        with contextlib.redirect_stdout(sys.stderr):  # stdout is the file that git stores
            result = clean(content.decode()).encode()
    except Exception as error:  # noqa: BLE001 - a filter that fails must never lose what a person wrote
        print(f"A notebook was stored as it is, without cleaning: {error!r}", file=sys.stderr)
        result = content
    sys.stdout.buffer.write(result)


if __name__ == "__main__":
    main()
