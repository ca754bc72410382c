"""What is written as HTML is opened in a browser: nothing from a table, a name or a label runs or loads anything."""

import datetime as dt
import http.server
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from model_name.core import errors
from model_name.execution import pages
from model_name.jobs import base, cards, explanations
from model_name.records import verdicts

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")


class Listening(http.server.BaseHTTPRequestHandler):
    """Notes what it is asked."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def server() -> Iterator[http.server.ThreadingHTTPServer]:
    """A server that a page which is not careful would ask."""
    handler = type("Own", (Listening,), {"asked": []})
    listening = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    yield listening
    listening.shutdown()


def hostile(port: int) -> list[str]:
    """Return names that become a script, or a request, where they are not escaped."""
    place = f"http://127.0.0.1:{port}"
    mark = "document.title='it-ran'"
    return [
        f"<script>{mark}</script>", f"<img src=x onerror=\"{mark}\">", f"</style><script>{mark}</script>",
        f"</title><svg onload=\"{mark}\">", f"<img src='{place}/image'>",
        f"\"><link rel=stylesheet href={place}/style>",
        f"<style>@import '{place}/import'; body {{ background: url({place}/url) }}</style>",
        f"<iframe src={place}/frame></iframe>", f"<meta http-equiv=refresh content='0;url={place}/refresh'>",
        f"![x]({place}/markdown) `", f"javascript:{mark}",
    ]  # fmt: skip


def opened(page: Path, folder: Path) -> str:
    """Open a page as a person does, and return what it has become."""
    assert CHROMIUM is not None
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000"]
    command = [CHROMIUM, *options, f"--user-data-dir={folder}", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
    return done.stdout


def notebook(names: list[str], server: str, path: Path) -> Path:
    """Write an executed notebook that shows hostile names in every kind of output."""
    table = pd.DataFrame({name: [name] for name in names})
    result = base.JobResult(
        job=names[0], summary=" ".join(names), run_id=names[1], experiment=names[2], metrics={names[3]: 1.0},
        warnings=tuple(names),
    )  # fmt: skip
    fault = str(errors.DataError(" ".join(names)))
    outputs = [
        {"output_type": "stream", "name": "stdout", "text": "\n".join(names)},
        {"output_type": "stream", "name": "stderr", "text": "\n".join(names)},
        {
            "output_type": "execute_result",
            "execution_count": 1,
            "metadata": {},
            "data": {"text/html": table.to_html()},
        },
        {
            "output_type": "display_data",
            "metadata": {},
            "data": {"text/html": result._repr_html_(), "text/plain": repr(result)},
        },
        {"output_type": "display_data", "metadata": {}, "data": {"text/html": " ".join(names)}},
        {
            "output_type": "display_data",
            "metadata": {},
            "data": {"application/javascript": "document.title='it-ran'"},
        },
        {"output_type": "error", "ename": names[0], "evalue": fault, "traceback": [fault]},
    ]
    code = {
        "cell_type": "code",
        "id": "b",
        "metadata": {},
        "execution_count": 1,
        "outputs": outputs,
    }
    cells = [
        {"cell_type": "markdown", "id": "a", "metadata": {}, "source": "\n\n".join(names)},
        code | {"source": "\n".join(f"# {name}" for name in names)},
    ]
    document = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def card(names: list[str]) -> cards.Card:
    """Make a model card with hostile names wherever others have a say."""
    text = " ".join(names)
    slices = tuple(
        verdicts.SliceScore(column=name, value=name, rows=1, scores={names[0]: 1.0})
        for name in names
    )
    verdict = verdicts.VerdictDocument(
        registry_name=text, model_version=1, model_sha256="5d41", run_id=text, judged_rows="unseen", rows=1,
        rows_sha256="7d79", metrics=(verdicts.Score(metric=names[0], greater_is_better=True, value=1.0),),
        slices=slices, thresholds=dict.fromkeys(names, 1.0), outcome="refused", reasons=tuple(names),
        contract_sha256="40b2", code_sha256="9f86", evaluated=dt.datetime.now(dt.UTC), by=text,
        contest=verdicts.Contest(champion=2, impossible=text),
    )  # fmt: skip
    stated = cards.Statements(
        purpose=text, intended_use=text, owner=text, licence=text, limits=text
    )
    nothing, important = pd.DataFrame(), [(name, 1.0) for name in names]
    source = cards.CardSource(stated, verdict, None, text, nothing, nothing, important, names)
    return cards.make_card(source)


@pytest.mark.parametrize("kind", ["a run's notebook", "a report of explanations", "a model card"])
def test_no_script_runs_and_no_request_leaves(
    kind: str, tmp_path: Path, server: http.server.ThreadingHTTPServer
) -> None:
    names = hostile(server.server_port)
    page = tmp_path / "page.html"
    if kind == "a run's notebook":
        pages.write(notebook(names, "", tmp_path / "run.ipynb"), page)
    elif kind == "a model card":
        page.write_text(cards.to_html(card(names)), encoding="utf-8")
    else:
        table = pd.DataFrame({name: [name] for name in names})
        facts = {name: name for name in names}
        page.write_text(
            explanations.page(" ".join(names), facts, dict.fromkeys(names, table), {}),
            encoding="utf-8",
        )
    shown = opened(page, tmp_path / "profile")
    title = re.search("<title>(.*?)</title>", shown, re.DOTALL)
    assert "Content-Security-Policy" in shown
    assert title is not None
    assert title[1] != "it-ran"
    assert server.RequestHandlerClass.asked == []  # type: ignore[attr-defined]  # the handler is our own


def test_the_browser_would_show_what_gets_through(
    tmp_path: Path, server: http.server.ThreadingHTTPServer
) -> None:
    """Without escaping and policy the same names do run and load, so that the test above can fail."""
    page = tmp_path / "page.html"
    names = [name for name in hostile(server.server_port) if "refresh" not in name]
    page.write_text(
        f"<html><title>x</title><body>{' '.join(names)}</body></html>", encoding="utf-8"
    )
    assert "<title>it-ran</title>" in opened(page, tmp_path / "profile")
    assert "/image" in server.RequestHandlerClass.asked  # type: ignore[attr-defined]
