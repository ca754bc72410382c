"""Promotion: an alias moves on signed evidence and by rules only, and every decision is on record."""

import itertools
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pydantic as pdt
import pytest

from model_name.core import errors
from model_name.io import decisions, osvariables, registries, services
from model_name.jobs import promotion, rules
from model_name.records import verdicts
from tests.conftest import add_version, contest, decide, record_verdict

QUIET = services.LoggerService(level="ERROR")


def promote(store: services.MlflowService, **settings: Any) -> promotion.PromotionResult:
    with promotion.PromotionJob(mlflow_service=store, logger_service=QUIET, **settings) as job:
        return job.run()


def aliases(store: services.MlflowService) -> dict[str, int]:
    found = store.client().get_registered_model("model_name").aliases
    return {alias: int(version) for alias, version in found.items()}


def history(store: services.MlflowService) -> decisions.History:
    return decisions.read_history(store.client(), "model_name")


def events(store: services.MlflowService) -> list[str]:
    """The history in short, without the evaluations."""
    entries = history(store).require().entries
    made = [entry.decision for entry in entries if entry.decision.event != "evaluated"]
    return [f"{decision.event} {decision.model_version}" for decision in made]


@pytest.fixture
def challenged(trained: services.MlflowService) -> services.MlflowService:
    """A store in which version 1 is the champion, and version 2 registered."""
    record_verdict(trained)
    assert promote(trained).promoted
    assert add_version(trained) == 2
    return trained


# ------------------------------------------------------------------------------------------------------- the evidence
def test_a_version_that_passed_is_promoted(
    trained: services.MlflowService, capsys: pytest.CaptureFixture[str]
) -> None:
    record_verdict(trained)
    result = promote(trained)
    assert (result.promoted, result.previous_version, result.refusals) == (True, None, ())
    assert result.summary == "Champion is version 1"
    assert aliases(trained) == {"Champion": 1}
    assert capsys.readouterr().out == "[model_name] Promotion finished: Champion is version 1\n"
    result.gate()
    assert promote(trained).summary == "Champion is version 1, as before"
    add_version(trained)
    record_verdict(trained, version=2, contest=contest())
    after = promote(trained)
    assert (after.previous_version, after.model_version) == (1, 2)
    assert after.summary == "Champion is version 2, after version 1"
    assert aliases(trained) == {"Champion": 2}
    back = promote(trained, version=1, alias="Stable")
    assert (back.summary, aliases(trained)) == ("Stable is version 1", {"Champion": 2, "Stable": 1})
    assert events(trained) == ["promoted 1", "promoted 1", "promoted 2", "promoted 1"]


def test_forged_tags_are_worth_nothing(trained: services.MlflowService) -> None:
    """In every combination, with a finished run that claims to be the evaluation."""
    trained.start()
    client = trained.client()
    with trained.run_context(trained.RunConfig(name="Evaluations")) as run:
        pass
    tags = {
        "verdict": "passed", "model_version": "model_name/1", "evaluated_rows": "same",
        "greater_is_better": "{}",
    }  # fmt: skip
    for name, value in tags.items():
        client.set_tag(run.info.run_id, name, value)
    version = registries.find_version(client, "model_name", 1)
    never = "version 1 of 'model_name' was never evaluated: run the evaluate job first"
    for outcome, judged, reference in itertools.product(
        ("passed", "refused"), ("unseen", "all"), (run.info.run_id, "gone")
    ):
        registries.keep_verdict(client, version, registries.Verdict(outcome, reference, judged))
        assert promotion.find_evidence(client, history(trained), version).fault == never
    assert promote(trained).refusals == (never,)
    assert aliases(trained) == {}


def test_a_verdict_that_is_gone_or_about_another_version(trained: services.MlflowService) -> None:
    run_id = record_verdict(trained)
    client, version = trained.client(), trained.client().get_model_version("model_name", "1")
    entry = history(trained).entries[0].decision
    client.delete_run(run_id)
    gone = f"the verdict of the evaluation run {run_id} does not exist any more: evaluate the version again"
    assert promotion.find_evidence(client, history(trained), version).fault == gone
    client.restore_run(run_id)
    add_version(trained)
    decisions.record(client, entry.model_copy(update={"model_version": 2}))
    other = trained.client().get_model_version("model_name", "2")
    fault = promotion.find_evidence(client, history(trained), other).fault
    assert fault.startswith("the verdict is about version 1 of 'model_name'")


def test_a_verdict_that_was_edited_or_exchanged_is_refused(trained: services.MlflowService) -> None:
    refused = record_verdict(trained, outcome="refused", reasons=("r2_score is 0.4",))
    passed = record_verdict(trained)
    client = trained.client()

    def file_of(run_id: str) -> Path:
        root = client.get_run(run_id).info.artifact_uri
        return Path(str(root).removeprefix("file://")) / verdicts.FILE

    def fault() -> str:
        version = registries.find_version(client, "model_name", 1)
        return promotion.find_evidence(client, history(trained), version).fault

    good = file_of(passed).read_text(encoding="utf-8")
    file_of(passed).write_text(good.replace('"rows":240', '"rows":241'), encoding="utf-8")
    assert "is not the one that the history names" in fault()
    file_of(passed).write_text(file_of(refused).read_text(encoding="utf-8"), encoding="utf-8")
    assert "is not the one that the history names" in fault()
    file_of(passed).write_text(good, encoding="utf-8")
    assert fault() == ""


def test_the_newest_verdict_counts_even_if_an_older_one_passed(
    trained: services.MlflowService,
) -> None:
    record_verdict(trained)
    record_verdict(trained, outcome="refused", reasons=("r2_score is 0.4",))
    assert not promote(trained).promoted


def test_files_that_changed_after_the_evaluation_cannot_be_promoted_even_by_force(
    trained: services.MlflowService,
) -> None:
    record_verdict(trained, model_sha256="0" * 64)
    [reason] = promote(trained, force=True, reason="I insist").refusals
    assert reason.startswith("the files of version 1 are not those that were evaluated")
    assert aliases(trained) == {}


def test_a_key_that_is_not_trusted_any_more(
    trained: services.MlflowService, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    record_verdict(trained)
    monkeypatch.setenv("SIGNER_FILE", str(tmp_path / "another.pem"))
    osvariables.env.cache_clear()
    try:
        with pytest.raises(errors.GateError, match=r"entry 1 is signed by the key .* not trusted"):
            promote(trained)
    finally:
        monkeypatch.undo()
        osvariables.env.cache_clear()


def test_a_history_that_was_deleted_is_noticed_by_a_machine_that_never_saw_it(
    trained: services.MlflowService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signed verdict of a version is evidence that there was an entry."""
    monkeypatch.setattr(decisions, "_memory", lambda _: None)
    run_id, client = record_verdict(trained), trained.client()
    registries.keep_verdict(
        client,
        client.get_model_version("model_name", "1"),
        registries.Verdict("passed", run_id, "unseen"),
    )
    assert verdicts.checked_history(client, "model_name").fault == ""
    client.delete_registered_model(decisions.ledger_of("model_name"))
    assert decisions.read_history(client, "model_name").fault == "", "a chain cannot show it"
    missing = (
        f"the signed verdict of the evaluation run {run_id} has no entry, so entries were deleted"
    )
    with pytest.raises(errors.GateError, match=missing):
        promote(trained, force=True, reason="I insist")
    with pytest.raises(errors.GateError, match=r"evaluate again: version 1$"):
        promotion.approve(trained, 1, "fine")
    assert aliases(trained) == {}
    again = record_verdict(trained)
    registries.keep_verdict(
        client,
        client.get_model_version("model_name", "1"),
        registries.Verdict("passed", again, "unseen"),
    )
    assert promote(trained).promoted, "the way out that the message says"


def test_a_verdict_of_another_run_is_worth_nothing(trained: services.MlflowService) -> None:
    """Copied into a run of the attacker's, which a forged tag names."""
    run_id = record_verdict(trained)
    client = trained.client()
    with trained.run_context(trained.RunConfig(name="Evaluations")) as run:
        copied = client.download_artifacts(run_id, verdicts.FILE)
        client.log_artifact(run.info.run_id, copied, "verdict")
    with pytest.raises(errors.GateError, match=f"is that of the run {run_id}"):
        verdicts.load_verdict(client, run.info.run_id)


# ---------------------------------------------------------------------------------------------------------- the rules
def test_a_broken_slice_is_refused_and_named_although_the_average_is_better(
    challenged: services.MlflowService,
) -> None:
    record_verdict(challenged, version=2, contest=contest(gain=5.0, night=15.0))
    result = promote(challenged)
    assert result.refusals == (
        "mean_absolute_error is worse by 50.0% where hr = 2, and at most 20.0% is allowed",
    )
    assert aliases(challenged) == {"Champion": 1}
    last = history(challenged).entries[-1].decision
    assert (last.event, last.replaces) == ("refused", 1)
    assert [rule.rule for rule in last.rules if rule.outcome == "missed"] == ["slices"]


def test_a_worse_metric_and_a_nearly_perfect_score_are_warnings(
    challenged: services.MlflowService,
) -> None:
    record_verdict(
        challenged,
        version=2,
        contest=contest(gain=-0.2),
        run_tags={"nearly_perfect": "nearly perfect: r2_score is 1"},
    )
    result = promote(challenged)
    assert result.promoted
    assert result.warnings == (
        "the score of version 2 is nearly perfect: r2_score is 1",
        "version 2 is worse than version 1, which it replaces, on the same rows: mean_absolute_error 40.2 against 40",
    )
    tags = challenged.client().get_run(result.run_id).data.tags
    assert (tags["nearly_perfect"], tags["compared"]) == result.warnings


# --------------------------------------------------------------------------------------- force, approval, and way back
def test_force_needs_a_reason_which_is_recorded(challenged: services.MlflowService) -> None:
    with pytest.raises(pdt.ValidationError, match="force needs a reason"):
        promotion.PromotionJob(force=True, reason=" ")
    result = promote(challenged, force=True, reason="the old one needs a sensor that broke")
    assert result.promoted
    assert "the old one needs a sensor that broke" in result.warnings[0]
    last = history(challenged).entries[-1].decision
    assert (last.forced, last.reason) == (True, "the old one needs a sensor that broke")
    assert [(rule.rule, rule.outcome) for rule in last.rules] == [("evidence", "missed")]


def test_the_way_back_is_a_stack(challenged: services.MlflowService) -> None:
    record_verdict(challenged, version=2, contest=contest())
    assert promote(challenged).promoted
    decide(challenged, add_version(challenged))
    assert promote(challenged, rollback=True).summary == "Champion is version 2, after version 3"
    assert promote(challenged, rollback=True).summary == "Champion is version 1, after version 2"
    with pytest.raises(errors.RegistryError, match="had not another champion before"):
        promote(challenged, rollback=True)
    assert aliases(challenged) == {"Champion": 1}
    assert events(challenged)[-2:] == ["rolled back 2", "rolled back 1"]


def test_a_way_back_is_verified(challenged: services.MlflowService) -> None:
    record_verdict(challenged, version=2, contest=contest())
    assert promote(challenged).promoted
    record_verdict(challenged, outcome="refused", reasons=("r2_score is 0.4",))
    assert promote(challenged, rollback=True).refusals == (
        "the evaluation of version 1 of 'model_name' was: refused (r2_score is 0.4)",
    )
    assert aliases(challenged) == {"Champion": 2}


def test_an_approval_counts_from_another_key_only(
    trained: services.MlflowService, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trained.start()
    with pytest.raises(errors.GateError, match="was never evaluated"):
        promotion.approve(trained, 1, "fine")
    record_verdict(trained)
    promotion.approve(trained, 1, "I have trained it, and it is fine")
    required = rules.Rules(approval=True)
    assert not promote(trained, rules=required).promoted
    own = Path(os.environ["SIGNER_FILE"])
    decisions.signatures.sign(b"", "first use")  # the other side has a key
    monkeypatch.setenv("SIGNER_FILE", str(tmp_path / "bob" / "signer.pem"))
    monkeypatch.setenv("TRUSTED_SIGNERS", str(own.with_suffix(".pub")))
    osvariables.env.cache_clear()
    promotion.approve(trained, 1, "the slices look right")
    monkeypatch.setenv("SIGNER_FILE", str(own))
    monkeypatch.setenv("TRUSTED_SIGNERS", str(tmp_path / "bob" / "signer.pub"))
    osvariables.env.cache_clear()
    try:
        assert promote(trained, rules=required).promoted
    finally:
        monkeypatch.undo()
        osvariables.env.cache_clear()


# ------------------------------------------------------------------------------- refusals, names, and what is not there
def test_a_refusal_leaves_the_alias_and_a_record(challenged: services.MlflowService) -> None:
    result = promote(challenged)
    assert result.summary == "version 2 was not promoted: Champion stays with version 1"
    assert aliases(challenged) == {"Champion": 1}
    with pytest.raises(errors.GateError, match="version 2 of 'model_name' was never evaluated"):
        result.gate()
    run = challenged.client().get_run(result.run_id)
    assert (run.info.status, run.data.tags["promoted"]) == ("FINISHED", "false")
    assert run.data.tags["reasons"] == result.refusals[0]
    assert run.data.params == {
        "registry_name": "model_name",
        "model_version": "2",
        "alias": "Champion",
        "previous": "1",
    }
    assert (
        promote(challenged, alias="Other").summary == "version 2 was not promoted: Other is not set"
    )
    assert events(challenged) == ["promoted 1", "refused 2", "refused 2"]


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
def test_names_that_can_be_an_alias(alias: str) -> None:
    assert promotion.PromotionJob(alias=alias).alias == alias


# -------------------------------------------------------------------------------------- races, and the end of a process
def in_a_process(work: Any) -> int:
    """Do something in a copy of this process, which ends at once; return its id."""
    child = os.fork()
    if child:
        return child
    try:
        work()
        os._exit(0)
    except errors.GateError:
        os._exit(3)
    except BaseException:  # noqa: BLE001 (a copy of the test must not go on)
        sys.excepthook(*sys.exc_info())
        os._exit(1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are killed as POSIX does")
@pytest.mark.parametrize("step", ["before the entry", "after the entry", "after the alias"])
def test_a_promotion_that_is_killed_is_finished_or_never_happened(
    challenged: services.MlflowService, step: str
) -> None:
    record_verdict(challenged, version=2, contest=contest())
    store, point = decisions._store, decisions.point

    def die(*_: Any) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)

    def point_and_die(*words: Any) -> None:
        point(*words)
        die()

    def run() -> None:
        if step == "before the entry":
            decisions._store = die
        else:
            decisions.point = die if step == "after the entry" else point_and_die
        promote(challenged)

    _, status = os.waitpid(in_a_process(run), 0)
    assert os.WIFSIGNALED(status), "it was killed"
    assert (decisions._store, decisions.point) == (store, point)
    expected = 1 if step == "before the entry" else 2
    promotion.PromotionJob(mlflow_service=challenged, logger_service=QUIET).finish_decisions()
    assert aliases(challenged) == {"Champion": expected}
    entry = history(challenged).require().champion("Champion")
    assert entry is not None
    assert entry.decision.model_version == expected


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are started as POSIX does")
def test_of_many_promoters_at_once_one_wins(trained: services.MlflowService) -> None:
    """Versions that were not compared with each other: who comes second has to compare with the first."""
    record_verdict(trained)
    count = 5
    for _ in range(count - 1):
        record_verdict(trained, version=add_version(trained))
    gate = os.pipe()

    def run(version: int) -> Any:
        def work() -> None:
            os.close(gate[1])
            os.read(gate[0], 1)  # until the others are there
            promote(trained, version=version).gate()

        return work

    children = [in_a_process(run(version)) for version in range(1, count + 1)]
    os.close(gate[1])
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert sorted(codes) == [0] + [3] * (count - 1)
    winner = codes.index(0) + 1
    assert aliases(trained) == {"Champion": winner}
    made = events(trained)
    assert len(made) == count
    assert [event for event in made if event.startswith("promoted")] == [f"promoted {winner}"]
