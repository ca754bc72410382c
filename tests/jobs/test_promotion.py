"""Promotion: an alias moves on evidence only, and a refusal says why."""

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
    registries.keep_verdict(store.client(), registries.find_version(store.client(), "model_name", version), verdict)
    return str(run.info.run_id)


def aliases(store: services.MlflowService) -> dict[str, int]:
    found = store.client().get_registered_model("model_name").aliases
    return {alias: int(version) for alias, version in found.items()}


def add_version(store: services.MlflowService) -> None:
    store.start()
    store.client().create_model_version("model_name", store.client().get_model_version("model_name", "1").source)


def test_a_version_that_passed_is_promoted(trained: services.MlflowService, capsys: pytest.CaptureFixture[str]) -> None:
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
    assert promote(trained).refusals == ("version 1 of 'model_name' was never evaluated: run the evaluate job first",)
    judge(trained, outcome="refused")
    assert promote(trained).refusals == ("the evaluation of version 1 of 'model_name' was: refused (r2_score is 0.4)",)
    judge(trained, rows="all")
    [reason] = promote(trained).refusals
    assert reason.endswith("was judged on rows that its training may have seen: evaluate it with rows: unseen")
    run_id = judge(trained, tags={"verdict": "passed", "model_version": "model_name/7"})
    assert promote(trained).refusals == (f"the evaluation run {run_id} is about model_name/7, verdict passed",)
    run_id = judge(trained, tags={"verdict": "refused", "model_version": "model_name/1"})
    assert promote(trained).refusals == (f"the evaluation run {run_id} is about model_name/1, verdict refused",)
    run_id = judge(trained, status="FAILED")
    assert promote(trained).refusals == (f"the evaluation run {run_id} did not finish: it is FAILED",)
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
