"""Pages: figures and errors are in them, and nothing comes from elsewhere."""

import base64
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest

from model_name import scripts
from model_name.execution import indexes, pages, summaries
from model_name.io import stores

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
    nbformat.write(new.new_notebook(cells=cells, metadata={"papermill": {}}), path)
    return path


def test_everything_is_in_the_page(notebook: Path, tmp_path: Path) -> None:
    pages.write(notebook, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<title>Ünïcode: a &lt;b&gt;</title>" in page
    for part in ("Ünïcode", "read &lt;3&gt; rows", "<td>0.92</td>", "$x^2$"):
        assert part in page
    assert base64.b64encode(SVG.encode()).decode() in page
    assert f"data:image/png;base64,{PIXEL}" in page.replace("\n", "")
    assert base64.b64encode(b"\x89PNG a file").decode() in page
    assert '<span class="ansi-red-fg">ValueError</span>: no' in page
    assert 'class="n">never' in page
    assert "Fitting: 100%" in page
    assert "50%" not in page, "a progress bar is shown as it ended"
    regions = re.findall(r'role="region" aria-label="([^"]+)"', page)
    assert regions == ["Output 1", "Output 2"], "screen readers tell apart what scrolls"
    assert page.count('class="scroll"') == 2


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
    assert "old" not in (tmp_path / "page.html").read_text(encoding="utf-8").split("<h1>")[1][:10]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "a <b>.ipynb",
        "local.png",
        "page.html",
    ]


def executed(folder: Path, name: str, **result: object) -> Path:
    """Write the notebook of a run that displayed a result, or one that a gate refused."""
    new = nbformat.v4
    shown = {stores.RECORD_MIME: result, "text/plain": "result"}
    outputs = [new.new_output("display_data", data=shown)]
    if result.get("refusals"):
        error = {"ename": "GateError", "evalue": "<b>no</b>", "traceback": ["<b>no</b>"]}
        outputs.append(new.new_output("error", **error))
    git = {"commit": "0123456789abcdef", "dirty": True}
    table = {"rows": 17544, "sha256": "6db694cd675a" + "0" * 52}
    record = {"package": "model_name", "version": "1.0", "git": git, "inputs": {"inputs": table}}
    record["configuration"] = {"job": {"inputs": {"KIND": "CsvReader", "path": "data/<bikes>.csv"}}}
    cells = [
        new.new_markdown_cell(f"# {name.title()}\n\n> What it <does>.\n\n## Here & there\n\nText."),
        new.new_code_cell("result.record()", outputs=outputs, execution_count=1),
    ]
    times = {"start_time": "2026-11-26T21:55:00+00:00", "duration": 74.2}
    metadata = {"papermill": times, "model_name": {"records": [record]}}
    path = folder / f"{name}.ipynb"
    nbformat.write(new.new_notebook(cells=cells, metadata=metadata), path)
    pages.write(path, path.with_suffix(".html"), {"0a1b": "https://mlflow.example.org/#/runs/0a1b"})
    return path


def test_a_page_begins_with_what_a_reader_asks_first(tmp_path: Path) -> None:
    metrics = {"mean_absolute_error": 17544.4, "r2_score": 0.83217, "empty": None}
    facts = {
        "summary": "scored by <1>",
        "run_id": "0a1b",
        "experiment": "bikes",
        "metrics": metrics,
    }
    page = executed(tmp_path, "train", **facts).with_suffix(".html").read_text("utf-8")
    top = page[page.index("<main>") : page.index("Text.")]
    for part in (
        '<h1>Train</h1>\n<p class="lead">What it &lt;does&gt;.</p>',
        '<span class="verdict done">done</span> scored by &lt;1&gt;',
        "<dd>mean_absolute_error 17,544, r2_score 0.8322</dd>",
        "<dd>17,544 rows from data/&lt;bikes&gt;.csv, fingerprint 6db694cd675a</dd>",
        "<dd>2026-11-26 21:55 UTC, 1 min 14 s</dd>",
        "commit 0123456789 with changes that are not committed",
        '<a href="https://mlflow.example.org/#/runs/0a1b">0a1b of the experiment bikes</a>',
    ):
        assert part in top
    assert '<li><a href="#Here-&amp;-there">Here &amp; there</a></li>' in page
    assert "<details><summary>Code</summary>" in page


def test_a_refusal_is_seen_first(tmp_path: Path) -> None:
    page = executed(tmp_path, "evaluate", summary="judged", refusals=["r2_score is <low>"])
    text = page.with_suffix(".html").read_text("utf-8")
    assert '<span class="verdict refused">refused</span> judged' in text
    assert "<li>r2_score is &lt;low&gt;</li>" in text
    assert "<b>no</b>" not in text


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        ({"execution_count": None, "outputs": []}, "interrupted"),
        ({"execution_count": 1, "outputs": [("KeyboardInterrupt", "")]}, "interrupted"),
        ({"execution_count": 1, "outputs": [("ValueError", "\x1b[31mno\x1b[0m\nmore")]}, "failed"),
        ({"execution_count": 1, "outputs": []}, "done"),
    ],
)
def test_how_a_notebook_ended(code: dict[str, Any], verdict: str, tmp_path: Path) -> None:
    new = nbformat.v4
    outputs = [
        new.new_output("error", ename=name, evalue=value, traceback=[])
        for name, value in code["outputs"]
    ]
    cell = new.new_code_cell("run()", outputs=outputs, execution_count=code["execution_count"])
    nbformat.write(new.new_notebook(cells=[cell], metadata={"papermill": {}}), tmp_path / "a.ipynb")
    found = summaries.summarise(tmp_path / "a.ipynb")
    assert found is not None
    assert (found.verdict, found.title, found.when()) == (verdict, "a", "")
    if verdict == "failed":
        assert found.result == "ValueError: no"


def test_the_index_lists_the_runs_and_links_them(tmp_path: Path) -> None:
    executed(tmp_path, "1-train", summary="version 1 of <m>")
    assert [run.name for run in indexes.update(tmp_path)] == ["1-train"]
    executed(tmp_path, "2-evaluate", summary="judged", refusals=["low"])
    nbformat.write(nbformat.v4.new_notebook(), tmp_path / "notes.ipynb")  # no run
    (tmp_path / "3-old.ipynb").write_bytes((tmp_path / "1-train.ipynb").read_bytes())  # no page
    found = indexes.update(tmp_path)
    assert [run.name for run in found] == ["1-train", "2-evaluate", "3-old"]
    index = (tmp_path / "index.html").read_text("utf-8")
    assert index.index("2-evaluate.html") < index.index("1-train.html")
    assert "3-old.html" not in index
    assert "version 1 of &lt;m&gt;" in index
    assert "white-space: nowrap" in index, "a time or a duration in two lines is hard to read"
    assert index.count('class="text nowrap"') == 3
    first, second = (
        (tmp_path / f"{name}.html").read_text("utf-8") for name in ("1-train", "2-evaluate")
    )
    assert 'After: <a href="2-evaluate.html">' in first
    assert 'Before: <a href="1-train.html">' in second
    assert first.count("All runs") == 1, "links are replaced, not added"


def test_the_command_lists_the_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert scripts.main(["runs", str(tmp_path)]) == 2
    assert "there is no executed notebook" in capsys.readouterr().err
    executed(tmp_path, "train", summary="version 1")
    assert scripts.main(["runs", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == [
        "2026-11-26",
        "21:55",
        "UTC",
        "Train",
        "1",
        "min",
        "14",
        "s",
        "done",
        "version",
        "1",
    ]
    assert lines[-1] == f"page  {tmp_path / 'index.html'}"
