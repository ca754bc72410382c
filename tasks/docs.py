"""The documentation: README.md, and the site that Quarto makes from the notebooks."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from invoke import Context, Exit, task

from tasks import exports
from tasks.notebooks import ROOT, notebooks

README = ROOT / exports.README
SITE = ROOT / "_site"
QUARTO = (
    "Quarto makes the site, and is not on this machine. It is a program of its own, not a Python package: "
    "install it from quarto.org, then run this again. The notebooks themselves open in JupyterLab: make lab"
)


@task
def readme(_c: Context) -> None:
    """Write README.md from nbs/index.ipynb."""
    README.write_text(exports.readme(ROOT), encoding="utf-8")


@task
def build(c: Context) -> None:
    """Build the site into _site/ with Quarto."""
    _need_quarto()
    c.run("nbdev-docs")


@task(help={"port": "where the site answers on this machine"})
def serve(c: Context, port: int = 3000) -> None:
    """Show the site in a browser, and again after every change."""
    _need_quarto()
    c.run(f"nbdev-preview --port {port} --no_browser")


def _need_quarto() -> None:
    if shutil.which("quarto") is None:
        raise Exit(QUARTO)


# ---------------------------------------------------------------------------------------------------------- links
_LINK = re.compile(r"!?\[[^\]]*\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)")
_CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.MULTILINE | re.DOTALL)


@task
def check(_c: Context) -> None:
    """Do the links inside the project lead somewhere, in README.md and in every notebook?"""
    broken = [line for path in [*sorted(ROOT.glob("*.md")), *notebooks()] for line in broken_links(path)]
    if broken:
        raise Exit("\n".join([*broken, f"{len(broken)} link(s) lead nowhere: correct the address or the heading."]))


def broken_links(path: Path) -> Iterator[str]:
    """Find the links of a page to files that do not exist, or to headings that no page has."""
    for target in _LINK.findall(_CODE.sub("", prose(path))):
        address, _, anchor = unquote(target).partition("#")
        if re.match(r"[a-z][a-z0-9+.-]*:", address):
            continue  # another site, or mail
        place = (path.parent / address).resolve() if address else path
        if not place.exists():
            yield f"{path.relative_to(ROOT)}: there is no {address}"
        elif anchor and place.suffix in {".md", ".ipynb"} and anchor not in set(anchors(prose(place))):
            yield f"{path.relative_to(ROOT)}: {address or 'this page'} has no heading #{anchor}"


def prose(path: Path) -> str:
    """Give the text of a page: a Markdown file, or the Markdown cells of a notebook."""
    if path.suffix != ".ipynb":
        return path.read_text(encoding="utf-8")
    import nbformat

    cells = nbformat.read(path, as_version=4).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def anchors(text: str) -> Iterator[str]:
    """Give the anchors that headings get: lower case, without punctuation, words joined by hyphens."""
    for heading in re.findall(
        r"^#{1,6}\s+(.+?)\s*$", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE
    ):
        named = re.search(r"\{#([\w-]+)[^}]*\}", heading)
        plain = re.sub(r"[^\w\s-]", "", re.sub(r"\{[^}]*\}", "", heading)).strip().lower()
        yield named[1] if named else re.sub(r"\s", "-", plain)
