"""What all jobs share: results and gates, tables that belong together, the record, services that start and stop."""

import json
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_name.core import alignment, errors
from model_name.io import services, stores
from model_name.jobs import base


class CountingJob(base.Job):
    """The smallest job: it may fail."""

    VERB: ClassVar[str] = "count"
    KIND: Literal["CountingJob"] = "CountingJob"
    fails: bool = False

    def run(self) -> base.JobResult:
        with self.recording(
            self.mlflow_service.RunConfig(name="Counting", tags={"team": "bikes"})
        ) as recorder:
            recorder.parameters(model={"KIND": "Forest", "depth": 3}, rows=2)
            recorder.metrics({"hours": 48.0, "nothing": float("nan")})
            if self.fails:
                raise errors.DataError("no hours")
        return base.JobResult(
            job=self.KIND, summary="counted", run_id=recorder.run_id, experiment="model_name"
        )


def quiet(**settings: Any) -> dict[str, Any]:
    return {"logger_service": services.LoggerService(level="ERROR"), **settings}


# ------------------------------------------------------------------------------------------------------- results
def result(**values: Any) -> base.JobResult:
    given = {"job": "X", "summary": "done", "run_id": "0a1b", "experiment": "bikes"}
    return base.JobResult(**(given | values))


def test_a_gate_without_reasons_is_open_and_with_reasons_says_them_all() -> None:
    result().gate()
    with pytest.raises(errors.GateError, match="^too late; too bad$"):
        result(refusals=("too late", "too bad")).gate()


def test_a_result_is_a_table_for_people_and_json_for_programs() -> None:
    made = result(
        summary="a <b>", metrics={"r2_score": 0.123456, "rows": 12345.0}, figures={"one": object()}
    )
    assert made.facts() == {"job": "X", "done": "a <b>", "r2_score": "0.1235", "rows": "12,345"}
    assert "a &lt;b&gt;" in made._repr_html_()
    shown = made.record()._repr_mimebundle_()
    assert json.loads(json.dumps(shown[stores.RECORD_MIME]))["metrics"] == {
        "r2_score": 0.123456,
        "rows": 12345.0,
    }
    assert "figures" not in shown[stores.RECORD_MIME]
    assert shown["text/plain"] == "MLflow run 0a1b of the experiment 'bikes'"


# ----------------------------------------------------------------------------------------- tables that belong together
@given(st.permutations(range(8)))
def test_targets_are_brought_into_the_order_of_the_inputs(order: list[int]) -> None:
    inputs = pd.DataFrame({"x": range(8)}, index=order)
    targets = pd.DataFrame({"y": np.arange(8) * 10}, index=range(8))
    assert alignment.align(inputs, targets)["y"].tolist() == [label * 10 for label in order]


def test_tables_about_different_rows() -> None:
    inputs, targets = pd.DataFrame(index=[1, 2, 3, 4]), pd.DataFrame(index=[3, 4, 5])
    with pytest.raises(errors.DataError) as caught:
        alignment.align(inputs, targets)
    assert str(caught.value) == (
        "inputs (4 rows) and targets (3 rows) are not about the same rows: "
        "2 row(s) only in the inputs, such as 1 and 1 row(s) only in the targets, such as 5"
    )
    with pytest.raises(errors.DataError, match=r"1 row\(s\) only in the inputs, such as 4$"):
        alignment.align(inputs, pd.DataFrame(index=[3, 2, 1]))


def test_rows_of_the_same_time_keep_their_order() -> None:
    days = pd.to_datetime(["2024-03-02", "2024-03-01", "2024-03-02", "2024-03-01"])
    inputs, targets = alignment.sort_by_time(
        pd.DataFrame({"day": days}, index=list("abcd")),
        pd.DataFrame({"y": [1, 2, 3, 4]}, index=list("abcd")),
        ["day"],
    )
    assert inputs.index.tolist() == targets.index.tolist() == list("bdac")
    assert targets["y"].tolist() == [2, 4, 1, 3]
    assert alignment.sort_by_time(inputs[::-1], targets, [])[0].index.tolist() == list("cadb"), (
        "no time, no order"
    )


# ---------------------------------------------------------------------------------------------------- the record
def test_a_run_records_what_it_was_made_of(store: services.MlflowService) -> None:
    with CountingJob(**quiet(mlflow_service=store)) as job:
        made = job.run()
    run = store.client().get_run(made.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"model.KIND": "Forest", "model.depth": "3", "rows": "2"}
    assert run.data.metrics == {"hours": 48.0}, "what is not a number has no place in MLflow"
    assert (run.data.tags["team"], run.data.tags["mlflow.source.name"]) == (
        "bikes",
        "model_name run count",
    )
    kept = json.loads(
        Path(run.info.artifact_uri.removeprefix("file://"), "provenance.json").read_text()
    )
    assert kept["configuration"]["job"]["KIND"] == "CountingJob"
    assert kept["finished"] >= kept["started"]


def test_a_run_that_fails_is_marked_and_keeps_its_provenance(store: services.MlflowService) -> None:
    with (
        pytest.raises(errors.DataError, match="no hours"),
        CountingJob(fails=True, **quiet(mlflow_service=store)) as job,
    ):
        job.run()
    [run] = store.client().search_runs(
        [store.client().get_experiment_by_name("model_name").experiment_id]
    )
    assert run.info.status == "FAILED"
    assert [file.path for file in store.client().list_artifacts(run.info.run_id)] == [
        "provenance.json"
    ]
    assert run.data.metrics == {"hours": 48.0}


def test_services_stop_in_the_opposite_order_also_when_one_does_not_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[str] = []

    def tell(name: str, fails: bool = False) -> Any:
        def action(self: Any) -> None:
            told.append(name)
            if fails:
                raise errors.ServiceError("not there")

        return action

    for service, name in ((services.LoggerService, "log"), (services.AlertsService, "alerts")):
        monkeypatch.setattr(service, "start", tell(f"start {name}"))
        monkeypatch.setattr(service, "stop", tell(f"stop {name}"))
    monkeypatch.setattr(services.MlflowService, "start", tell("start mlflow", fails=True))
    with pytest.raises(errors.ServiceError, match="not there"), CountingJob():
        pytest.fail("a job whose services did not start must not begin")
    assert told == ["start log", "start alerts", "start mlflow", "stop alerts", "stop log"]


def test_what_was_asked_for_is_what_differs_from_the_defaults() -> None:
    job = CountingJob(fails=True, mlflow_service=services.MlflowService(registry_name="bikes"))
    assert job.non_defaults() == {
        "fails": True,
        "mlflow_service": {"registry_name": "bikes"},
    }
    assert job.describe_non_defaults() == "mlflow_service:\n  registry_name: bikes\nfails: true\n"
    assert CountingJob().describe_non_defaults() == "Every setting has its default."
