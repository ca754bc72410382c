"""Rules of a promotion, one by one."""

import datetime as dt
from typing import Any

import pytest

from model_name.jobs import rules
from model_name.records import verdicts
from tests.conftest import contest

NOW = dt.datetime(2026, 11, 26, tzinfo=dt.UTC)


def refusals(
    settings: dict[str, Any],
    champion: int | None = 1,
    approvers: tuple[str, ...] = (),
    **verdict: Any,
) -> str:
    """Apply rules to version 2."""
    fields = {
        "registry_name": "bikes", "model_version": 2, "model_sha256": "5d41", "run_id": "0a1b2c",
        "judged_rows": "unseen", "rows": 240, "rows_sha256": "7d79", "metrics": (), "slices": (),
        "thresholds": {}, "outcome": "passed", "contract_sha256": "40b2", "code_sha256": "9f86",
        "evaluated": NOW, "by": "ann@lab", "contest": contest(),
    } | verdict  # fmt: skip
    case = rules.Case(verdicts.VerdictDocument(**fields), champion, "40b2", NOW, approvers)
    return "; ".join(rules.missed(rules.apply_rules(rules.Rules(**settings), case)))


@pytest.mark.parametrize(
    ("judged", "settings", "reason"),
    [
        (contest(), {}, ""),
        (contest(gain=-0.2), {}, ""),
        (contest(gain=-1.0), {}, "a gain of -1 (95 %: -1.5 to -0.5), worse beyond noise"),
        (contest(gain=1.0), {"minimum_gain": 2.0}, "and at least 2 is required"),
        (contest(gain=2.0), {"minimum_gain": 2.0}, ""),
        (contest(night=15.0), {}, "mean_absolute_error is worse by 50.0% where hr = 2"),
        (contest(night=15.0, rows=99), {}, ""),
        (contest(night=15.0, rows=99), {"slice_rows": 99}, "where hr = 2"),
        (contest(night=15.0), {"largest_slice_loss": 0.6}, ""),
        (contest(night=15.0), {"largest_slice_loss": None}, ""),
        (contest(champion=7), {}, "was compared with version 7, and the champion is version 1 now"),
        (None, {}, "was not compared with the champion, version 1"),
        (contest(impossible="it has seen all of these rows", gains=()), {}, "it has seen all"),
        (contest(gains=()), {}, "no metric in common"),
    ],
)
def test_champion_against_challenger(
    judged: verdicts.Contest | None, settings: dict[str, Any], reason: str
) -> None:
    found = refusals(settings, contest=judged)
    assert (reason in found) if reason else found == ""
    assert refusals(settings, champion=None, contest=judged) == "", "the first version"
    assert refusals(settings, champion=2, contest=judged) == "", "it is the champion already"


def test_an_evaluation_that_is_dated_in_the_future() -> None:
    """It would stay young for as long as somebody likes; clocks may differ by minutes."""
    assert refusals({}, evaluated=NOW + dt.timedelta(minutes=10)) == ""
    late = refusals({}, evaluated=NOW + dt.timedelta(days=400))
    assert late.startswith("the evaluation is dated 400.0 days in the future: set the clock")
    assert refusals({"evaluation_days": None}, evaluated=NOW + dt.timedelta(days=400)) == ""


def test_large_numbers_are_written_for_people() -> None:
    """In full up to the decimal point: no exponent."""
    gain = verdicts.Gain(
        metric="mean_absolute_error", greater_is_better=False, challenger=1_234_567.8, champion=123_456.7,
        gain=-1_111_111.1, low=-2_222_222.2, high=-11_111.1,
    )  # fmt: skip
    assert (
        "mean_absolute_error is 1,234,568 against 123,457 of version 1 on the same rows: a gain of -1,111,111 "
        "(95 %: -2,222,222 to -11,111), worse beyond noise"
    ) in refusals({}, contest=contest().model_copy(update={"gains": (gain,)}))


def test_a_score_for_which_more_is_better_loses_by_its_plain_difference() -> None:
    one = {"column": "hr", "value": "2", "rows": 120}
    gain = verdicts.Gain(
        metric="r2_score",
        greater_is_better=True,
        challenger=0.9,
        champion=0.8,
        gain=0.1,
        low=0.0,
        high=0.2,
    )
    judged = contest(
        gains=(gain,),
        challenger_slices=(verdicts.SliceScore(**one, scores={"r2_score": 0.3}),),
        champion_slices=(verdicts.SliceScore(**one, scores={"r2_score": 0.6}),),
    )
    assert "r2_score is worse by 30.0% where hr = 2" in refusals({}, contest=judged)
    assert refusals({"largest_slice_loss": 0.31}, contest=judged) == ""


@pytest.mark.parametrize(
    ("verdict", "settings", "reason"),
    [
        ({"evaluated": NOW - dt.timedelta(days=31)}, {}, "at most 30 are allowed"),
        ({"evaluated": NOW - dt.timedelta(days=31)}, {"evaluation_days": None}, ""),
        ({"contract_sha256": "other"}, {}, "the declared tables have changed"),
        ({"contract_sha256": "other"}, {"same_contract": False}, ""),
        ({"not_stated": ("licence",)}, {"stated": ["licence", "owner"]}, "does not state: licence"),
        ({"not_stated": ("licence",)}, {"stated": ["owner"]}, ""),
        ({}, {"approval": True}, "nobody else has approved version 2"),
        ({"approvers": ("bob@lab",)}, {"approval": True}, ""),
        (
            {"outcome": "refused", "reasons": ("r2_score is 0.4",)},
            {},
            "was: refused (r2_score is 0.4)",
        ),
        ({"outcome": "refused"}, {"thresholds": False}, ""),
        ({"judged_rows": "all"}, {}, "training may have seen: evaluate it with rows: unseen"),
    ],
)
def test_rules_about_the_evaluation(
    verdict: dict[str, Any], settings: dict[str, Any], reason: str
) -> None:
    found = refusals(settings, **verdict)
    assert (reason in found) if reason else found == ""
