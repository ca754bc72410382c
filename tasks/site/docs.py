"""Documentation that is made from notebooks: the site, and README.md."""

import configparser
import functools
import http.server
import itertools
import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from invoke import Context, Exit, task

from tasks import exports
from tasks.notebooks import ROOT

README = ROOT / exports.README
PAGES = ROOT / "_proc"
SITE = ROOT / "_site"
QUARTO = (
    "1.8.27"  # what `inv docs.build` installs; version 1.8.2 shows its dark theme white on white
)
NO_QUARTO = f"""Quarto is not there, and it could not be installed.
Install Quarto {QUARTO} or newer from https://quarto.org/docs/get-started, or name the program in QUARTO_PATH, then run
`inv docs.build` again. Without Quarto, `inv docs.check` still makes the pages and checks everything in them."""
NOT_FOUND = """\
---
title: Page not found
description: There is no page at this address.
repo-actions: false
search: false
sidebar: false
toc: false
---

Perhaps it has moved: the search at the top of the page knows all pages, and [the front page](index.ipynb) leads to
the guides and to the reference.
"""
SHOWN_STEPS = ("train", "evaluate")  # in README.md
_PRINTED = re.compile(r"```text\n(step .*?)\n```", re.DOTALL)
_OF_ONE_RUN = re.compile(r"\d+\.\d s\b|\d{8}-\d{6}|\b[0-9a-f]{8,32}\b|\s+")
_WARNING = re.compile(
    r"^\s*(\[?WARN(ING)?\b|\[?ERROR\b|Unable to resolve|.*\bunresolved\b)", re.IGNORECASE
)
_ELSEWHERE = re.compile(
    r"""<(?:script|img|iframe|source)\b[^>]*\bsrc=["'](?:https?:)?//[^"']+"""
    r"""|<link\b(?=[^>]*\brel=["'](?:stylesheet|preload|icon|preconnect))[^>]*\bhref=["'](?:https?:)?//[^"']+"""
    r"""|@import\s+(?:url\()?["']?(?:https?:)?//[^"')]+|url\(["']?(?:https?:)?//[^"')]+"""
)


# ---------------------------------------------------------------------------------------------------- README.md
@task
def readme(_c: Context) -> None:
    """Write README.md from nbs/index.ipynb."""
    README.write_text(exports.readme(ROOT), encoding="utf-8")


def excerpt(output: str) -> str:
    """Return the table that a run of all jobs prints: its head, and the steps that README.md shows."""
    table = output[output.index("step ") : output.index("\nMLflow: ")].rstrip()
    head, *blocks = re.split(r"\n(?=\S)", table)
    kept = [block if block.split()[0] in SHOWN_STEPS else "..." for block in blocks]
    lines = [line for block, _ in itertools.groupby(kept) for line in block.splitlines()]
    indent = " " * head.index("result")
    wrapped = [textwrap.wrap(line, 112, subsequent_indent=indent) for line in [head, *lines]]
    return "\n".join(itertools.chain(*wrapped))


def with_printed(text: str, output: str) -> str:
    """Put the excerpt of what a run printed into the block that shows it."""
    shown, found = _PRINTED.subn(lambda _: f"```text\n{excerpt(output)}\n```", text)
    if found != 1:
        raise Exit(
            f"{exports.INDEX} has {found} blocks that begin with ```text and step; it should have one.",
            1,
        )
    return shown


def require_printed(text: str, output: str) -> None:
    """Refuse a page that shows another result than a run printed; times and ids differ in each run."""
    match = _PRINTED.search(text)
    shown, expected = (match[1] if match else ""), excerpt(output)
    if _OF_ONE_RUN.sub(" ", shown) != _OF_ONE_RUN.sub(" ", expected):
        raise Exit(
            f"README.md shows\n{shown}\nbut the run printed\n{expected}\n`inv docs.printed` shows it.",
            1,
        )


@task(help={"check": "write nothing: fail if README.md shows another result"})
def printed(c: Context, check: bool = False) -> None:
    """Run every job as `make run` does, and show in README.md what it prints; takes a few minutes."""
    import nbformat

    with tempfile.TemporaryDirectory(prefix="model_name-") as folder:
        _, output = run_jobs(c, Path(folder))
    if check:
        require_printed(README.read_text(encoding="utf-8"), output)
        return
    index = ROOT / exports.INDEX
    notebook = nbformat.read(index, as_version=4)
    cell = next(cell for cell in notebook.cells if "```text\nstep " in cell.source)
    cell.source = with_printed(cell.source, output)
    nbformat.write(notebook, index)
    README.write_text(exports.readme(ROOT), encoding="utf-8")


# ---------------------------------------------------------------------------------------------------- the pages
def stage() -> Path:
    """Process the notebooks into what Quarto renders, and complete its configuration."""
    from nbdev.serve import proc_nbs

    os.chdir(ROOT)  # nbdev looks for the project from there
    shutil.rmtree(PAGES, ignore_errors=True)
    proc_nbs(n_workers=0, force=True)
    (PAGES / "changelog.qmd").write_text(_changelog(), encoding="utf-8")
    (PAGES / "404.qmd").write_text(NOT_FOUND, encoding="utf-8")
    (PAGES / "llms.txt").write_text(_for_machines(), encoding="utf-8")
    config = yaml.safe_load((ROOT / "_quarto.yml").read_text(encoding="utf-8"))
    _complete(config["website"]["sidebar"]["contents"], set(pages()))
    _point_to(repository(), config["website"])
    (PAGES / "_quarto.yml").write_text(
        yaml.safe_dump(config, sort_keys=False, allow_unicode=True), encoding="utf-8"
    )
    return PAGES


def pages() -> list[str]:
    """List the pages that are to be rendered, as paths below the folder of pages."""
    found = (
        path.relative_to(PAGES).as_posix()
        for ending in ("ipynb", "qmd")
        for path in PAGES.rglob(f"*.{ending}")
    )
    return sorted(page for page in found if not page.startswith(("_", ".")))


def _for_machines() -> str:
    """List the pages with their summaries, in the form of llms.txt; nbdev's own has modules, and no guides."""
    from tasks.site import sitechecks

    parts: dict[str, list[str]] = {}
    for page in sitechecks.read(PAGES, [name for name in pages() if name != "404.qmd"]):
        folder = page.name.partition("/")[0] if "/" in page.name else ""
        line = f"- [{page.front.get('title')}]({page.name}.html): {page.front.get('description')}"
        parts.setdefault(folder, []).append(line)
    sections = [f"## {name or 'front'}\n\n" + "\n".join(lines) for name, lines in parts.items()]
    return "\n\n".join([_llms_head(), *sections]) + "\n"


def _llms_head() -> str:
    settings = configparser.ConfigParser(inline_comment_prefixes=("#",))
    settings.read(ROOT / "settings.ini", encoding="utf-8")
    return f"# {settings['metadata']['name']}\n\n> {settings['metadata']['description']}"


def _changelog() -> str:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    body = text.partition("\n")[2].strip().replace("## [", "## \\[")  # a version is no link
    front = {
        "title": "Changelog",
        "description": "What changed, version by version.",
        "body-classes": "part-changelog",
        "repo-actions": False,
    }
    return f"---\n{yaml.safe_dump(front)}---\n\n{body}\n"


def listed(contents: list[Any]) -> Iterator[str]:
    """List the pages that a sidebar names."""
    for item in contents:
        if isinstance(item, str):
            yield item
        else:
            yield from [item["href"]] if "href" in item else []
            yield from listed(item.get("contents", []))


def _complete(contents: list[Any], existing: set[str]) -> None:
    """Add the pages that a sidebar does not name to the section of their folder, at its end."""
    for page in sorted(existing - set(listed(contents))):
        folder = page.rpartition("/")[0]
        sections = [item for item in contents if isinstance(item, dict)]
        homes = [
            section
            for section in sections
            if any(_is_in(place, folder) for place in section["contents"])
        ]
        (homes[0]["contents"] if homes else contents).append(page)


def _is_in(page: Any, folder: str) -> bool:
    return isinstance(page, str) and page.rpartition("/")[0] == folder


def repository() -> str:
    """Give the web address of the repository: from settings.ini, from CI, or from where this clone came from."""
    settings = configparser.ConfigParser(inline_comment_prefixes=("#",))
    settings.read(ROOT / "settings.ini", encoding="utf-8")
    said = settings["metadata"].get("repository", "").strip()
    if said:
        return said.removesuffix("/")
    if os.environ.get("GITHUB_REPOSITORY"):
        return f"{os.environ.get('GITHUB_SERVER_URL', 'https://github.com')}/{os.environ['GITHUB_REPOSITORY']}"
    git = ["git", "-C", str(ROOT), "config", "--get", "remote.origin.url"]
    origin = (
        subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
        if shutil.which("git")
        else ""
    )
    match = re.fullmatch(
        r"(?:https?://(?:[^@/]+@)?|(?:ssh://)?git@)([\w.-]+)[:/](.+?)(?:\.git)?/?", origin
    )
    return f"https://{match[1]}/{match[2]}" if match else ""


def _point_to(address: str, website: dict[str, Any]) -> None:
    """Give every page links to its source, when there is an address for them."""
    if address:
        website["repo-url"] = address
        website["navbar"]["right"] = [{"icon": "git", "text": "Source", "href": address}]
    else:
        for key in ("repo-branch", "repo-subdir", "repo-actions"):
            website.pop(key)


def verbs(folder: Path = ROOT / "nbs" / "runs") -> list[str]:
    """List the jobs in the order in which the sidebar names them, then those that it does not name."""
    config = yaml.safe_load((ROOT / "_quarto.yml").read_text(encoding="utf-8"))
    order = [
        Path(page).stem
        for page in listed(config["website"]["sidebar"]["contents"])
        if page.startswith("runs/")
    ]
    found = {path.stem for path in folder.glob("*.ipynb")}
    return [verb for verb in order if verb in found] + sorted(found - set(order))


def run_jobs(c: Context, folder: Path, names: list[str] | None = None) -> tuple[list[Path], str]:
    """Run every job on the embedded defaults; return the notebooks, named after their verbs, and what was printed.

    In nbs/runs they stand without outputs, because outputs belong to a run. This is the run that the site shows.
    """
    clean = {name: "" for name in os.environ if name.startswith("MLFLOW_")}
    command = f'"{sys.executable}" -m model_name run {" ".join(names or verbs())}'
    with c.cd(str(folder)):
        result = c.run(command, env=clean, warn=True)
        if not result.ok:
            raise Exit(
                "The jobs whose notebooks the site shows did not run through; what failed stands above.",
                1,
            )
    executed = sorted((folder / "outputs" / "notebooks").glob("*.ipynb"))
    named = [
        path.rename(path.with_name(f"{path.stem.rpartition('-')[2]}.ipynb")) for path in executed
    ]
    return named, result.stdout


def show_jobs(c: Context) -> None:
    """Put the executed job notebooks into the place of those without outputs; README.md shows what the run prints."""
    from fastcore.nbio import read_nb, write_nb
    from nbdev.processors import FilterDefaults

    with tempfile.TemporaryDirectory(prefix="model_name-") as folder:
        executed, output = run_jobs(c, Path(folder))
        require_printed(README.read_text(encoding="utf-8"), output)
        for path in executed:
            notebook = read_nb(path)
            FilterDefaults()(notebook)
            write_nb(notebook, PAGES / "runs" / path.name)


# ------------------------------------------------------------------------------------------------------ the site
def quarto() -> str | None:
    """Find Quarto: the one that QUARTO_PATH names, the one in this environment, or the one on the path."""
    return (
        os.environ.get("QUARTO_PATH")
        or shutil.which("quarto", path=exports.BIN)
        or shutil.which("quarto")
    )


def install_quarto(c: Context) -> str:
    """Install Quarto beside the tools of this project, for this user alone; say what to do where that cannot be.

    The package `quarto-cli` is a small installer, which fetches Quarto's own archive for this system.
    """
    c.run(f'uv pip install --quiet --python "{sys.executable}" quarto-cli=={QUARTO}', warn=True)
    found = quarto()
    if (
        found is None
        or subprocess.run([found, "--version"], capture_output=True, check=False).returncode
    ):
        raise Exit(NO_QUARTO, 1)
    return found


@task(help={"jobs": "run the jobs, whose notebooks the site shows with their outputs"})
def build(c: Context, jobs: bool = True) -> None:
    """Build the site into _site/. Fails on a warning of Quarto, whose exit code is 0 even for a broken link."""
    program = quarto() or install_quarto(c)
    stage()
    if jobs:
        show_jobs(c)
    result = subprocess.run(
        [program, "render", str(PAGES), "--no-execute"], capture_output=True, text=True, check=False
    )
    said = result.stdout + result.stderr
    print(said)
    if result.returncode:
        raise Exit(f"Quarto ended with {result.returncode}; what it said stands above.", 1)
    warnings = [line.strip() for line in said.splitlines() if _WARNING.match(line)]
    if warnings:
        raise Exit("\n".join(["Quarto warned:", *warnings]), 1)
    shutil.rmtree(SITE, ignore_errors=True)
    (PAGES / "_site").rename(SITE)
    faults = from_elsewhere(SITE)
    if faults:
        raise Exit("\n".join(["Pages load what is not theirs:", *faults]), 1)
    print(f"The site is in {SITE.name}/: `inv docs.serve` shows it.")


def from_elsewhere(site: Path) -> list[str]:
    """List what pages and styles would load from other servers."""
    faults = []
    for path in sorted(path for ending in ("html", "css") for path in site.rglob(f"*.{ending}")):
        found = _ELSEWHERE.findall(path.read_text(encoding="utf-8"))
        faults += [f"{path.relative_to(site)}: {text}" for text in sorted(set(found))]
    return faults


@task
def check(_c: Context) -> None:
    """Are the pages of the site valid: links, anchors, images, alternative texts, names, commands, configurations?"""
    from tasks.site import sitechecks

    first = _texts(stage())
    found = pages()
    config = yaml.safe_load((PAGES / "_quarto.yml").read_text(encoding="utf-8"))
    named = list(listed(config["website"]["sidebar"]["contents"]))
    faults = sitechecks.all_faults(sitechecks.read(PAGES, found), PAGES, config, named)
    second = _texts(stage())
    faults += [
        f"{name} is another page when it is made again"
        for name in first
        if first[name] != second.get(name)
    ]
    if faults:
        raise Exit("\n".join(faults), 1)
    print(f"{len(found)} pages are valid.")


def _texts(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@task(help={"port": "where to serve it"})
def serve(_c: Context, port: int = 8000) -> None:
    """Serve the built site at http://127.0.0.1:8000, for this machine only."""
    if not SITE.exists():
        raise Exit("There is no site yet: run `inv docs.build`.", 1)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(SITE))
    with http.server.ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        print(f"http://127.0.0.1:{port} (Ctrl-C stops it)")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()


# -------------------------------------------------------------------------------------------------- the pictures
@task
def screenshots(c: Context) -> None:
    """Take the pictures of README.md, light and dark: run `tune` and `train`, and open the page in Chromium."""
    browser = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if browser is None:
        raise Exit(
            "There is no Chromium to take a picture with: install it, e.g. `apt-get install chromium`.",
            1,
        )
    with tempfile.TemporaryDirectory(prefix="model_name-") as folder:
        executed, _ = run_jobs(c, Path(folder), ["tune", "train"])
        page = _abridged(next(path for path in executed if path.stem == "train"))
        flags = "--headless --no-sandbox --disable-gpu --hide-scrollbars --window-size=1000,1400"
        for name, scheme in (("run", 1), ("run-dark", 0)):
            picture = Path(folder, f"{name}.png")
            look = f"--blink-settings=preferredColorScheme={scheme}"
            c.run(
                f'"{browser}" {flags} {look} --screenshot="{picture}" "{page.as_uri()}"', hide=True
            )
            _shrink(picture, ROOT / "nbs" / "images" / picture.name)


def _abridged(notebook: Path) -> Path:
    """Write the page of an executed notebook with its summary and its first figure alone."""
    import nbformat

    from model_name.execution import pages as run_pages

    content = nbformat.read(notebook, as_version=4)
    figure = next(
        cell
        for cell in content.cells
        if any("image/png" in o.get("data", {}) for o in cell.get("outputs", []))
    )
    figure.outputs = [output for output in figure.outputs if "image/png" in output.get("data", {})][
        :1
    ]
    result = content.cells[-1]  # what the summary is made from
    result.outputs = [
        output for output in result.outputs if output.output_type == "display_data"
    ] or result.outputs
    content.cells = [content.cells[0], figure, result]
    nbformat.write(content, notebook)
    page = notebook.with_suffix(".html")
    run_pages.write(notebook, page)
    text = page.read_text("utf-8")
    hidden = "details, .contents, .output_text { display: none !important; }"
    page.write_text(text.replace("</style>", f"{hidden}</style>"), encoding="utf-8")
    return page


def _shrink(source: Path, target: Path) -> None:
    """Keep a picture with as many colours as it needs, without the empty space below the page."""
    from PIL import Image, ImageChops

    picture = Image.open(source).convert("RGB")
    empty = Image.new("RGB", picture.size, picture.getpixel((0, 0)))
    bottom = ImageChops.difference(picture, empty).getbbox()[3] + 24
    target.parent.mkdir(exist_ok=True)
    cropped = picture.crop((0, 0, picture.width, min(bottom, picture.height)))
    cropped.quantize(colors=64).save(target, optimize=True)
    print(f"{target.relative_to(ROOT)}: {target.stat().st_size / 1000:.0f} kB")
