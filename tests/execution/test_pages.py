"""Pages: figures and errors are in them, and nothing comes from elsewhere."""

import base64
import re
from pathlib import Path

import nbformat
import pytest

from model_name.execution import pages

SVG = "<svg><circle r='1'/></svg>"
PIXEL = base64.b64encode(b"\x89PNG a picture").decode()


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    """An executed notebook with one of everything."""
    (tmp_path / "local.png").write_bytes(b"\x89PNG a file")
    new = nbformat.v4
    outputs = [
        new.new_output("stream", name="stdout", text="read <3> rows\n"),
        new.new_output("stream", name="stderr", text="\rFitting:  50%"),
        new.new_output("stream", name="stderr", text="\rFitting: 100%"),
        new.new_output("display_data", data={"image/png": PIXEL, "text/plain": "figure"}),
        new.new_output("display_data", data={"image/svg+xml": SVG}),
        new.new_output("display_data", data={"text/html": "<table><tr><td>0.92</td></tr></table>"}),
        new.new_output(
            "display_data", data={"text/html": "<script src='https://elsewhere/a.js'></script>"}
        ),
        new.new_output(
            "error", ename="ValueError", evalue="no", traceback=["\x1b[31mValueError\x1b[0m: no"]
        ),
    ]
    cells = [
        new.new_markdown_cell("# Ünïcode\n\n![a file](local.png)\n\n$x^2$"),
        new.new_code_cell("job.run()", outputs=outputs, execution_count=3),
        new.new_code_cell("never()"),
    ]
    path = tmp_path / "a <b>.ipynb"
    nbformat.write(new.new_notebook(cells=cells), path)
    return path


def test_everything_is_in_the_page(notebook: Path, tmp_path: Path) -> None:
    pages.write(notebook, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<title>a &lt;b&gt;</title>" in page
    for part in ("Ünïcode", "read &lt;3&gt; rows", "<td>0.92</td>", "$x^2$"):
        assert part in page
    assert base64.b64encode(SVG.encode()).decode() in page
    assert f"data:image/png;base64,{PIXEL}" in page.replace("\n", "")
    assert base64.b64encode(b"\x89PNG a file").decode() in page
    assert '<span class="ansi-red-fg">ValueError</span>: no' in page
    assert 'class="n">never' in page
    assert "Fitting: 100%" in page
    assert "50%" not in page, "a progress bar is shown as it ended"


def test_a_browser_loads_nothing(notebook: Path, tmp_path: Path) -> None:
    pages.write(notebook, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    (policy,) = re.findall('http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert {word for rule in rules.values() for word in rule.split()} == {
        "'none'",
        "data:",
        "'unsafe-inline'",
    }
    assert "script-src" not in rules
    own = page.replace("https://elsewhere/a.js", "")  # what the output asked for, and does not get
    assert re.findall(r"(?:src|href)=.https?:|url\(https?:|@import", own) == []


def test_an_older_page_is_replaced(notebook: Path, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("old")
    pages.write(notebook, tmp_path / "page.html")
    assert "old" not in (tmp_path / "page.html").read_text(encoding="utf-8").split("<body>")[1][:10]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "a <b>.ipynb",
        "local.png",
        "page.html",
    ]
