"""The reference, read from the exported modules: what a class or function is, as Markdown with links.

griffe reads the source without running it, so a page never depends on what an import happens to do, and an annotation
is shown as it was written. It also knows Google's sections, which nbdev's own renderer prints as they are.
"""

import ast
import functools
import html
import logging
import posixpath
import re
from collections.abc import Iterable, Iterator
from typing import Any

import griffe

from tasks.notebooks import ROOT

PACKAGE = "model_name"
# A name that several modules define leads to the first of these that has it.
LAYERS = [
    "core", "utils", "figures", "io", "records", "streaming", "jobs", "execution", "settings", "steps", "scripts",
]  # fmt: skip
MODEL = "pydantic.BaseModel"
_CODE = re.compile(r"(?<![`\[\w])`([A-Za-z_][\w.]*)(\(\))?`(?![`\]])")
_NAME = re.compile(r"[A-Za-z_][\w.]*")
_WIDTH = 96  # a signature that is longer goes one parameter a line


def pages() -> dict[str, str]:
    """Give the page of each module, as a path below nbs/ without its ending."""
    found = {}
    for path in sorted((ROOT / "nbs").rglob("*.ipynb")):
        match = re.search(r'"#\|\s*default_exp\s+([\w.]+)', path.read_text(encoding="utf-8"))
        if match and not any(part.startswith(("_", ".")) for part in path.relative_to(ROOT).parts):
            module = match[1].removesuffix("__init__").rstrip(".")
            found[f"{PACKAGE}.{module}".rstrip(".")] = (
                path.relative_to(ROOT / "nbs").with_suffix("").as_posix()
            )
    return found


@functools.cache
def package() -> griffe.Object:
    """Read the package's source."""
    logging.getLogger("griffe").setLevel(
        logging.ERROR
    )  # ruff already holds docstrings to their form
    return griffe.load(PACKAGE, search_paths=[ROOT])  # type: ignore[return-value]


class Links:
    """Where names lead: from back-quotes and annotations to the page that explains them."""

    def __init__(self) -> None:
        """Collect the public names of every module that has a page."""
        self.places: dict[str, str] = {}  # by full name: page#anchor
        self.short: dict[str, list[str]] = {}  # by any ending of the full name
        for module, page in sorted(pages().items(), key=_layer):
            self._add(module, page)
            for name in _symbols(_object(module)):
                self._add(f"{module}.{name}", f"{page}#{anchor(module, name)}")
        for module in pages():  # names that a module passes on
            for name, member in _object(module).members.items():
                if (
                    member.is_alias
                    and member.target_path in self.places
                    and not name.startswith("_")
                ):
                    self._add(f"{module}.{name}", self.places[member.target_path])

    def _add(self, full: str, place: str) -> None:
        self.places.setdefault(full, place)
        parts = full.split(".")
        for start in range(1, len(parts)):
            self.short.setdefault(".".join(parts[start:]), []).append(full)

    def find(self, name: str, module: str | None = None) -> str | None:
        """Give the place of a name as it is seen from a module, if it is known."""
        if name == PACKAGE:
            return None  # the name of the project, more often than of the module
        if name in self.places:
            return self.places[name]
        candidates = self.short.get(name, [])
        own = [full for full in candidates if module and full.startswith(f"{module}.")]
        if own and ("." in name or name[0].isupper() or own[0].endswith(f".{name}")):
            return self.places[own[0]]
        if not candidates or ("." not in name and not name[0].isupper()):
            return None  # a word such as `run` or `core` means many things; `scripts.run` and `core.metrics` one
        return self.places[candidates[0]]

    def address(self, name: str, page: str, module: str | None = None) -> str | None:
        """Give the address of a name for a link on a page."""
        place = self.find(name, module)
        return relative(place, page) if place else None

    def link_prose(self, text: str, page: str, module: str | None = None) -> str:
        """Turn what stands in back-quotes into links, except in headings, code blocks, diagrams and links."""
        lines, fenced = [], False
        for line in text.split("\n"):
            fence = line.lstrip().startswith(("```", "~~~"))
            fenced = fenced != fence
            plain = not (fenced or fence or line.startswith(("#", "    ")))
            lines.append(
                _CODE.sub(lambda match: self._linked(match, page, module), line) if plain else line
            )
        return "\n".join(lines)

    def _linked(self, match: re.Match[str], page: str, module: str | None) -> str:
        address = self.address(match[1], page, module)
        return f"[{match[0]}]({address})" if address and address != "" else match[0]

    def link_code(self, text: str, page: str, module: str) -> str:
        """Give code as HTML in which the names that have a page are links."""

        def linked(match: re.Match[str]) -> str:
            last = match[0].rpartition(".")[2]
            is_type = last[0].isupper() and not last.isupper()  # neither a parameter nor a constant
            address = self.address(match[0], page, module) if is_type else None
            return f'<a href="{address}">{match[0]}</a>' if address else match[0]

        pieces = re.split(r"('[^']*'|\"[^\"]*\")", text)  # texts stay as they are
        return "".join(
            html.escape(piece, quote=False)
            if piece[:1] in {"'", '"'}
            else _NAME.sub(linked, html.escape(piece, quote=False))
            for piece in pieces
        )


def relative(place: str, page: str) -> str:
    """Write the way from a page to a place; within a page it is the anchor alone."""
    target, _, anchor = place.partition("#")
    end = f"#{anchor}" if anchor else ""
    if target == page:
        return end
    return posixpath.relpath(f"{target}.html", posixpath.dirname(page) or ".") + end


def _layer(item: tuple[str, str]) -> int:
    """Give the place of a module in the order of layers."""
    layer = item[0].removeprefix(PACKAGE).lstrip(".").partition(".")[0]
    return LAYERS.index(layer) if layer in LAYERS else len(LAYERS)


def _object(module: str) -> griffe.Object:
    inner = module.removeprefix(PACKAGE).lstrip(".")
    return package()[inner] if inner else package()


def anchor(module: str, name: str) -> str:
    """Return where a page explains a name: its full name, which no heading has and Quarto leaves as it is.

    Some servers and search indexes fold case, so a type that differs from a function by case alone ends in `-type`.
    A member that has no place of its own is explained with its class.
    """
    owner, _, member = name.partition(".")
    if member and not _is_shown(member, _object(module)[name]):
        return anchor(module, owner)
    members = _object(module).members
    twins = [other for other in members if other != owner and other.lower() == owner.lower()]
    suffix = "-type" if twins and not members[owner].is_function else ""
    return f"{module}.{owner}{suffix}" + (f".{member}" if member else "")


def _is_shown(name: str, part: Any) -> bool:
    """Tell whether a member of a class has a heading of its own."""
    return (_is_method(name, part) and part.has_docstring) or "property" in part.labels


def _symbols(owner: griffe.Object) -> Iterator[str]:
    """List the names that a module defines, those of the members of its classes included."""
    for name, member in owner.members.items():
        if member.is_alias or (name.startswith("_") and name != "__getattr__"):
            continue
        if member.is_class or member.is_function or is_type(name, member):
            yield name
        if member.is_class:
            for inner, part in member.members.items():
                if inner.startswith("_") or part.is_alias:
                    continue
                yield f"{name}.{inner}"


def is_type(name: str, member: Any) -> bool:
    """Tell whether a module's variable is another name of a type, such as `ModelKind`."""
    return member.is_attribute and name[0].isupper() and not name.isupper()


@functools.cache
def links() -> Links:
    """Give the one index of names."""
    return Links()


# ------------------------------------------------------------------------------------------------------- rendering
def describe(module: str, name: str, page: str) -> str:
    """Give the documentation of a class or function as Markdown: heading, signature, text, fields, methods."""
    symbol = _object(module)[name]
    writer = _Writer(module, page)
    if symbol.is_attribute:
        return writer.of_type(symbol)
    return "\n\n".join(
        part
        for part in (writer.of_class(symbol) if symbol.is_class else writer.of_function(symbol))
        if part
    )


class _Writer:
    """Writes what is documented in one module."""

    def __init__(self, module: str, page: str) -> None:
        self.module, self.page = module, page

    def of_function(self, function: Any, owner: str = "") -> Iterator[str]:
        name = f"{owner}.{function.name}" if owner else function.name
        yield f"{'####' if owner else '###'} {function.name} {{#{anchor(self.module, name)} .api-name}}"
        if "property" in function.labels:
            yield self._signature(
                f"{function.name}: {function.annotation or function.returns or 'Any'}"
            )
        else:
            yield self._signature(_call(function, drop_first=bool(owner)))
        yield self._docstring(function)

    def of_type(self, symbol: Any) -> str:
        """Show another name of a type; a heading would be more than it is."""
        value = _annotation(str(symbol.value))
        return f"::: {{#{anchor(self.module, symbol.name)}}}\n{self._signature(f'{symbol.name} = {value}')}\n:::"

    def of_class(self, symbol: Any) -> Iterator[str]:
        yield f"### {symbol.name} {{#{anchor(self.module, symbol.name)} .api-name}}"
        bases = ", ".join(str(base) for base in symbol.bases)
        yield self._signature(f"class {symbol.name}({bases})" if bases else f"class {symbol.name}")
        documented = {item.name: item.description for item in _section(symbol, "attributes")}
        yield self._docstring(symbol, without="attributes")
        yield self._fields(symbol, documented)
        methods = [part for name, part in symbol.members.items() if _is_method(name, part)]
        for method in methods:
            if method.has_docstring:
                yield from self.of_function(method, symbol.name)
        yield self._overridden(
            symbol, [method.name for method in methods if not method.has_docstring]
        )

    def _signature(self, text: str) -> str:
        code = links().link_code(text, self.page, self.module)
        return f'```{{=html}}\n<pre class="api-signature"><code>{code}</code></pre>\n```'

    def _docstring(self, symbol: Any, without: str = "") -> str:
        if not symbol.docstring:
            return ""
        parts = [
            self._part(part)
            for part in symbol.docstring.parse("google")
            if part.kind.value != without
        ]
        return "\n\n".join(part for part in parts if part)

    def _part(self, part: Any) -> str:
        kind = part.kind.value
        if kind == "text":
            text = re.sub(r"(?m)^Source: (\S+)$", r"Source: <\1>", part.value)
            return self._prose(text)
        if kind == "admonition":
            return f"**{part.title}**\n\n{self._prose(part.value.description)}"
        if kind == "examples":
            blocks = [
                text if block.value == "text" else f"```python\n{text}\n```"
                for block, text in part.value
            ]
            return "**Examples**\n\n" + "\n\n".join(blocks)
        titles = {
            "parameters": "Arguments",
            "returns": "Returns",
            "yields": "Yields",
            "raises": "Raises",
        }
        rows = [self._entry(kind, item) for item in part.value]
        return f"**{titles.get(kind, kind.title())}**\n\n" + "\n".join(rows)

    def _entry(self, kind: str, item: Any) -> str:
        text = self._prose(" ".join(item.description.split()))
        if kind in {"parameters", "attributes", "other parameters"}:
            return f"- `{item.name}`: {text}"
        if kind == "raises":
            return f"- {self._code(str(item.annotation))}: {text}"
        return f"- {text}"

    def _fields(self, symbol: Any, documented: dict[str, str]) -> str:
        rows = list(_fields(symbol, documented))
        if not rows:
            return ""
        cells = [
            (
                f"`{name}`",
                self._code(annotation),
                self._code(default) if default else "required",
                self._prose(text),
            )
            for name, annotation, default, text in rows
        ]
        has_defaults = any(default for _, _, default, _ in rows) or _is_model(symbol)
        heads = ["Name", "Type", "Default", "Description"]
        if not has_defaults:
            heads.remove("Default")
            cells = [(name, annotation, text) for name, annotation, _, text in cells]
        return f"::: {{.api-fields}}\n{_table(heads, cells)}\n:::"

    def _overridden(self, symbol: Any, names: list[str]) -> str:
        """Say which methods a class brings for what its base already explains."""
        found = []
        for name in names:
            base = next((base for base in symbol.mro() if name in base.members), None)
            found.append(self._code(f"{base.name}.{name}") if base else f"`{name}`")
        return f"As its base class says: {', '.join(found)}." if found else ""

    def _code(self, text: str) -> str:
        """Give a piece of code whose names are links; as HTML, since Markdown has no links within code."""
        code = (
            links()
            .link_code(text, self.page, self.module)
            .replace("|", "&#124;")
            .replace("`", "&#96;")
        )
        return f"`<code>{code}</code>`{{=html}}"

    def _prose(self, text: str) -> str:
        return links().link_prose(text, self.page, self.module)


def _is_method(name: str, part: Any) -> bool:
    return (
        not part.is_alias
        and not name.startswith("_")
        and (part.is_function or "property" in part.labels)
    )


def _section(symbol: Any, kind: str) -> list[Any]:
    parts = symbol.docstring.parse("google") if symbol.docstring else []
    return [item for part in parts if part.kind.value == kind for item in part.value]


def _bases(symbol: Any) -> set[str]:
    own = {getattr(base, "canonical_path", str(base)) for base in symbol.bases}
    return own.union(*(_bases(base) for base in symbol.mro()))


def _is_model(symbol: Any) -> bool:
    return MODEL in _bases(symbol)


def _fields(symbol: Any, documented: dict[str, str]) -> Iterator[tuple[str, str, str, str]]:
    """List the fields of a class, its own and the inherited: name, type, default and description."""
    members: dict[str, Any] = {}
    for owner in [*reversed(symbol.mro()), symbol]:
        members |= {name: part for name, part in owner.members.items() if part.is_attribute}
    for name, part in members.items():
        if name.startswith("_") or part.annotation is None or "property" in part.labels:
            continue
        if "instance-attribute" not in part.labels and name not in documented:
            continue  # a constant of the class, which nobody sets
        default, text = _default(part.value)
        text = text or documented.get(name, "") or (part.docstring.value if part.docstring else "")
        if name == "KIND":
            text = text or "What a configuration calls it."
        yield name, _annotation(str(part.annotation)), default, text


def _annotation(text: str) -> str:
    """Write a type without what a reader does not need: quotes around it, and what is annotated to it."""
    tree = ast.parse(text, mode="eval").body
    if isinstance(tree, ast.Constant) and isinstance(tree.value, str):
        return _annotation(tree.value)
    if (
        isinstance(tree, ast.Subscript)
        and ast.unparse(tree.value).rpartition(".")[2] == "Annotated"
    ):
        assert isinstance(tree.slice, ast.Tuple)
        return _annotation(ast.unparse(tree.slice.elts[0]))
    return ast.unparse(tree)


def _default(value: Any) -> tuple[str, str]:
    """Read the default and the description out of `Field(...)`, or take the value as it is."""
    if value is None:
        return "", ""
    tree = ast.parse(str(value), mode="eval").body
    if not (
        isinstance(tree, ast.Call)
        and ast.unparse(tree.func).rpartition(".")[2] in {"Field", "field"}
    ):
        return ast.unparse(tree), ""
    given = {keyword.arg: keyword.value for keyword in tree.keywords}
    default = tree.args[0] if tree.args else given.get("default")
    factory = given.get("default_factory")
    text = ast.unparse(default) if default is not None else ""
    if factory is not None:
        text = (
            ast.unparse(factory.body)
            if isinstance(factory, ast.Lambda)
            else f"{ast.unparse(factory)}()"
        )
    described = given.get("description")
    return ("" if text in {"...", "Ellipsis"} else text), _evaluated(described)


def _evaluated(tree: ast.expr | None) -> str:
    try:
        return str(ast.literal_eval(tree)) if tree is not None else ""
    except ValueError:
        return ""


def _call(function: Any, drop_first: bool) -> str:
    """Write a signature; one that is long, a parameter a line."""
    parameters = list(function.parameters)
    if drop_first and parameters and parameters[0].name in {"self", "cls"}:
        parameters = parameters[1:]
    texts = list(_parameters(parameters))
    returns = f" -> {_annotation(str(function.returns))}" if function.returns is not None else ""
    line = f"{function.name}({', '.join(texts)}){returns}"
    if len(line) <= _WIDTH or not texts:
        return line
    return f"{function.name}(\n" + "".join(f"    {text},\n" for text in texts) + f"){returns}"


def _parameters(parameters: Iterable[Any]) -> Iterator[str]:
    starred = False
    for parameter in parameters:
        kind = parameter.kind.value if parameter.kind else ""
        prefix = {"variadic positional": "*", "variadic keyword": "**"}.get(kind, "")
        if kind == "keyword-only" and not starred:
            yield "*"
        starred = starred or bool(prefix) or kind == "keyword-only"
        text = f"{prefix}{parameter.name}"
        if parameter.annotation is not None:
            text += f": {_annotation(str(parameter.annotation))}"
        if parameter.default is not None and not prefix:
            text += (
                f" = {parameter.default}"
                if parameter.annotation is not None
                else f"={parameter.default}"
            )
        yield text


def _table(heads: list[str], rows: Iterable[Iterable[str]]) -> str:
    """Write a Markdown table whose last column is the wide one."""
    rules = "|".join(["---"] * (len(heads) - 1) + ["------"])
    lines = [f"| {' | '.join(heads)} |", f"|{rules}|"]
    lines += ["| " + " | ".join(" ".join(cell.split()) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def module_of(page: str) -> str | None:
    """Give the module that a page exports."""
    return next((module for module, place in pages().items() if place == page), None)
