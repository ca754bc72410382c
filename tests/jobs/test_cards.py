"""Model cards: what is in them, that nothing in them is markup, and that a record makes the same bytes again."""

import datetime as dt
import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd

from model_name.core import schemas
from model_name.io import datasets, decisions, services
from model_name.jobs import cards, evaluations
from model_name.records import verdicts
from tests.conftest import add_version, decide

HOSTILE = "<img src=x onerror=alert(1)>](javascript:x) `|`\n# title"


def verdict(**changes: object) -> verdicts.VerdictDocument:
    fields = {
        "registry_name": "bikes", "model_version": 2, "model_sha256": "5d41", "run_id": "0a1b2c",
        "judged_rows": "unseen", "rows": 240, "rows_sha256": "7d79",
        "metrics": (verdicts.Score(metric="r2_score", greater_is_better=True, value=0.9),), "slices": (),
        "thresholds": {}, "outcome": "passed", "contract_sha256": "40b2", "code_sha256": "9f86",
        "evaluated": dt.datetime(2026, 11, 26, tzinfo=dt.UTC), "by": "ann@lab",
    } | changes  # fmt: skip
    return verdicts.VerdictDocument(**fields)  # type: ignore[arg-type]


def source(**changes: object) -> cards.CardSource:
    nothing = pd.DataFrame()
    made = cards.CardSource(cards.Statements(), verdict(), None, "", nothing, nothing, [], [])
    return made._replace(**changes)  # type: ignore[arg-type]


def test_what_nobody_has_filled_is_not_stated() -> None:
    page = cards.to_markdown(cards.make_card(source()))
    assert page.count("not stated") >= 6
    assert "Licence of the data: not stated" in page
    stated = cards.Statements(licence="CC BY 4.0", owner=" ")
    assert stated.not_stated() == ("intended_use", "owner", "limits")
    assert "Licence of the data: CC BY 4.0" in cards.to_markdown(
        cards.make_card(source(statements=stated))
    )


def test_nothing_of_others_is_markup() -> None:
    slices = (verdicts.SliceScore(column=HOSTILE, value=HOSTILE, rows=3, scores={"r2_score": 0.1}),)
    card = cards.make_card(
        source(
            statements=cards.Statements(purpose=HOSTILE, licence=HOSTILE),
            verdict=verdict(registry_name=HOSTILE, slices=slices, reasons=(HOSTILE,), by=HOSTILE),
            importances=[(HOSTILE, 1.0)],
            history=[HOSTILE],
        )
    )
    page = cards.to_html(card)
    assert "<img" not in page
    assert "default-src 'none'" in page
    markdown = cards.to_markdown(card)
    assert "<img" not in markdown.replace("\\<", "").partition("## How to load it")[0]
    assert "\n# title" not in markdown


def test_limits_are_what_the_training_has_seen() -> None:
    hours = datasets.SimulatedReader(rows=24 * 40).read()
    seen = schemas.InputsSchema.check(hours)
    [limits] = [one for one in cards.make_card(source(seen=seen)).sections if one.title == "Limits"]
    rows = {row[0]: row for row in limits.rows}
    assert rows["hr"][1] == "0 to 23"
    labels = set(np.unique(hours["season"].dropna()).astype(str))
    assert (
        set(rows["season"][2].replace("-", "").split(", ")) - {""} == {"1", "2", "3", "4"} - labels
    )


def test_an_evaluation_compares_with_the_champion_and_leaves_a_card(
    trained: services.MlflowService, hours: datasets.SimulatedReader
) -> None:
    decide(trained, 1)
    add_version(trained)
    with evaluations.EvaluationsJob(
        inputs=hours, targets=hours, resamples=20, thresholds={}, beat_naive=False, mlflow_service=trained,
        alias_or_version=1, logger_service=services.LoggerService(level="ERROR"),
        card=cards.Statements(licence="CC BY 4.0"), champion=2,
    ) as job:  # fmt: skip
        result = job.run()
    assert result.contest is not None
    contest = result.contest
    assert (contest.champion, contest.rows, contest.impossible) == (2, 240, "")
    assert [(gain.gain, gain.low, gain.high) for gain in contest.gains] == [(0.0, 0.0, 0.0)] * 3
    assert contest.challenger_slices == contest.champion_slices != ()
    client = trained.client()
    entry = decisions.read_history(client, "model_name").require().latest("evaluated", version=1)
    assert entry is not None
    document = verdicts.load_verdict(client, result.run_id, entry.decision.evidence)
    assert document.not_stated == ("intended_use", "owner", "limits")
    root = Path(str(client.get_run(result.run_id).info.artifact_uri).removeprefix("file://"))
    for name, digest in document.card.items():
        assert hashlib.sha256((root / name).read_bytes()).hexdigest() == digest
    record = (root / "card/card.json").read_text(encoding="utf-8")
    again = cards.render(cards.Card.model_validate_json(record))
    assert {name: (root / name).read_text(encoding="utf-8") for name in again} == again
    assert json.loads(record)["title"] == "model_name, version 1"
    page = again["card/card.md"]
    assert "CC BY 4.0" in page
    assert "GradientBoostingModel" in page
    assert "Champion is version 1" in page, "the history before this evaluation"
