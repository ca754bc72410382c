"""A table belongs to whoever wrote it: no name and no value of it becomes code, markup or configuration."""

import ast
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from model_name.io import configs, datasets
from model_name.scaffold import exports, profiles, projects, questions

ROWS = 120
NAMES = [
    'a"""\nimport os; os.system("true")\n"""', "b' + __import__('os').system('true') + '", "x\u2028y",
    "z\x85w", "\u202eabc", "{{source}}", "{{< include /etc/passwd >}}", "${oc.env:HOME}", "{0.__class__}",
    "<script>alert(1)</script>", "``` \n# head", "#| eval: false", "\\", "%s %(a)s", "]])", "$(true)",
    "a: b", "!!python/object:os.system", "- x", "project_name",
]  # fmt: skip
LABELS = ['"""', "'''\\", "{{source}}", "`<img src=x onerror=alert(1)>", "a\u2028b"]
TARGET = 'tar"get\\ """ {{t}}\nos = 1'
FILE = 'ta"ble\' """ {{source}} ${x} `true` $(true) \u2028 <script>.parquet'


@pytest.fixture(scope="module")
def hostile(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[profiles.TableProfile, dict[str, str]]:
    """The profile of a table that means harm, and the files of a project about it."""
    rng = np.random.default_rng(0)
    columns = {name: rng.normal(size=ROWS) for name in NAMES}
    labels = {"label '\"<b> {{x}}": rng.choice(LABELS, ROWS), TARGET: rng.choice(LABELS[:3], ROWS)}
    path = tmp_path_factory.mktemp("hostile") / FILE
    pd.DataFrame(columns | labels).to_parquet(path)
    profile, _ = questions.settle(path, TARGET, questions.Known(), None)
    return profile, projects.compose("hostile", profile, f"data/{FILE}", "0" * 64)


def called(code: str) -> set[str]:
    """Return what code calls."""
    calls = (node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call))
    return {ast.unparse(call.func) for call in calls}


def test_names_are_literals_in_the_schema(
    hostile: tuple[profiles.TableProfile, dict[str, str]],
) -> None:
    profile, files = hostile
    code = files["hostile/schemas.py"]
    assert called(code) == {"pa.Field"}
    assert {"os", "evil"}.isdisjoint(
        ast.literal_eval(code.partition("__all__ = ")[2].partition("\n")[0])
    )
    keywords = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.keyword)]
    aliases = {ast.literal_eval(node.value) for node in keywords if node.arg == "alias"}
    assert {column.name for column in profile.columns if column.field != column.name} <= aliases
    assert not {"\u2028", "\x85", "\u202e"} & set(code), "nothing that ends a line, or reorders it"


def test_every_module_and_cell_is_python(
    hostile: tuple[profiles.TableProfile, dict[str, str]],
) -> None:
    for path, text in hostile[1].items():
        if path.endswith(".py"):
            assert "os.system" not in called(text), path
        if path.endswith(".ipynb"):
            cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
            for cell in cells:
                assert "os.system" not in called("".join(cell["source"])), path


def test_prose_shows_names_as_code(hostile: tuple[profiles.TableProfile, dict[str, str]]) -> None:
    from nbconvert import HTMLExporter

    notebook = json.loads(hostile[1]["nbs/schemas.ipynb"])
    prose = [
        "".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown"
    ]
    assert not any("{{<" in text for text in prose), "Quarto would include a file"
    import nbformat

    page = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text) for text in prose])
    for text in (hostile[1]["README.md"], hostile[1]["data/README.md"]):
        page.cells.append(nbformat.v4.new_markdown_cell(text))
    body, _ = HTMLExporter(template_name="basic").from_notebook_node(page)
    assert "<img src=x" not in body
    assert "<script>alert" not in body
    assert "&lt;script&gt;alert(1)" in body


def test_configurations_read_the_file_by_its_name(
    hostile: tuple[profiles.TableProfile, dict[str, str]], tmp_path: Path
) -> None:
    for path, text in hostile[1].items():
        if path.endswith((".yaml", ".yml")):
            yaml.safe_load(text)
    file = tmp_path / "train.yaml"
    file.write_text(hostile[1]["confs/train.yaml"], encoding="utf-8")
    table = configs.load([file]).data["data"]["table"]
    assert datasets.ParquetReader.model_validate(table).path == f"data/{FILE}"


def test_files_that_tools_read_name_the_project_alone(
    hostile: tuple[profiles.TableProfile, dict[str, str]],
) -> None:
    tools = [
        ".github/workflows/checks.yaml",
        "pyproject.toml",
        "settings.ini",
        "setup.py",
        "Makefile",
    ]
    for path in tools:
        assert 'ta"ble' not in hostile[1][path]
        assert "{{source}}" not in hostile[1][path]


@pytest.mark.parametrize("text", [*NAMES, *LABELS, FILE, "\ud800", "größe"])
def test_a_literal_is_its_string(text: str) -> None:
    literal = exports.in_python(text)
    assert ast.literal_eval(literal) == text
    assert len(literal.splitlines()) == 1
    assert len(exports.in_code(text).splitlines()) == 1
