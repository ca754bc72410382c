"""What nbdev does to a notebook before it becomes a page of the site ([tool.nbdev] in pyproject.toml names `Page`)."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from fastcore.nbio import mk_cell
from nbdev.process import Processor

from tasks.notebooks import PARAMETERS, ROOT
from tasks.site import reference

EXPORTED, SHOWN = {"export", "exporti"}, "exports"
# Quarto loads scripts from other servers for all other types of outputs: HTML, widgets, JavaScript.
SHOWN_TYPES = {"text/plain", "text/markdown", "image/png", "image/jpeg", "image/svg+xml"}
INJECTED = "injected-parameters"  # papermill's tag for the cell that holds what it was given
_DIAGRAM = re.compile(r"(?m)^```mermaid\n%%\| fig-alt: (?P<words>.+)\n(?P<kind>.+)\n")
_TITLE = re.compile(r"\A#\s+(\S.*?)\s*\n+((?:>.*(?:\n|\Z))+)\n*")


class Page(Processor):
    """Turn the cells of a notebook into those of its page: front matter, reference, links, words for figures.

    nbdev's own processors for these run the exported cells again, keep nothing of the first cell but the title, and
    print the sections of docstrings as they are.
    """

    def begin(self) -> None:
        """Replace the cells, all at once: what one cell becomes may depend on its neighbours."""
        self.name = _name(getattr(self.nb, "path_", None))
        self.module = reference.module_of(self.name)
        self.nb.cells = [made for cell in self.nb.cells for made in self._made(cell)]
        self.nb.cells[:0] = [
            mk_cell(f"---\n{yaml.safe_dump(self._front(), allow_unicode=True)}---\n", "raw")
        ]
        for number, cell in enumerate(self.nb.cells):
            cell["id"] = (
                f"cell-{number}"  # new cells get one by chance; pages are the same each time
            )
        self.nb.metadata.pop(
            "widgets", None
        )  # the state of progress bars; it would load scripts from elsewhere
        self.nb.metadata.pop("papermill", None)

    def _front(self) -> dict[str, Any]:
        """Take title and summary from the first cell, and leave the rest of it."""
        first = next((cell for cell in self.nb.cells if cell.cell_type == "markdown"), None)
        match = _TITLE.match(first.source) if first is not None else None
        if first is None or match is None:
            return {}
        first.source = first.source[match.end() :]
        summary = " ".join(line.lstrip("> ").strip() for line in match[2].splitlines())
        front = {
            "title": match[1],
            "description": summary,
            "body-classes": f"part-{_part(self.name)}",
        }
        if self.module:
            head = (
                f"[`{self.module}`]{{.api-module}}\n\n" if self.module != reference.PACKAGE else ""
            )
            first.source = head + first.source
        return front

    def _made(self, cell: Any) -> Iterator[Any]:
        if cell.cell_type == "markdown":
            text = _DIAGRAM.sub(_with_words, cell.source)
            cell.source = reference.links().link_prose(text, self.name, self.module)
            yield cell
        elif cell.cell_type != "code":
            yield cell
        elif not cell.directives_.keys() & {"hide", "default_exp"} and cell.source.strip():
            yield from self._code(cell)

    def _code(self, cell: Any) -> Iterator[Any]:
        tags = set(cell.metadata.get("tags", []))
        exported = cell.directives_.keys() & {*EXPORTED, SHOWN}
        if exported:
            yield from self._reference(cell, folded=SHOWN in exported)
        elif INJECTED not in tags:
            if PARAMETERS in tags:
                cell.metadata.pop("tags")
            # The log of a run is for who runs it, with times and the remains of progress bars.
            cell["outputs"] = [
                output for output in cell.get("outputs", []) if output.get("name") != "stderr"
            ]
            _give_words(cell)
            tables = _without_html(cell)
            yield cell
            yield from tables

    def _reference(self, cell: Any, folded: bool) -> Iterator[Any]:
        """Document what a cell defines; the source of what it is meant to show follows, folded."""
        names = [
            name
            for name in _defined(cell.source)
            if not name.startswith("_") or name == "__getattr__"
        ]
        for name in names:
            if self.module:
                yield mk_cell(reference.describe(self.module, name, self.name), "markdown")
        if folded:
            summary = f"Source of {', '.join(names[:3])}{' ...' if len(names) > 3 else ''}"
            source = re.sub(r"(?m)^#\|\s*exports.*\n", "", cell.source)
            cell.source = f'#| code-fold: true\n#| code-summary: "{summary}"\n{source}'
            cell.outputs = []
            yield cell


def _with_words(diagram: re.Match[str]) -> str:
    """Write a diagram in Quarto's way, with its words inside, where screen readers find them."""
    words = yaml.safe_load(diagram["words"])
    title = words.partition(".")[0]
    return (
        f"```{{mermaid}}\n%%| fig-alt: {diagram['words']}\n{diagram['kind']}\n"
        f"  accTitle: {title}\n  accDescr: {words}\n"
    )


def _without_html(cell: Any) -> list[Any]:
    """Take the HTML out of a cell's outputs and return it as raw HTML in Markdown, without scripts.

    Quarto adds scripts from other servers to every page that has an output of the type text/html, or of a type that
    only a script can show.
    """
    found = [output for output in cell.get("outputs", []) if "text/html" in output.get("data", {})]
    cell["outputs"] = [output for output in cell.get("outputs", []) if output not in found]
    for output in cell["outputs"]:
        for kind in [kind for kind in output.get("data", {}) if kind not in SHOWN_TYPES]:
            del output["data"][kind]
    texts = ["".join(output["data"]["text/html"]) for output in found]
    texts = [
        re.sub(r"<script\b.*?</script>", "", text, flags=re.DOTALL | re.IGNORECASE).strip()
        for text in texts
    ]
    texts = [
        text.replace('border="1" class="dataframe"', 'class="dataframe table table-sm"').replace(
            "<th></th>", "<td></td>"
        )
        for text in texts
    ]
    return [
        mk_cell(_RAW_HTML.format(text=text, fence="`" * _fence(text)), "markdown")
        for text in texts
        if text
    ]


_RAW_HTML = """::: {{.cell-output .cell-output-display}}
{fence}{{=html}}
{text}
{fence}
:::"""


def _fence(text: str) -> int:
    """Return how many back-quotes a block needs that holds a text."""
    return max([3, *(len(run) + 1 for run in re.findall("`+", text))])


def _part(name: str) -> str:
    """Return which part of the site a page belongs to; the style sheet marks its link in the navigation."""
    return {"guides": "guides", "runs": "jobs", "index": "front"}.get(
        name.partition("/")[0], "reference"
    )


def _name(path: Any) -> str:
    """Give the page's name: the notebook's path below nbs/ (or below the folder of processed pages)."""
    path = Path(path).resolve() if path else Path("page")
    for root in (ROOT / "nbs", ROOT / "_proc"):
        if path.is_relative_to(root):
            return path.relative_to(root).with_suffix("").as_posix()
    return f"runs/{path.stem}"  # an executed job notebook, from the folder of its run


def _defined(source: str) -> Iterator[str]:
    """List what a cell defines on its top level, as far as a reader of the reference looks for it."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for name in (target.id for target in targets if isinstance(target, ast.Name)):
                if name[0].isupper() and not name.isupper():
                    yield name


def words(cell: Any) -> list[str]:
    """Give what the images of a cell show, in words; empty where nobody said it.

    `#| fig-alt: ...` in the cell comes first. Figures of `figures` bring their own words with the image.
    """
    images = [output for output in cell.get("outputs", []) if "image/png" in output.get("data", {})]
    match = re.search(r"(?m)^#\|\s*fig-alt:\s*(.+)$", cell["source"])
    if match:
        said = yaml.safe_load(match[1])
        return said if isinstance(said, list) else [str(said)] * len(images)
    return [output.get("metadata", {}).get("image/png", {}).get("alt", "") for output in images]


def _give_words(cell: Any) -> None:
    """Put the words for a cell's images where Quarto reads them."""
    said = words(cell)
    if said and all(said) and "fig-alt:" not in cell.source:
        value = said[0] if len(said) == 1 else said
        cell.source = (
            f"#| fig-alt: {yaml.safe_dump(value, width=10_000, default_flow_style=True, allow_unicode=True)}".partition(
                "\n..."
            )[0].rstrip()
            + f"\n{cell.source}"
        )
