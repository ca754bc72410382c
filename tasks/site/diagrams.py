"""One diagram a subpackage, drawn from the imports in the code."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

import grimp
from invoke import Context, Exit, task

from tasks.notebooks import ROOT
from tasks.site import reference

if TYPE_CHECKING:
    from nbformat import NotebookNode

PACKAGE = "model_name"
SUBPACKAGES = sorted(path.parent.name for path in (ROOT / PACKAGE).glob("*/__init__.py"))
_BEGIN, _END = "<!-- drawn by `inv diagrams.draw` -->", "<!-- drawn until here -->"


def drawn(subpackage: str) -> str:
    """Draw who imports whom within a subpackage, and what the subpackage takes from others, as mermaid and a table."""
    graph = grimp.build_graph(PACKAGE, exclude_type_checking_imports=True, cache_dir=None)
    own = sorted(graph.find_descendants(f"{PACKAGE}.{subpackage}"))
    imports = [
        (who, what) for who in own for what in sorted(graph.find_modules_directly_imported_by(who))
    ]
    imports = [
        (who, what) for who, what in imports if not what.endswith(".errors")
    ]  # every module may raise them
    inner = [(who, what) for who, what in imports if what in own]
    outer = sorted(
        {(who, _layer(what)) for who, what in imports}
        - {(who, _layer(what)) for who, what in inner}
    )
    words = f"Modules of {subpackage}, and which of them imports which."
    lines = [
        f'%%| fig-alt: "{words}"',
        "flowchart LR",
        f'  subgraph {subpackage}_modules ["{subpackage}"]',
    ]
    lines += [
        f'    {_node(module)}["{_short(module)}"]'
        for module in own
        if not module.endswith(".errors")
    ]
    lines += ["  end"]
    lines += [f"  {_node(who)} --> {_node(what)}" for who, what in inner]
    lines += [f"  {_node(who)} -.-> {layer}([{layer}])" for who, layer in outer]
    return "\n".join([_BEGIN, "```mermaid", *lines, "```", "", _table(own), _END])


def _layer(module: str) -> str:
    return module.removeprefix(f"{PACKAGE}.").partition(".")[0]


def _short(module: str) -> str:
    return module.rpartition(".")[2]


def _node(module: str) -> str:
    return module.removeprefix(f"{PACKAGE}.").replace(".", "_")


def _table(modules: list[str]) -> str:
    """List the modules with what their notebooks say of themselves."""
    import nbformat

    rows = ["| Module | What it is for |", "| --- | --------- |"]
    for module in modules:
        page = reference.pages()[module]
        text = nbformat.read(ROOT / "nbs" / f"{page}.ipynb", as_version=4).cells[0].source
        summary = " ".join(line.lstrip("> ") for line in text.splitlines() if line.startswith(">"))
        rows.append(f"| [{_short(module)}]({page.rpartition('/')[2]}.ipynb) | {summary} |")
    return "\n".join(rows)


def stale() -> list[str]:
    """List the index pages whose diagram is not what the code says; a page without the marks has none."""
    return [name for name in SUBPACKAGES if _redrawn(name) is not None]


def _redrawn(subpackage: str) -> "NotebookNode | None":
    """Give the index page with the diagram of today, if it shows another."""
    import nbformat

    path = _page(subpackage)
    notebook = nbformat.read(path, as_version=4)
    before = [cell.source for cell in notebook.cells]
    for cell in notebook.cells:
        if _BEGIN in cell.source:
            pattern = re.escape(_BEGIN) + ".*?" + re.escape(_END)
            cell.source = re.sub(pattern, lambda _: drawn(subpackage), cell.source, flags=re.DOTALL)
    return notebook if [cell.source for cell in notebook.cells] != before else None


def _page(subpackage: str) -> Path:
    name = (
        "jobs" if subpackage == "jobs" else "index"
    )  # the page of the jobs is that of their package
    return ROOT / "nbs" / subpackage / f"{name}.ipynb"


@task
def draw(_c: Context) -> None:
    """Draw the diagrams of the index pages from the current imports."""
    import nbformat

    for subpackage in SUBPACKAGES:
        notebook = _redrawn(subpackage)
        if notebook is not None:
            nbformat.write(notebook, _page(subpackage))
            print(f"drew {_page(subpackage).relative_to(ROOT)}")


@task
def check(_c: Context) -> None:
    """Do the diagrams of the index pages show the current imports?"""
    names = stale()
    if names:
        raise Exit(
            f"The diagrams of {', '.join(names)} are not what the code says.\nRun `inv diagrams.draw`.",
            1,
        )
