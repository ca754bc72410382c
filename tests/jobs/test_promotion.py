"""Promotion: an alias moves on evidence only, and a refusal says why."""

import json
from typing import Any

import pydantic as pdt
import pytest

from model_name.core import errors
from model_name.io import registries, services
from model_name.jobs import promotion

QUIET = services.LoggerService(level="ERROR")


def promote(store: services.MlflowService, **settings: Any) -> promotion.PromotionResult:
    with promotion.PromotionJob(mlflow_service=store, logger_service=QUIET, **settings) as job:
        return job.run()


def judge(
    store: services.MlflowService,
    version: int = 1,
    outcome: str = "passed",
    rows: str = "unseen",
    tags: dict[str, str] | None = None,
    status: str = "FINISHED",
) -> str:
    """Leave behind what an evaluation leaves behind; return its run."""
    store.start()
    said = {"verdict": outcome, "model_version": f"model_name/{version}"} if tags is None else tags
    with store.run_context(store.RunConfig(name="Evaluations", tags=said)) as run:
        pass
    store.client().set_terminated(run.info.run_id, status)
    reasons = "r2_score is 0.4" if outcome != "passed" else ""
    verdict = registries.Verdict(outcome, run_id=run.info.run_id, rows=rows, reasons=reasons)
    registries.keep_verdict(
        store.client(), registries.find_version(store.client(), "model_name", version), verdict
    )
    return str(run.info.run_id)


def aliases(store: services.MlflowService) -> dict[str, int]:
    found = store.client().get_registered_model("model_name").aliases
    return {alias: int(version) for alias, version in found.items()}


def add_version(store: services.MlflowService) -> None:
    store.start()
    store.client().create_model_version(
        "model_name", store.client().get_model_version("model_name", "1").source
    )


def test_a_version_that_passed_is_promoted(
    trained: services.MlflowService, capsys: pytest.CaptureFixture[str]
) -> None:
    judge(trained)
    result = promote(trained)
    assert (result.promoted, result.previous_version, result.refusals) == (True, None, ())
    assert result.summary == "Champion is version 1"
    assert aliases(trained) == {"Champion": 1}
    assert capsys.readouterr().out == "[model_name] Promotion finished: Champion is version 1\n"
    result.gate()
    assert promote(trained).summary == "Champion is version 1, as before"
    add_version(trained)
    judge(trained, version=2)
    after = promote(trained)
    assert (after.previous_version, after.model_version) == (1, 2)
    assert after.summary == "Champion is version 2, after version 1"
    assert aliases(trained) == {"Champion": 2}
    back = promote(trained, version=1, alias="Stable")
    assert (back.summary, aliases(trained)) == ("Stable is version 1", {"Champion": 2, "Stable": 1})


def test_every_reason_to_refuse(trained: services.MlflowService) -> None:
    assert promote(trained).refusals == (
        "version 1 of 'model_name' was never evaluated: run the evaluate job first",
    )
    judge(trained, outcome="refused")
    assert promote(trained).refusals == (
        "the evaluation of version 1 of 'model_name' was: refused (r2_score is 0.4)",
    )
    judge(trained, rows="all")
    [reason] = promote(trained).refusals
    assert reason.endswith(
        "was judged on rows that its training may have seen: evaluate it with rows: unseen"
    )
    run_id = judge(trained, tags={"verdict": "passed", "model_version": "model_name/7"})
    assert promote(trained).refusals == (
        f"the evaluation run {run_id} is about model_name/7, verdict passed",
    )
    run_id = judge(trained, tags={"verdict": "refused", "model_version": "model_name/1"})
    assert promote(trained).refusals == (
        f"the evaluation run {run_id} is about model_name/1, verdict refused",
    )
    run_id = judge(trained, status="FAILED")
    assert promote(trained).refusals == (
        f"the evaluation run {run_id} did not finish: it is FAILED",
    )
    run_id = judge(trained)
    trained.client().delete_run(run_id)
    gone = f"the evaluation run {run_id} does not exist any more: evaluate the version again"
    assert promote(trained).refusals == (gone,)
    assert aliases(trained) == {}


def test_a_refusal_leaves_the_alias_and_a_record(trained: services.MlflowService) -> None:
    judge(trained)
    promote(trained)
    add_version(trained)
    result = promote(trained)
    assert result.summary == "version 2 was not promoted: Champion stays with version 1"
    assert aliases(trained) == {"Champion": 1}
    with pytest.raises(errors.GateError, match="version 2 of 'model_name' was never evaluated"):
        result.gate()
    run = trained.client().get_run(result.run_id)
    assert (run.info.status, run.data.tags["promoted"]) == ("FINISHED", "false")
    assert run.data.tags["reasons"] == result.refusals[0]
    assert run.data.params == {
        "registry_name": "model_name",
        "model_version": "2",
        "alias": "Champion",
        "previous": "1",
    }
    assert promote(trained, alias="Other").summary == "version 2 was not promoted: Other is not set"


def test_what_is_not_there(trained: services.MlflowService, store: services.MlflowService) -> None:
    with pytest.raises(errors.RegistryError, match="no version or alias 9"):
        promote(trained, version=9)
    with pytest.raises(errors.RegistryError, match="the registry has no model 'model_name'"):
        promote(store)


@pytest.mark.parametrize("alias", ["latest", "Latest", "3", "v3", "V12", "", "best one", "a/b"])
def test_names_that_cannot_be_an_alias(alias: str) -> None:
    with pytest.raises(pdt.ValidationError):
        promotion.PromotionJob(alias=alias)


@pytest.mark.parametrize("alias", ["Champion", "v", "v1b", "best-one_2"])
def test_names_that_can_be_an_alias(alias: str, trained: services.MlflowService) -> None:
    judge(trained)
    assert promote(trained, alias=alias).promoted
    assert aliases(trained) == {alias: 1}


# ------------------------------------------------------------------------------------- what it replaces, and doubts
def judge_with(
    store: services.MlflowService,
    version: int,
    rows: str,
    better: dict[str, bool],
    values: dict[str, float],
) -> str:
    """Leave behind an evaluation with metrics, on rows that a digest stands for."""
    run_id = judge(store, version=version)
    client = store.client()
    client.set_tag(run_id, "evaluated_rows", rows)
    client.set_tag(run_id, "greater_is_better", json.dumps(better))
    for name, value in values.items():
        client.log_metric(run_id, name, value)
    return run_id


WORSE = "version 2 is worse than version 1, which it replaces, on the same rows"
INCOMPARABLE = (
    "version 2 cannot be compared with version 1: they were judged on different rows; evaluate both on the same table, "
    "which neither was trained on"
)
BETTER = {"r2_score": True, "mean_absolute_error": False}


@pytest.mark.parametrize(
    ("rows", "values", "warning"),
    [
        ("same", {"r2_score": 0.9, "mean_absolute_error": 30.0}, None),
        ("same", {"r2_score": 0.8, "mean_absolute_error": 40.0}, None),
        (
            "same",
            {"r2_score": 0.7, "mean_absolute_error": 50.0},
            f"{WORSE}: r2_score 0.7 against 0.8, mean_absolute_error 50 against 40",
        ),
        (
            "same",
            {"r2_score": 0.9, "mean_absolute_error": 41.0},
            f"{WORSE}: mean_absolute_error 41 against 40 (better in r2_score)",
        ),
        (
            "other",
            {"r2_score": 0.9, "mean_absolute_error": 30.0},
            INCOMPARABLE,
        ),
    ],
)
def test_a_version_is_compared_with_the_one_that_it_replaces(
    trained: services.MlflowService,
    capsys: pytest.CaptureFixture[str],
    rows: str,
    values: dict[str, float],
    warning: str | None,
) -> None:
    judge_with(trained, 1, "same", BETTER, {"r2_score": 0.8, "mean_absolute_error": 40.0})
    assert promote(trained).warnings == ()
    add_version(trained)
    judge_with(trained, 2, rows, BETTER, values)
    capsys.readouterr()
    result = promote(trained)
    assert result.promoted, "it is said, and not refused"
    assert result.warnings == (() if warning is None else (warning,))
    run = trained.client().get_run(result.run_id)
    assert run.data.tags.get("compared") == warning
    assert (warning or "") in capsys.readouterr().out, "the alert"
    assert result.facts().get("warning 1") == warning
    assert promote(trained).warnings == (), "the same version again replaces nothing"


def test_a_champion_that_was_never_judged_like_this_cannot_be_compared(
    trained: services.MlflowService,
) -> None:
    judge(trained)
    promote(trained)
    add_version(trained)
    judge_with(trained, 2, "same", BETTER, {"r2_score": 0.8})
    [warning] = promote(trained).warnings
    assert (
        warning
        == "version 2 cannot be compared with version 1: version 1 has no evaluation to compare"
    )


def test_a_nearly_perfect_score_is_said_again(trained: services.MlflowService) -> None:
    said = "nearly perfect: r2_score is 1 on 48 rows (1 is perfect); it is carried by 'paid' (0.99 ...)"
    run_id = judge(trained)
    trained.client().set_tag(run_id, "nearly_perfect", said)
    result = promote(trained)
    assert result.promoted
    assert result.warnings == (f"the score of version 1 is {said}",)
    assert trained.client().get_run(result.run_id).data.tags["nearly_perfect"] == result.warnings[0]
    judge(trained)  # a newer evaluation has nothing to say, but the training has
    training_run = registries.find_version(trained.client(), "model_name", 1).run_id
    trained.client().set_tag(training_run, "nearly_perfect", said)
    assert promote(trained).warnings == result.warnings
