"""The site: pages say what the source says, and what is wrong with a page is found without Quarto."""

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from fastcore.nbio import mk_cell

from tasks.site import docs, pages, reference, sitechecks

ROOT = Path(__file__).parents[2]


def page(prose: str, **front: str) -> sitechecks.PageText:
    return sitechecks.PageText(
        "guides/one", {"title": "One", "description": "First."} | front, prose, []
    )


def faults(text: sitechecks.PageText, folder: Path = ROOT) -> list[str]:
    anchors = {text.name: text.anchors(), "core/metrics": ["model_name.core.metrics.Metric"]}
    return [
        *sitechecks.titles(text),
        *sitechecks.links(text, folder, anchors),
        *sitechecks.pictures(text),
        *sitechecks.identifiers(text),
        *sitechecks.blocks(text),
        *sitechecks.doubles(text),
        *sitechecks.scripted(text),
    ]


def test_fields_are_a_table_with_what_is_inherited() -> None:
    text = reference.describe("model_name.core.metrics", "SklearnMetric", "core/metrics")
    assert "| Name | Type | Default | Description |" in text
    assert "Name of a function in sklearn.metrics." in text
    assert '(<a href="#model_name.core.metrics.Metric">Metric</a>)' in text


def test_sections_of_a_docstring_become_lists() -> None:
    text = reference.describe("model_name.core.metrics", "try_out", "core/metrics")
    assert "**Arguments**\n\n- `metrics`: the metrics." in text
    assert '<a href="errors.html#model_name.core.errors.ModelError">ModelError</a>' in text
    assert "Args:" not in text
    assert "Raises:" not in text


@pytest.mark.parametrize(
    ("name", "from_page", "place"),
    [
        (
            "SklearnMetric",
            "guides/start",
            "../core/metrics.html#model_name.core.metrics.SklearnMetric",
        ),
        ("core.metrics", "index", "core/metrics.html"),
        ("metrics.Metric.value", "core/metrics", "#model_name.core.metrics.Metric.value"),
        ("run", "index", None),  # an everyday word is no name of ours
        ("NoSuchThing", "index", None),
    ],
)
def test_names_lead_to_their_page(name: str, from_page: str, place: str | None) -> None:
    assert reference.links().address(name, from_page) == place


def test_code_headings_and_links_stay_as_they_are() -> None:
    text = "## `Metric`\n\n```python\n`Metric`\n```\n\n[`Metric`](x.ipynb)"
    assert reference.links().link_prose(text, "index") == text
    assert (
        reference.links().link_prose("a `Metric`", "index")
        == "a [`Metric`](core/metrics.html#model_name.core.metrics.Metric)"
    )


@pytest.mark.parametrize(
    ("prose", "fault"),
    [
        ("[x](../core/nothing.ipynb)", "leads nowhere"),
        ("[x](../core/metrics.ipynb#nothing)", "leads to no place of that page"),
        ("[x](#nothing)", "leads to no place of that page"),
        ("![words](nothing.png)", "is not there"),
        ("![](../README.md)", "has no words"),
        ("See @sec-nothing.", "cross-reference @sec-nothing"),
        ("`core.metrics.NoSuchMetric`", "does not exist"),
        ("```sh\nmodel_name run trane\n```", "there is no job 'trane'"),
        ("```sh\nmodel_name run train --nothing\n```", "--nothing"),
        ("```sh\nmodel_name run train -s job.model.max_itr=3\n```", "max_itr"),
        ("```sh\ninv docs.nothing\n```", "there is no task"),
        ("```sh\nmake nothing\n```", "make has no target"),
        ("```yaml\njob:\n  KIND: TrainingJobb\n```", "YAML does not hold"),
        ("```yaml\na: [1\n```", "YAML does not hold"),
        ("```python\nfor\n```", "Python cannot be read"),
        ("```{mermaid}\nflowchart LR\n```", "has no words"),
        ("## Reader\n\n### Reader {#reader .api-name}", "2 places are named #reader"),
        ("### Env {#m.Env}\n\n### env {#m.env}", "2 places are named #m.env"),
        ('## Trees\n\n```{=html}\n<table id="trees"></table>\n```', "2 places are named #trees"),
        ("```sh\nmodel_name sampel bikes > bikes.csv\n```", "there is no such command"),
    ],
)
def test_a_fault_of_a_page_is_found(prose: str, fault: str) -> None:
    assert any(fault in found for found in faults(page(prose))), faults(page(prose))


def test_a_page_that_holds_has_no_faults() -> None:
    commands = "```sh\nmodel_name run train\nmake test\nmodel_name sample bikes > bikes.csv\n```"
    prose = f"## A place\n\n[x](#a-place), `core.metrics.Metric`, `settings.ini`\n\n{commands}"
    assert faults(page(prose)) == []
    assert len(faults(page(prose, title="", description=""))) == 2


def test_the_top_bar_leads_to_pages_that_the_style_marks() -> None:
    config = yaml.safe_load((ROOT / "_quarto.yml").read_text("utf-8"))
    names = {"guides/start", "runs/train", "core/index", "changelog"}
    assert list(sitechecks.navigation(config, ROOT / "nbs", names)) == []
    config["website"]["navbar"]["left"][0]["href"] = "guides/tune.ipynb"
    config["website"]["favicon"] = "images/none.svg"
    found = list(
        sitechecks.navigation(config, ROOT / "nbs", names - {"runs/train"} | {"guides/tune"})
    )
    assert [fault.partition(":")[0] for fault in found] == [
        "theme.scss does not mark Guides in the top bar",
        "_quarto.yml",
        "_quarto.yml",
    ]


@pytest.mark.parametrize(
    "question",
    [
        "how do I use my own data",
        "what does refused mean",
        "how do I go back to the old model",
        "why was my model not promoted",
        "how do I run it on Kafka",
        "how do I keep secrets out",
    ],
)
def test_a_plain_question_is_a_heading(question: str) -> None:
    """Quarto's search index has one entry per heading."""
    text = (ROOT / "nbs/guides/questions.ipynb").read_text("utf-8").lower().replace('\\"', "")
    headings = re.findall(r"### ([^\n]+?)\?", text)
    assert any(set(question.lower().split()) <= set(heading.split()) for heading in headings)


def test_a_figure_needs_words() -> None:
    image = {"output_type": "display_data", "data": {"image/png": ""}, "metadata": {}}
    cell = {"cell_type": "code", "source": "figure", "outputs": [image]}
    text = sitechecks.PageText("guides/one", {}, "", [cell])
    assert len(list(sitechecks.pictures(text))) == 1
    image["metadata"] = {"image/png": {"alt": "A line that rises."}}
    assert list(sitechecks.pictures(text)) == []


@pytest.mark.parametrize(
    ("module", "name", "place"),
    [
        ("io.osvariables", "env", "model_name.io.osvariables.env"),
        (
            "io.osvariables",
            "Env",
            "model_name.io.osvariables.Env-type",
        ),  # differs from `env` by case alone
        ("core.schemas", "Task", "model_name.core.schemas.Task-type"),
        ("core.metrics", "Metric.value", "model_name.core.metrics.Metric.value"),
        (
            "core.metrics",
            "Threshold.threshold",
            "model_name.core.metrics.Threshold",
        ),  # a row of the class's table
    ],
)
def test_places_are_full_names_that_differ_by_more_than_case(
    module: str, name: str, place: str
) -> None:
    assert reference.anchor(f"model_name.{module}", name) == place


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("guides/start", "guides"),
        ("runs/train", "jobs"),
        ("io/files", "reference"),
        ("scripts", "reference"),
    ],
)
def test_the_navigation_shows_the_part_of_a_page(name: str, part: str) -> None:
    assert pages._part(name) == part
    assert f".part-{part} .navbar a" in (ROOT / "nbs" / "theme.scss").read_text("utf-8")


PRINTED = """Log

step       time  result
tune      1.0 s  36 trials
train    23.9 s  version 1, with tuning run 0ab3a9d6
                 metric 0.84
                 notebook    outputs/notebooks/20261126-192940-train.ipynb
evaluate  2.0 s  passed
promote   1.0 s  Champion
infer     1.0 s  100 rows

MLflow: mlflow ui
"""


def test_the_front_page_shows_an_excerpt_of_what_a_command_printed() -> None:
    page = docs.with_printed("Before\n\n```text\nstep old\n...\n```\n\nAfter ```x```", PRINTED)
    assert page == (
        "Before\n\n```text\n"
        "step       time  result\n"
        "...\n"
        "train    23.9 s  version 1, with tuning run 0ab3a9d6\n"
        "                 metric 0.84\n"
        "                 notebook    outputs/notebooks/20261126-192940-train.ipynb\n"
        "evaluate  2.0 s  passed\n"
        "...\n"
        "```\n\nAfter ```x```"
    )
    with pytest.raises(docs.Exit, match="has 0 blocks"):
        docs.with_printed("nothing", PRINTED)
    other = PRINTED.replace("23.9", "1.5").replace("0ab3a9d6", "1bc4b0e7").replace("192940", "2")
    docs.require_printed(page, other.replace("20261126-2-", "20270101-000000-"))
    with pytest.raises(docs.Exit, match="metric 0.85"):
        docs.require_printed(page, PRINTED.replace("0.84", "0.85"))


def test_diagrams_carry_their_words() -> None:
    diagram = '```mermaid\n%%| fig-alt: "Jobs. And: versions."\nflowchart LR\n  a --> b\n```'
    made = pages._DIAGRAM.sub(pages._with_words, diagram)
    assert "  accTitle: Jobs\n  accDescr: Jobs. And: versions.\n  a --> b" in made
    assert faults(page(made)) == []


def test_equal_headings_are_numbered_as_pandoc_does() -> None:
    assert page("### Added\n\n### Added\n\n## Fixed").anchors() == ["added", "added-1", "fixed"]


def test_tables_become_raw_html_without_scripts() -> None:
    table = '<table border="1" class="dataframe"><tr><td>`a`</td></tr></table><script src="https://x.org/y.js"></script>'
    output = {
        "output_type": "execute_result",
        "data": {"text/html": [table], "text/plain": "a"},
        "metadata": {},
    }
    image = {"output_type": "display_data", "data": {"image/png": ""}, "metadata": {}}
    cell = mk_cell("table", "code", outputs=[image, output])
    (made,) = pages._without_html(cell)
    assert cell["outputs"] == [image]
    assert made.source.startswith("::: {.cell-output .cell-output-display}\n```{=html}\n<table")
    assert "script" not in made.source
    text = sitechecks.PageText(
        "guides/one", {}, "", [{"cell_type": "code", "source": "", "outputs": [output]}]
    )
    assert "loads scripts from elsewhere" in next(sitechecks.scripted(text))


@pytest.mark.parametrize(
    "kind", ["application/javascript", "application/vnd.jupyter.widget-view+json"]
)
def test_outputs_that_only_a_script_can_show_stay_out(kind: str) -> None:
    data = {kind: "x", "text/plain": "words"}
    cell = mk_cell(
        "x", "code", outputs=[{"output_type": "display_data", "data": data, "metadata": {}}]
    )
    text = sitechecks.PageText("guides/one", {}, "", [cell])
    assert kind in next(sitechecks.scripted(text))
    pages._without_html(cell)
    assert cell["outputs"][0]["data"] == {"text/plain": "words"}
    assert list(sitechecks.scripted(text)) == []


def test_a_page_that_no_list_names_joins_the_section_of_its_folder() -> None:
    contents = ["index.ipynb", {"section": "Guides", "contents": ["guides/a.ipynb"]}]
    docs._complete(contents, {"index.ipynb", "guides/a.ipynb", "guides/b.ipynb"})
    assert contents[1]["contents"] == ["guides/a.ipynb", "guides/b.ipynb"]


def test_what_a_page_loads_from_elsewhere_is_found(tmp_path: Path) -> None:
    (tmp_path / "own.html").write_text(
        '<a href="https://example.org">x</a><script src="site.js"></script>'
    )
    assert docs.from_elsewhere(tmp_path) == []
    (tmp_path / "other.html").write_text('<script src="https://example.org/x.js"></script>')
    (tmp_path / "style.css").write_text('@import url("https://example.org/font.css");')
    assert [fault.partition(":")[0] for fault in docs.from_elsewhere(tmp_path)] == [
        "other.html",
        "style.css",
    ]


def build(tmp_path: Path, script: str) -> subprocess.CompletedProcess[str]:
    """Run `inv docs.build` in a copy with the pages of one room, and a program in the place of Quarto."""
    copy = tmp_path / "copy"
    left_out = shutil.ignore_patterns(".*", "_proc", "_site", "outputs", "__pycache__", "tests")
    shutil.copytree(ROOT, copy, symlinks=True, ignore=left_out)
    for room in (copy / "nbs").iterdir():
        if room.is_dir() and room.name != "core":
            shutil.rmtree(room)
    program = tmp_path / "quarto"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    command = [sys.executable, "-m", "invoke", "docs.build", "--no-jobs"]
    env = os.environ | {"QUARTO_PATH": str(program)}
    return subprocess.run(command, cwd=copy, env=env, capture_output=True, text=True, check=False)


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for Quarto is a shell script")
def test_a_warning_of_quarto_fails_the_build(tmp_path: Path) -> None:
    done = build(
        tmp_path,
        'mkdir -p "$2/_site"; echo "WARN: Unable to resolve link target: nothing.ipynb" >&2',
    )
    assert done.returncode == 1
    assert "nothing.ipynb" in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for Quarto is a shell script")
def test_a_build_without_warnings_leaves_the_site(tmp_path: Path) -> None:
    done = build(tmp_path, 'mkdir -p "$2/_site"; cp "$2/_quarto.yml" "$2/_site"')
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "copy" / "_site" / "_quarto.yml").is_file()


def test_without_quarto_the_build_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    class Offline:
        def run(self, *_: str, **__: bool) -> None: ...

    monkeypatch.delenv("QUARTO_PATH", raising=False)
    monkeypatch.setattr(docs, "quarto", lambda: None)
    with pytest.raises(docs.Exit) as refused:
        docs.install_quarto(Offline())  # type: ignore[arg-type]
    assert refused.value.code == 1
    assert "https://quarto.org" in str(refused.value.message)
