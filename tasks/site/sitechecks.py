"""What has to hold for the pages of the site, checked without Quarto, which ends with 0 on most of it."""

import json
import posixpath
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tasks.notebooks import ROOT
from tasks.site import pages as pages_
from tasks.site import reference

_FENCE = re.compile(
    r"^(`{3,}|~{3,})\s*(\{?[\w=.-]*\}?)[^\n]*\n(.*?)^\1[ \t]*$", re.MULTILINE | re.DOTALL
)
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)[^)]*\)")
_HREF = re.compile(r'<a href="([^"]+)"')
_DOTTED = re.compile(r"(?<!`)`([A-Za-z_]\w*(?:\.\w+)+)(?:\(\))?`(?!`)")
_FILE = re.compile(r"\.(ipynb|ya?ml|py|ini|toml|md|db|sh|csv|parquet|json|lock)$")
_CROSS = re.compile(r"(?<![\w@.])@(?:sec|fig|tbl|eq|lst)-[\w-]+")


@dataclass
class PageText:
    """A processed page."""

    name: str  # its path below the folder of pages, without the ending
    front: dict[str, Any]
    prose: str  # Markdown, code blocks included
    cells: list[dict[str, Any]]

    @property
    def text(self) -> str:
        """The Markdown outside code blocks."""
        return _FENCE.sub(lambda match: match[3] if match[2] == "{=html}" else "", self.prose)

    def anchors(self) -> list[str]:
        """List the places that a link can lead to, each as often as the page has it."""
        prose = _FENCE.sub("", self.prose)
        heads = re.findall(r"(?m)^#{1,6}[ \t]+([^\n]+?)[ \t]*$", prose)
        plain = [
            head for head in heads if not re.search(r"\{#[^}]*\}$", head)
        ]  # Pandoc names the others as they say
        slugs = [_slug(re.sub(r"\s*\{[^}]*\}$", "", head)) for head in plain]
        numbered = [
            f"{slug}-{slugs[:place].count(slug)}" for place, slug in enumerate(slugs)
        ]  # as Pandoc does
        raw = "".join(body for _, kind, body in _FENCE.findall(self.prose) if kind == "{=html}")
        named = re.findall(r"\{#([\w.:-]+)", prose) + re.findall(
            r"""\sid=["']([^"']+)""", raw + prose
        )
        return named + [name.removesuffix("-0") for name in numbered]


def _slug(head: str) -> str:
    """Make the name that Pandoc gives to a heading."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", head).replace("\\", "")
    plain = re.sub(r"[^\w\s.-]", "", plain.lower())
    return re.sub(r"\s+", "-", plain.strip()).lstrip("0123456789.-_")


def read(folder: Path, names: list[str]) -> list[PageText]:
    """Read the processed pages."""
    return [_read(folder, name) for name in names]


def _read(folder: Path, name: str) -> PageText:
    path = folder / name
    cells = json.loads(path.read_text("utf-8"))["cells"] if path.suffix == ".ipynb" else []
    for cell in cells:
        cell["source"] = "".join(cell["source"])
    parts = [cell["source"] for cell in cells if cell["cell_type"] != "code"] or [
        path.read_text("utf-8")
    ]
    match = re.match(r"---\n(.*?)\n---\s*\n?(.*)", "\n\n".join(parts), re.DOTALL)
    front, prose = (yaml.safe_load(match[1]) or {}, match[2]) if match else ({}, "\n\n".join(parts))
    return PageText(name.rpartition(".")[0], front, prose, cells)


def all_faults(
    pages: list[PageText], folder: Path, config: dict[str, Any], listed: list[str]
) -> list[str]:
    """List everything that is wrong with the pages."""
    anchors = {page.name: page.anchors() for page in pages}
    faults = [
        f"_quarto.yml names {name}, which is no page"
        for name in listed
        if name.rpartition(".")[0] not in anchors
    ]
    faults += [
        f"_quarto.yml names {name} twice"
        for name in {name for name in listed if listed.count(name) > 1}
    ]
    faults += [] if config["project"]["type"] == "website" else ["_quarto.yml: this is no website"]
    faults += navigation(config, folder, set(anchors))
    for page in pages:
        found = [
            *titles(page),
            *links(page, folder, anchors),
            *pictures(page),
            *identifiers(page),
            *blocks(page),
        ]
        found += [*doubles(page), *scripted(page)]
        faults += [f"{page.name}: {fault}" for fault in found]
    return faults


def navigation(config: dict[str, Any], folder: Path, names: set[str]) -> Iterator[str]:
    """Find links of the top bar that lead nowhere or whose part of the site is not marked, and an icon that is missing.

    Quarto marks the link of the page itself alone; the style sheet marks those of the other pages by their address.
    """
    website, style = config["website"], (folder / "theme.scss").read_text("utf-8")
    for item in website["navbar"]["left"]:
        name = item["href"].rpartition(".")[0]
        if name not in names:
            yield f"_quarto.yml: {item['text']} in the top bar leads to {item['href']}, which is no page"
        elif f'[href$="{name}.html"]' not in style:
            yield f"theme.scss does not mark {item['text']} in the top bar: it names no {name}.html"
    if not (folder / website["favicon"]).is_file():
        yield f"_quarto.yml: the icon {website['favicon']} is not there"


def titles(page: PageText) -> Iterator[str]:
    """Find pages without a title or a summary."""
    yield from (
        f"it has no {what}: open the notebook with `# Title` and `> summary`"
        for key, what in (("title", "title"), ("description", "summary"))
        if not str(page.front.get(key) or "").strip()
    )


def links(page: PageText, folder: Path, anchors: dict[str, list[str]]) -> Iterator[str]:
    """Find links, images and cross-references that lead nowhere, and images without words."""
    markdown = re.sub(r"(`+).+?\1(?!\{)", "`", page.text)  # in code, brackets are no links
    found = [(bool(image), text, target) for image, text, target in _LINK.findall(markdown)]
    found += [(False, "", target) for target in _HREF.findall(page.text)]
    for image, text, target in found:
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        place = (
            posixpath.normpath(posixpath.join(posixpath.dirname(page.name), path))
            if path
            else page.name
        )
        name = re.sub(r"\.(html|ipynb|qmd)$", "", place)
        if image:
            yield from [] if (folder / place).is_file() else [f"the image {target} is not there"]
            yield from (
                []
                if text.strip()
                else [f"the image {target} has no words for those who cannot see it"]
            )
        elif name not in anchors:
            yield from (
                [] if path and (folder / place).is_file() else [f"the link {target} leads nowhere"]
            )
        elif anchor and anchor not in anchors[name]:
            yield f"the link {target} leads to no place of that page"
    yield from (f"the cross-reference {text} leads nowhere" for text in _CROSS.findall(markdown))


def doubles(page: PageText) -> Iterator[str]:
    """Find places with the same name, which also differ by more than case: some servers and search indexes fold it."""
    folded = [anchor.lower() for anchor in page.anchors()]
    for anchor in sorted({anchor for anchor in folded if folded.count(anchor) > 1}):
        yield f"{folded.count(anchor)} places are named #{anchor}: give one of the headings other words"


def scripted(page: PageText) -> Iterator[str]:
    """Find outputs for which Quarto would load scripts from other servers."""
    for number, cell in enumerate(page.cells):
        types = {kind for output in cell.get("outputs", []) for kind in output.get("data", {})}
        for kind in sorted(kind for kind in types if kind not in pages_.SHOWN_TYPES):
            yield f"cell {number} has an output of the type {kind}, for which Quarto loads scripts from elsewhere"


def pictures(page: PageText) -> Iterator[str]:
    """Find figures and diagrams without words for those who cannot see them."""
    from tasks.site.pages import words

    for number, cell in enumerate(page.cells):
        if cell["cell_type"] == "code" and not all(words(cell)):
            line = next(
                (line for line in cell["source"].splitlines() if not line.startswith("#|")), ""
            )
            yield f"cell {number} ({line[:40]}) shows a figure without words: add `#| fig-alt: ...` to it"
    for _, language, body in _FENCE.findall(page.prose):
        if language in {"mermaid", "{mermaid}"} and not {
            "fig-alt:",
            "accTitle:",
            "accDescr:",
        } <= set(body.split()):
            yield f"the diagram {body.strip()[:30]!r} has no words: begin it with `%%| fig-alt: ...`"


def identifiers(page: PageText) -> Iterator[str]:
    """Find names in back-quotes that stand for something of this project which does not exist."""
    for name in sorted(set(_DOTTED.findall(page.text))):
        first, _, rest = name.removeprefix(f"{reference.PACKAGE}.").partition(".")
        ours = (
            name.startswith(f"{reference.PACKAGE}.")
            or f"{reference.PACKAGE}.{first}" in reference.pages()
        )
        ours = ours or f"{reference.PACKAGE}.{first}.{rest.partition('.')[0]}" in reference.pages()
        if (
            ours
            and not _FILE.search(name)
            and not _exists(name.removeprefix(f"{reference.PACKAGE}."))
        ):
            yield f"`{name}` does not exist"


def _exists(path: str) -> bool:
    if f"{reference.PACKAGE}.{path}" in reference.pages():
        return True
    try:
        reference.package()[path]
    except KeyError:
        module, _, name = path.rpartition(".")  # what a class inherits
        try:
            return name in reference.package()[module].all_members
        except (KeyError, AttributeError):
            return False
    return True


def blocks(page: PageText) -> Iterator[str]:
    """Find commands that the command line does not take, and configurations that do not hold."""
    for _, language, body in _FENCE.findall(page.prose):
        if language == "sh":
            for line in body.splitlines():
                for command in re.split(r"&&|(?=\s[>|]\s)", line.partition("#")[0]):
                    yield from _command(command.strip())
        elif language == "yaml":
            yield from _configuration(body)
        elif language == "python":
            try:
                compile(body, "<block>", "exec")
            except SyntaxError as error:
                yield f"a block of Python cannot be read: {error}"


def _command(line: str) -> Iterator[str]:
    """Parse a command as its program would, and run nothing."""
    import click

    words = shlex.split(line, comments=True)
    if words and words[0] in {">", "|"}:  # where the output of the command goes
        return
    program = words[0].rpartition("/")[2] if words else ""
    if program == "make":
        files = (
            ROOT / "Makefile",
            ROOT / "nbs/scaffold/_project/Makefile",
        )  # this project's, and that of a new one
        targets = {
            target
            for path in files
            for target in re.findall(r"(?m)^([a-z]+):", path.read_text("utf-8"))
        }
        yield from (
            f"`{line}`: make has no target {word}"
            for word in words[1:]
            if "=" not in word and word not in targets
        )
    elif program == "inv" and not words[1].startswith("-"):
        from tasks import namespace

        yield from (
            [] if words[1] in namespace.task_names else [f"`{line}`: there is no task {words[1]}"]
        )
    elif program == reference.PACKAGE:
        from model_name import scripts

        try:
            command = scripts.cli.commands[words[1]]
            context = command.make_context(words[1], words[2:])
        except (KeyError, IndexError):
            yield f"`{line}`: there is no such command"
        except click.ClickException as error:
            yield f"`{line}`: {error.format_message()}"
        else:
            yield from _steps(line, context.params)


def _steps(line: str, given: dict[str, Any]) -> Iterator[str]:
    """Check the jobs, files and overrides of a command."""
    from model_name import steps
    from model_name.core import errors

    try:
        if "words" in given:
            data = steps.data_overrides(given["data"]) if given.get("data") else []
            steps.load_steps(given["words"], [*data, *given.get("overrides", ())])
    except errors.ProjectError as error:
        yield f"`{line}`: {error}"


def _configuration(body: str) -> Iterator[str]:
    import pydantic as pdt

    from model_name import settings

    try:
        content = yaml.safe_load(body)
        if isinstance(content, dict) and isinstance(content.get("job"), dict):
            settings.MainSettings.model_validate_json(json.dumps(content))
        elif isinstance(content, dict) and isinstance(content.get("data"), dict):
            settings.DataSettings.model_validate_json(json.dumps(content["data"]))
    except pdt.ValidationError as error:
        # classes of a project that a guide talks about cannot be imported here
        faults = [fault for fault in error.errors() if "there is no module" not in fault["msg"]]
        yield from [f"a block of YAML does not hold: {error}"] if faults else []
    except yaml.YAMLError as error:
        yield f"a block of YAML does not hold: {error}"
