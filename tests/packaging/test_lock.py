"""The lock and the metadata agree with each other and with the code."""

import ast
import configparser
import re
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
NOT_IMPORTED = {"ipykernel"}  # papermill starts it as a program
PART_OF = {"pydantic_core": {"pydantic"}}  # which pins the one version of it that fits


def settings() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(inline_comment_prefixes=("#",))
    parser.read(ROOT / "settings.ini", encoding="utf-8")
    return parser


def requirements(text: str) -> list[Requirement]:
    return [Requirement(line) for line in text.splitlines() if line.strip()]


def pins() -> list[Requirement]:
    return [
        Requirement(line.removesuffix("\\"))
        for line in LOCK.splitlines()
        if re.match(r"[a-z0-9]", line)
    ]


def imported(source: str) -> Iterator[str]:
    """Give the top-level names that a module imports, wherever in the module it does."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.partition(".")[0]


@pytest.mark.parametrize("version", settings()["metadata"]["pythons"].split())
@pytest.mark.parametrize("system", ["linux", "darwin", "win32"])
def test_every_requirement_is_pinned_on_every_system_and_python(system: str, version: str) -> None:
    machine = {
        "sys_platform": system,
        "platform_system": {"linux": "Linux", "darwin": "Darwin", "win32": "Windows"}[system],
        "os_name": "nt" if system == "win32" else "posix",
        "python_version": version,
        "python_full_version": f"{version}.9",
    }
    here = [pin for pin in pins() if not pin.marker or pin.marker.evaluate(machine)]
    found = {canonicalize_name(pin.name): next(iter(pin.specifier)).version for pin in here}
    assert len(found) == len(here), "a package is pinned twice for one machine"
    wanted = requirements(settings()["requirements"]["runtime"] + settings()["extras"]["dev"])
    wanted += requirements(settings()["extras"]["dask"])  # tests start a cluster
    wrong = {
        str(need): found.get(canonicalize_name(need.name))
        for need in wanted
        if (need.marker is None or need.marker.evaluate(machine))
        and not need.specifier.contains(found.get(canonicalize_name(need.name), "0"))
    }
    assert wrong == {}, "run `inv installs.lock`"


def test_every_pin_is_exact_and_has_hashes() -> None:
    blocks = [block for block in re.split(r"\n(?=[a-z0-9])", LOCK) if re.match(r"[a-z0-9]", block)]
    assert len(blocks) == len(pins())
    assert [block.partition(" ")[0] for block in blocks if "--hash=sha256:" not in block] == []
    assert {specifier.operator for pin in pins() for specifier in pin.specifier} == {"=="}


def test_lock_holds_no_address_and_no_path_of_a_machine() -> None:
    assert re.findall(r"(?m)^.*(?:://|--(?:index|extra-index|find-links)|\s/).*$", LOCK) == []


def test_the_package_imports_what_it_requires_and_requires_what_it_imports() -> None:
    names = {
        name
        for path in (ROOT / "model_name").rglob("*.py")
        for name in imported(path.read_text("utf-8"))
    }
    third_party = names - set(sys.stdlib_module_names) - {"model_name"}
    distributions = metadata.packages_distributions()
    sources = {
        name: {canonicalize_name(source) for source in distributions[name]} for name in third_party
    }
    required = {
        canonicalize_name(need.name) for need in requirements(settings()["requirements"]["runtime"])
    }
    optional = {canonicalize_name(need.name) for need in requirements(settings()["extras"]["dask"])}
    undeclared = {
        name
        for name, found in sources.items()
        if not (found | PART_OF.get(name, set())) & (required | optional)
    }
    assert undeclared == set(), "imported, not in settings.ini"
    assert (required | optional) - set().union(*sources.values()) - NOT_IMPORTED == set(), (
        "in settings.ini, never imported"
    )
