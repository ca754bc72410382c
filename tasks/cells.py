"""How long export cells are, whether an example follows each public name, and other figures of how notebooks read."""

import ast
import re
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from invoke import Context, Exit, task

from tasks.notebooks import ROOT

MOST_LINES = 60
_EXPORT = re.compile(r"#\|\s*exports?\b")
_DIRECTIVE = re.compile(r"(?m)^(#\|.*|[%!].*)\n?")
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@dataclass
class Figures:
    """What is counted in one notebook, or in several.

    Attributes:
        lines: lines of each export cell that defines something, by the names that it defines.
        shown: whether an example follows, by public name.
        words: words of each cell of prose.
    """

    lines: dict[str, int] = field(default_factory=dict)
    shown: dict[str, bool] = field(default_factory=dict)
    words: list[int] = field(default_factory=list)

    def update(self, other: "Figures") -> None:
        """Add the figures of another notebook."""
        self.lines |= other.lines
        self.shown |= other.shown
        self.words += other.words

    def row(self) -> str:
        """Return the figures as columns: cells, median, 90 % and longest, shown of public names, words a cell."""
        lengths = sorted(self.lines.values()) or [0]
        ninth = lengths[int(0.9 * (len(lengths) - 1))]
        words = statistics.median(self.words) if self.words else 0
        lines = f"{len(self.lines):5} {statistics.median(lengths):6.0f} {ninth:4} {lengths[-1]:4}"
        return f"{lines} {sum(self.shown.values()):6}/{len(self.shown):<4} {words:5.0f}"


def measure(path: Path) -> Figures:
    """Count lines, examples and words in a notebook.

    An export cell is one that is exported and defines a name. An example is a cell that is not exported and uses the
    name before the next cell that defines something public.
    """
    import nbformat

    figures = Figures()
    unseen: list[str] = []
    for cell in nbformat.read(path, nbformat.NO_CONVERT).cells:
        if cell.cell_type == "markdown":
            figures.words.append(len(cell.source.split()))
        elif cell.cell_type == "code":
            source = _DIRECTIVE.sub("", cell.source).strip("\n")
            names = list(_defined(ast.parse(source)))
            if not _EXPORT.match(cell.source):
                used = {name for name in unseen if re.search(rf"\b{name}\b", source)}
                figures.shown |= {f"{path.stem}.{name}": True for name in used}
                unseen = [name for name in unseen if name not in used]
            elif names:
                figures.lines[f"{path.stem}: {', '.join(names[:3])}"] = len(source.splitlines())
                public = [name for name in names if not name.startswith("_")]
                unseen = public or unseen
                figures.shown |= {f"{path.stem}.{name}": False for name in public}
    return figures


def _defined(tree: ast.Module) -> Iterator[str]:
    """Name the functions, classes and values that a cell defines."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (target.id for target in targets if isinstance(target, ast.Name))


def exporting() -> list[Path]:
    """Return the notebooks that export a module."""
    paths = sorted((ROOT / "nbs").rglob("*.ipynb"))
    hidden = [
        path
        for path in paths
        if any(part[0] in "_." for part in path.relative_to(ROOT / "nbs").parts)
    ]
    return [
        path for path in paths if path not in hidden and "#| default_exp" in path.read_text("utf-8")
    ]


@task(help={"words": "also print which public names no example follows"})
def cells(_c: Context, words: bool = False) -> None:
    """Is every export cell at most 60 lines long? Prints the figures of each notebook."""
    total = Figures()
    print(f"{'notebook':<32} cells median  90%  max  shown/public words")
    for path in exporting():
        figures = measure(path)
        total.update(figures)
        print(f"{path.relative_to(ROOT / 'nbs').as_posix():<32} {figures.row()}")
    print(f"{'all':<32} {total.row()}\n{_package()}")
    if words:
        print(
            "No example follows:",
            ", ".join(name for name, shown in total.shown.items() if not shown),
        )
    if long := [
        f"{name} ({lines} lines)" for name, lines in total.lines.items() if lines > MOST_LINES
    ]:
        raise Exit(
            "\n".join(
                [
                    f"Longer than {MOST_LINES} lines:",
                    *long,
                    "Take functions out, or pass collaborators in.",
                ]
            )
        )


def _package() -> str:
    """Return figures of the exported package: comprehensions, comments and long lines, in 1,000 lines of it."""
    texts = [
        path.read_text("utf-8")
        for path in (ROOT / "model_name").rglob("*.py")
        if path.name != "_modidx.py"
    ]
    lines = [line for text in texts for line in text.splitlines() if not line.startswith("# %% ")]
    inner = sum(
        isinstance(node, _COMPREHENSIONS) for text in texts for node in ast.walk(ast.parse(text))
    )
    comments = sum(line.lstrip().startswith("# ") for line in lines)
    long = sum(len(line) > 100 for line in lines)
    share = 1000 / len(lines)
    return (
        f"{len(lines):,} lines of the package; in 1,000 of them {inner * share:.0f} comprehensions, "
        f"{comments * share:.0f} comments of their own, {long * share:.0f} over 100 columns"
    )
