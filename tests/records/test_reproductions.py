"""A recorded run that is run again: what is refused, what is compared, what stays as it was; steps that are skipped."""

import datetime as dt
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from model_name.core import errors
from model_name.io import datasets, osvariables, redaction, registries, services
from model_name.jobs import promotion
from model_name.records import environments, fingerprints, gitstates, provenance, reproductions
from model_name.scripts import main

TABLE = "hours.parquet"
QUICK = [
    "--data", TABLE, "-s", "job.logger_service.level=ERROR", "-s", "train.model.max_iter=5", "-s", "train.tuned=null",
    "-s", "evaluate.resamples=5", "-s", "evaluate.thresholds={}", "-s", "evaluate.beat_naive=false",
]  # fmt: skip
Tell = Callable[..., tuple[int, str, str]]


def quick(*verbs: str) -> list[str]:
    """Return the arguments that run verbs quickly; an override of a verb that is not there would be refused."""
    given = ["--in-process", "--data", TABLE]
    for option in QUICK[3::2]:
        first = option.partition(".")[0]
        if first in (*verbs, "job"):
            given += ["-s", option]
    return ["run", *verbs, *given]


@pytest.fixture(scope="module")
def place(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table of 16,000 hours and a store, in which version 1 was trained, evaluated and promoted."""
    folder = tmp_path_factory.mktemp("recorded")
    datasets.SimulatedReader(rows=16_000).read().to_parquet(folder / TABLE, index=False)
    shutil.copy(empty_store / "mlflow.db", folder)
    with sqlite3.connect(folder / "mlflow.db") as database:
        database.execute(
            "DELETE FROM experiments WHERE name = 'model_name'"
        )  # its files would be elsewhere
    database.close()
    with pytest.MonkeyPatch.context() as patch:
        _go(patch, folder)
        assert main(quick("train", "evaluate", "promote")) == 0
    osvariables.env.cache_clear()
    return folder


def _go(patch: pytest.MonkeyPatch, folder: Path) -> None:
    patch.chdir(folder)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        patch.setenv(name, f"sqlite:///{folder.as_posix()}/mlflow.db")
    osvariables.env.cache_clear()


@pytest.fixture
def there(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory in which the runs were made; its table is put back."""
    table = (place / TABLE).read_bytes()
    _go(monkeypatch, place)
    yield place
    (place / TABLE).write_bytes(table)
    osvariables.env.cache_clear()


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str], no_progress_bars: None) -> Tell:
    """Run the command line; return its exit code and what it wrote to both streams."""

    def tell(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(list(arguments))
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return tell


def runs(verb: str) -> list[Any]:
    """Return the runs of a verb, the oldest first."""
    client = services.MlflowService().client()
    found = client.get_experiment_by_name("model_name")
    assert found is not None
    return list(
        client.search_runs(
            [found.experiment_id], f"tags.`mlflow.source.name` = 'model_name run {verb}'",
            order_by=["attributes.start_time ASC"],
        )
    )  # fmt: skip


def first(verb: str) -> str:
    """Return the id of the first run of a verb."""
    return str(runs(verb)[0].info.run_id)


def record_of(verb: str) -> provenance.Provenance:
    """Return the record of the first run of a verb."""
    return reproductions.find_record(first(verb), services.MlflowService())


def as_notebook(path: Path, *records: str) -> str:
    """Write an executed notebook that carries records."""
    path.write_text(json.dumps({"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    provenance.embed(path, records)
    return str(path)


# ------------------------------------------------------------------------------------------- comparisons by themselves
STARTED = dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)
HOURS = pd.DataFrame({"temp": np.arange(50) / 50, "hr": np.arange(50) % 24}).rename_axis("instant")


class Reading:
    """What a comparison of data uses of a job: tables that it reads, and their fingerprints."""

    def __init__(self, **tables: pd.DataFrame) -> None:
        self._tables = tables

    def tables(self) -> Iterator[tuple[str, pd.DataFrame]]:
        yield from self._tables.items()

    def fingerprints(self) -> dict[str, fingerprints.DataFingerprint]:
        return {
            name: fingerprints.Fingerprint().update(table).record()
            for name, table in self._tables.items()
        }


def a_record(**values: Any) -> provenance.Provenance:
    """Return a record with these values and nothing else."""
    here = environments.describe_environment()._asdict()
    return provenance.Provenance(
        **{**here, "started": STARTED, "configuration": {"job": {}}, **values}
    )


def whats(differences: list[reproductions.Difference]) -> list[str]:
    return [difference.what for difference in differences]


def test_modules_that_changed_are_gone_or_are_new() -> None:
    now = gitstates.module_hashes()
    then = {name: digest for name, digest in now.items() if name != "core/models.py"}
    then |= {"core/errors.py": "0" * 64, "core/gone.py": "1" * 64, "../churn/gone.py": "2" * 64}
    assert whats(reproductions.compare_code(a_record(modules=then))) == [
        "churn/gone.py is not there any more",
        "model_name/core/errors.py changed",
        "model_name/core/gone.py is not there any more",
        "model_name/core/models.py was not there",
    ]
    assert reproductions.compare_code(a_record(modules=now)) == []


def test_a_notebook_that_changed_and_the_commit_of_the_run() -> None:
    source = gitstates.SourceNotebook(name="train.ipynb", sha256="0" * 64, code="")
    record = a_record(modules=gitstates.module_hashes(), verb="train", source=source)
    assert whats(reproductions.compare_code(record)) == ["the notebook train.ipynb changed"]
    of_a_commit = record.model_copy(update={"git": gitstates.GitState(commit="f" * 40, dirty=True)})
    assert whats(reproductions.compare_code(of_a_commit))[1:] == [
        "the commit ffffffffffff of the record is not in this clone: git fetch may bring it"
    ]


def test_versions_that_are_others() -> None:
    installed = environments.installed_distributions()
    then = {name: version for name, version in installed.items() if name != "pandas"} | {
        "numpy": "0.1",
        "gone": "2",
    }
    record = a_record(distributions=then, python="2.7.18", platform="Plan9 4 mips")
    [system, python, *distributions] = reproductions.compare_environment(record)
    assert system.what.startswith("Plan9 mips, and here ")
    assert python.what.startswith("Python 2.7.18, and here Python 3.")
    assert whats(distributions) == [
        "gone 2, and here it is not installed",
        f"numpy 0.1, and here {np.__version__}",
        f"pandas was not installed, and here {pd.__version__}",
    ]
    release = a_record(
        distributions=installed, platform=environments.describe_environment().platform
    )
    words = release.platform.split()
    other = release.model_copy(update={"platform": f"{words[0]} another-release {words[-1]}"})
    assert reproductions.compare_environment(other) == [], (
        "another release of the system is allowed"
    )


def test_what_need_not_change_the_result_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    record = a_record(threads=environments.threads() | {"OMP_NUM_THREADS": "7"}, outcome="failed")
    assert reproductions.notes(record) == [
        "OMP_NUM_THREADS: 7 then, 3 now; sums may differ in their last digits",
        "the run failed",
    ]
    assert reproductions.notes(a_record(threads=environments.threads())) == ["the run was killed"]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ([3], "inputs: has other values in 'temp'; 1 row(s) changed (instant 3)"),
        ([3, 7, 9], "inputs: has other values in 'temp'; 3 row(s) changed (instant 3, 7, 9)"),
        (
            [3, 7, 9, 11],
            "inputs: has other values in 'temp'; 4 row(s) changed (instant 3, 7, 9, ...)",
        ),
    ],
)
def test_rows_that_changed_are_named_if_they_are_few(changed: list[int], told: str) -> None:
    table = HOURS.copy()
    table.loc[changed, "temp"] = 2.0
    record = a_record(inputs=Reading(inputs=HOURS).fingerprints())
    assert whats(reproductions.compare_data(record, Reading(inputs=table))) == [told]  # type: ignore[arg-type]


def test_rows_that_are_gone_have_no_label_and_tables_that_are_gone_are_named() -> None:
    record = a_record(inputs=Reading(inputs=HOURS, targets=HOURS[["hr"]]).fingerprints())
    assert whats(reproductions.compare_data(record, Reading(inputs=HOURS.iloc[:-2]))) == [  # type: ignore[arg-type]
        "inputs: has 48 rows, not 50; 2 row(s) are gone",
        "targets: no such table is read any more",
    ]
    assert reproductions.compare_data(a_record(), Reading()) == []  # type: ignore[arg-type]


def test_data_that_cannot_be_read_differ() -> None:
    class Broken(Reading):
        def fingerprints(self) -> dict[str, fingerprints.DataFingerprint]:
            raise errors.DataError("hours.parquet: no such file")

    record = a_record(inputs=Reading(inputs=HOURS).fingerprints())
    [difference] = reproductions.compare_data(record, Broken())  # type: ignore[arg-type]
    assert difference == ("data", "hours.parquet: no such file")


def test_files_that_were_edited_or_are_gone_and_a_model_that_is_gone(
    empty_store: Path, tmp_path: Path
) -> None:
    shutil.copy(empty_store / "mlflow.db", tmp_path)
    client = services.MlflowService(
        tracking_uri=f"sqlite:///{tmp_path.as_posix()}/mlflow.db"
    ).client()
    experiment = client.create_experiment("files", artifact_location=(tmp_path / "files").as_uri())
    run_id = client.create_run(experiment).info.run_id
    client.log_text(run_id, "0.92", "scores.txt")
    client.log_text(run_id, "same", "same.txt")
    kept = provenance.artifact_hashes(client, run_id)
    client.log_text(run_id, "0.99", "scores.txt")
    record = a_record(run_id=run_id, artifacts=kept | {"lost.txt": "0" * 64})
    assert whats(reproductions.compare_artifacts(record, client)) == [
        f"scores.txt of the run {run_id} was edited",
        f"lost.txt of the run {run_id} is gone",
    ]
    [gone] = reproductions.compare_artifacts(
        record.model_copy(update={"model_read": "bikes/7"}), client
    )
    assert gone.what.startswith("the model bikes/7: ")
    elsewhere = a_record(run_id="0" * 32, artifacts=kept)
    assert whats(reproductions.compare_artifacts(elsewhere, client))[0].startswith(
        f"the files of the run {'0' * 32}: "
    )


def test_every_kind_has_to_be_allowed() -> None:
    found = [
        reproductions.Difference("data", "inputs: other"),
        reproductions.Difference("code", "models.py changed"),
    ]
    reproductions.require(found, ["code", "data"], "0a1b")
    reproductions.require([], [], "0a1b")
    with pytest.raises(
        errors.GateError, match=r"the run 0a1b was made of:\n  data         inputs: other\n"
    ) as error:
        reproductions.require(found, ["data"], "0a1b")
    assert str(error.value).endswith(
        "--allow code,data runs it all the same, and then compares the results."
    )


@pytest.mark.parametrize(
    ("then", "now", "row"),
    [
        (0.5, 0.5, ("0.5", "0.5", "")),
        (0.5, 0.25, ("0.5", "0.25", "by -0.25 (0.5 of it)")),
        (0.0, 0.25, ("0", "0.25", "by +0.25")),
        (-2.0, -1.0, ("-2", "-1", "by +1 (0.5 of it)")),
        (float("nan"), float("nan"), ("no value", "no value", "")),
        (float("inf"), float("inf"), ("inf", "inf", "")),
        (0.1 + 0.2, 0.3, ("0.3", "0.3", "by -5.55e-17 (1.9e-16 of it)")),
        (None, 0.5, ("missing", "0.5", "missing")),
        (0.5, None, ("0.5", "missing", "missing")),
    ],
)
def test_metrics_that_differ(
    then: float | None, now: float | None, row: tuple[str, str, str]
) -> None:
    first, second = (
        a_record(metrics={} if value is None else {"r2": value}) for value in (then, now)
    )
    assert reproductions.compare_results(first, second)[1] == ("r2", *row)


def test_outcomes_decisions_and_tables_that_differ() -> None:
    tables = Reading(predictions=HOURS).fingerprints()
    first = a_record(
        outcome="finished", decision={"verdict": "passed"}, inputs=tables, outputs=tables
    )
    second = a_record(outcome="failed", decision={"alias": "Champion"}, inputs=tables)
    rows = {
        (row.what, row.then, row.now): row.difference
        for row in reproductions.compare_results(first, second)
    }
    digest = f"50 rows, {tables['predictions'].sha256[:8]}"
    assert rows == {
        ("outcome", "finished", "failed"): "other",
        ("alias", "", "Champion"): "other",
        ("verdict", "passed", ""): "other",
        ("predictions", digest, digest): "",
        ("predictions", digest, "missing"): "missing",
    }


def test_a_comparison_is_a_table_of_columns() -> None:
    rows = [
        reproductions.Row("r2", "0.5", "0.25", "by -0.25"),
        reproductions.Row("a" * 50, "x", "x", ""),
    ]
    head, first, second = reproductions.render(rows).splitlines()
    assert head.split() == ["then", "now"]
    assert first.split() == ["r2", "0.5", "0.25", "by", "-0.25"]
    assert second.split() == ["a" * 37 + "...", "x", "x", "same"]
    assert head.index("then") == first.index("0.5") == second.index("x")


def test_the_job_that_repeats_a_run() -> None:
    job = {
        "KIND": "TrainingJob",
        "mlflow_service": {"registry_name": "bikes"},
        "alerts_service": {"enable": True},
    }
    job["logger_service"] = {"sink": "train.log", "level": "DEBUG"}
    record = a_record(configuration={"job": job}, run_id="0a1b", resolved={"alias_or_version": 3})
    server = services.MlflowService(
        tracking_uri="https://me:pw@mlflow.example", registry_uri="sqlite:////m.db"
    )
    assert reproductions.repeated_job(record, server) == {
        "KIND": "TrainingJob", "alias_or_version": 3, "reproduces": "0a1b",
        "mlflow_service": {"registry_name": "bikes", "tracking_uri": None, "registry_uri": "sqlite:////m.db"},
        "logger_service": {"sink": "stderr", "level": "DEBUG"},
    }  # fmt: skip
    hiding = a_record(
        configuration={"job": {"mlflow_service": {}, "tags": [{"api_key": "hunter2"}]}}
    )
    with pytest.raises(errors.ConfigError, match=r"hides a secret, .* from it: job.tags.0.api_key"):
        reproductions.repeated_job(hiding, server)


def test_the_store_of_a_notebook(tmp_path: Path) -> None:
    here = services.MlflowService(tracking_uri="sqlite:///here.db")
    job = {
        "mlflow_service": {
            "tracking_uri": "sqlite:///there.db",
            "registry_uri": "http://me:pw@mlflow.example",
        }
    }
    notebook = as_notebook(tmp_path / "train.ipynb", a_record(configuration={"job": job}).to_json())
    found = reproductions.find_store(notebook, here)
    assert (found.tracking_uri, found.registry_uri) == ("sqlite:///there.db", None), (
        "a masked address is not used"
    )
    assert reproductions.find_store("0a1b2c3d", here) is here


# ------------------------------------------------------------------------------------------------- the same again
def test_training_again_from_another_directory(
    there: Path, tell: Tell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = first("train")
    monkeypatch.chdir(tmp_path)
    code, out, err = tell("reproduce", run_id, "--in-process")
    assert (code, err) == (0, "")
    assert "The same: all " in out
    assert sum(line.endswith("  same") for line in out.splitlines()) >= 6
    assert "predictions" in out
    [_, again] = runs("train")
    assert again.data.tags["model_name.reproduces"] == run_id
    client = services.MlflowService().client()
    assert [version.version for version in client.search_model_versions("name='model_name'")] in (
        ["1"],
        [1],
    )
    assert len(client.search_model_versions("name='model_name-reproductions'")) == 1


def test_evaluating_again_writes_no_verdict_and_keeps_to_the_version(
    there: Path, tell: Tell
) -> None:
    run_id, client = first("evaluate"), services.MlflowService().client()
    before = registries.read_verdict(client.get_model_version("model_name", "1"))
    code, out, _ = tell("reproduce", run_id, "--in-process")
    assert code == 0
    assert before is not None
    assert registries.read_verdict(client.get_model_version("model_name", "1")) == before
    assert before.run_id == run_id
    assert "verdict" in out
    assert record_of("evaluate").resolved == {"alias_or_version": 1, "champion": None}


def test_promoting_again_moves_nothing(there: Path, tell: Tell) -> None:
    client = services.MlflowService().client()
    client.delete_registered_model_alias("model_name", "Champion")
    code, out, err = tell("reproduce", first("promote"), "--in-process")
    assert code == 0, err
    assert "Champion to version 1" in out
    assert client.get_registered_model("model_name").aliases == {}
    client.set_registered_model_alias("model_name", "Champion", "1")


@pytest.mark.parametrize(
    ("verb", "options", "files"),
    [
        ("infer", [], {"predictions.parquet"}),
        (
            "explain",
            ["-s", "job.samples=20", "-s", "job.resamples=3"],
            {"shap_values.parquet", "feature_importances.parquet", "explanations.html"},
        ),
    ],
)
def test_tables_go_to_a_folder_of_their_own(
    verb: str, options: list[str], files: set[str], there: Path, tell: Tell
) -> None:
    assert tell(*quick(verb), *options)[0] == 0
    kept = {path: path.stat().st_mtime_ns for path in (there / "outputs").glob("*.*")}
    code, _, err = tell("reproduce", first(verb), "--in-process")
    assert (code, err) == (0, "")
    made = there / "outputs" / "reproductions" / first(verb)
    assert {path.name for path in made.iterdir()} == files
    assert {path: path.stat().st_mtime_ns for path in (there / "outputs").glob("*.*")} == kept
    for name in files:
        if name.endswith(".parquet"):
            pd.testing.assert_frame_equal(
                pd.read_parquet(made / name), pd.read_parquet(there / "outputs" / name)
            )


def test_tuning_again_makes_the_same_trials(there: Path, tell: Tell) -> None:
    space = "{KIND: OptunaSearcher, n_trials: 3, n_jobs: 1, param_grid: {max_iter: [2, 3, 4]}}"
    search = [
        "-s",
        f"job.searcher={space}",
        "-s",
        "job.splitter.n_splits=2",
        "-s",
        "job.splitter.test_size=200",
    ]
    assert tell(*quick("tune"), *search)[0] == 0
    journals = {path: path.read_bytes() for path in there.glob("outputs/tuning/*")}
    code, out, err = tell("reproduce", first("tune"), "--in-process")
    assert (code, err) == (0, "")
    assert "trials" in out
    assert {path: path.read_bytes() for path in there.glob("outputs/tuning/*")} == journals
    [tuned, again] = runs("tune")
    assert ("model_name.tuned" in tuned.data.tags, "model_name.tuned" in again.data.tags) == (
        True,
        False,
    )


def test_an_executed_notebook_is_enough(there: Path, tell: Tell, tmp_path: Path) -> None:
    arguments = [word for word in quick("train") if word != "--in-process"]
    assert tell(*arguments, "--notebooks", str(tmp_path))[0] == 0
    [notebook] = tmp_path.glob("*-train.ipynb")
    [kept] = provenance.embedded(notebook)
    record = provenance.read_record(kept, "it")
    assert (record.outcome, record.notebook) == ("finished", notebook.as_posix())
    code, out, _ = tell("reproduce", str(notebook), "--notebooks", str(tmp_path / "again"))
    assert code == 0
    assert "The same: all " in out
    assert len(list((tmp_path / "again").glob("*-train.ipynb"))) == 1


# ------------------------------------------------------------------------------------------------------ other results
def test_results_that_differ_are_told_by_how_much(there: Path, tell: Tell, tmp_path: Path) -> None:
    record = record_of("train")
    other = record.adding("metrics", r2_score=record.metrics["r2_score"] + 0.25)
    code, out, err = tell(
        "reproduce", as_notebook(tmp_path / "a.ipynb", other.to_json()), "--in-process"
    )
    assert (code, "1 of " in err, "are not the same" in err) == (1, True, True)
    [line] = [line for line in out.splitlines() if line.startswith("r2_score")]
    assert "by -0.25 (" in line


def test_allowed_data_run_and_the_predictions_that_differ_are_counted(
    there: Path, tell: Tell
) -> None:
    _change_cell(there / TABLE, 15_000)
    code, out, err = tell("reproduce", first("train"), "--allow", "data", "--in-process")
    assert code == 1
    assert (
        "allowed: data: inputs: has other values in 'temp'; 1 row(s) changed (instant 15001)" in out
    )
    assert "results are not the same" in err


# ------------------------------------------------------------------------------------------------- what is refused
def _change_cell(file: Path, row: int) -> None:
    table = pd.read_parquet(file)
    table.loc[row, "temp"] = 0.123 if table.loc[row, "temp"] != 0.123 else 0.124
    table.to_parquet(file, index=False)


def test_one_changed_cell_in_row_15000(there: Path, tell: Tell) -> None:
    _change_cell(there / TABLE, 15_000)
    for verb in ("train", "evaluate"):
        before = len(runs(verb))
        code, _, err = tell("reproduce", first(verb), "--in-process")
        assert code == 3
        assert (
            "  data         inputs: has other values in 'temp'; 1 row(s) changed (instant 15001)\n"
            in err
        )
        assert "targets" not in err
        assert "Nothing was run. --allow data " in err
        assert len(runs(verb)) == before


def test_another_file_with_the_same_rows_is_the_same(there: Path, tell: Tell) -> None:
    pd.read_parquet(TABLE).to_parquet(TABLE, index=False, row_group_size=1_000, compression="gzip")
    assert tell("reproduce", first("train"), "--in-process")[0] == 0


def test_a_file_that_is_gone(there: Path, tell: Tell) -> None:
    (there / TABLE).unlink()
    code, _, err = tell("reproduce", first("train"), "--in-process")
    assert (code, "  data         hours.parquet: no such file" in err) == (3, True)


def test_a_run_that_does_not_exist(there: Path, tell: Tell) -> None:
    code, _, err = tell("reproduce", "0123456789abcdef0123456789abcdef")
    assert code == 2
    assert "there is no MLflow run '0123456789abcdef0123456789abcdef' in sqlite:///" in err
    code, _, err = tell("reproduce", "outputs/notebooks/absent.ipynb")
    assert (code, "there is no notebook outputs/notebooks/absent.ipynb" in err) == (2, True)


def test_a_store_that_does_not_exist(
    tmp_path: Path, tell: Tell, monkeypatch: pytest.MonkeyPatch
) -> None:
    _go(monkeypatch, tmp_path)
    code, _, err = tell("reproduce", "0123456789abcdef0123456789abcdef")
    assert (code, "there is no MLflow run" in err) == (2, True)
    assert list(tmp_path.iterdir()) == [], "looking for a run must not make a store"
    osvariables.env.cache_clear()


def test_a_run_of_something_else(there: Path, tell: Tell) -> None:
    client = services.MlflowService().client()
    found = client.get_experiment_by_name("model_name")
    assert found is not None
    run_id = client.create_run(found.experiment_id).info.run_id
    code, _, err = tell("reproduce", run_id)
    assert (code, "the record of the run" in err, "is not there" in err) == (2, True, True)
    client.delete_run(run_id)
    code, _, err = tell("reproduce", run_id)
    assert (code, f"mlflow runs restore --run-id {run_id}" in err) == (2, True)


def test_a_record_of_a_newer_version(there: Path, tell: Tell, tmp_path: Path) -> None:
    newer = json.dumps(
        json.loads(record_of("train").to_json()) | {"schema_version": 3, "version": "9.9"}
    )
    code, _, err = tell("reproduce", as_notebook(tmp_path / "newer.ipynb", newer))
    assert (code, "is a record of version 3" in err, "9.9" in err) == (2, True, True)


def _artifact(run_id: str, name: str) -> Path:
    uri = services.MlflowService().client().get_run(run_id).info.artifact_uri
    return Path(str(uri).removeprefix("file://")) / name


@pytest.mark.parametrize("name", ["figures/timeline.png", "training/seen_rows.npz"])
def test_an_artifact_that_was_edited(name: str, there: Path, tell: Tell) -> None:
    file = _artifact(first("train"), name)
    content = file.read_bytes()
    file.write_bytes(content[:-1])
    try:
        code, _, err = tell("reproduce", first("train"), "--in-process")
    finally:
        file.write_bytes(content)
    assert (code, f"  artifacts    {name} of the run {first('train')} was edited\n" in err) == (
        3,
        True,
    )


def test_a_model_that_was_edited_since_its_training(there: Path, tell: Tell) -> None:
    file = _model_file(there)
    content = file.read_bytes()
    file.write_bytes(content + b" ")
    try:
        for verb in ("train", "evaluate"):
            code, _, err = tell("reproduce", first(verb), "--in-process")
            assert (code, "artifacts    model/data/model/pipeline.skops of the run " in err) == (
                3,
                True,
            ), verb
    finally:
        file.write_bytes(content)


def _model_file(there: Path) -> Path:
    """Return the model of version 1: reproductions have made others."""
    return min(there.rglob("pipeline.skops"), key=lambda path: path.stat().st_mtime_ns)


def test_a_record_that_was_edited(there: Path, tell: Tell) -> None:
    file = _artifact(first("train"), "provenance.json")
    content = file.read_text()
    record = json.loads(content)
    forged = provenance.read_record(content, "it").adding("metrics", r2_score=1.0).to_json()
    try:
        file.write_text(json.dumps(record | {"metrics": {"r2_score": 1.0}}))
        code, _, err = tell(
            "reproduce",
            first("train"),
            "--in-process",
            "--allow",
            "artifacts,data,code,environment",
        )
        assert (code, "was edited since it was written" in err) == (3, True)
        file.write_text(forged)
        code, _, err = tell("reproduce", first("train"), "--in-process")
        assert (code, "is not the one that the run has kept" in err) == (3, True)
    finally:
        file.write_text(content)


def test_a_module_a_version_and_a_commit_that_are_others(
    there: Path, tell: Tell, tmp_path: Path
) -> None:
    record = record_of("train")
    other = record.adding("modules", **{"core/models.py": "0" * 64}).adding(
        "distributions", numpy="0.1"
    )
    other = other.model_copy(
        update={"git": gitstates.GitState(commit="f" * 40, branch="work", dirty=False)}
    )
    code, _, err = tell(
        "reproduce", as_notebook(tmp_path / "a.ipynb", other.to_json()), "--in-process"
    )
    told = [line.strip() for line in err.splitlines() if line.startswith("  ")]
    assert code == 3
    assert told == [
        "code         model_name/core/models.py changed",
        "code         the commit ffffffffffff of the record is not in this clone: git fetch may bring it",
        f"environment  numpy 0.1, and here {np.__version__}",
    ]
    assert "--allow code,environment " in err


def test_another_commit_with_the_same_code_is_a_note(
    there: Path, tell: Tell, tmp_path: Path
) -> None:
    other = record_of("train").model_copy(update={"git": gitstates.GitState(commit="f" * 40)})
    code, out, _ = tell(
        "reproduce", as_notebook(tmp_path / "a.ipynb", other.to_json()), "--in-process"
    )
    assert (code, "note: another commit (ffffffffffff then, " in out) == (0, True)


def test_a_stream_cannot_be_repeated(there: Path, tell: Tell, tmp_path: Path) -> None:
    stream = provenance.begin(
        {"job": {"KIND": "KafkaInferenceJob", "mlflow_service": {}}}, verb="stream"
    )
    code, _, err = tell("reproduce", as_notebook(tmp_path / "a.ipynb", stream.to_json()))
    assert (
        code,
        "a run of stream cannot be reproduced: a stream is scored as records arrive" in err,
    ) == (2, True)


def test_a_secret_that_the_record_hides(there: Path, tell: Tell, tmp_path: Path) -> None:
    record = record_of("train")
    job = {
        **record.configuration["job"],
        "run_config": {"name": "Training", "tags": {"api_key": "hunter2"}},
    }
    hiding = record.model_copy(update={"configuration": redaction.mask({"job": job})})
    code, _, err = tell("reproduce", as_notebook(tmp_path / "a.ipynb", hiding.to_json()))
    assert (code, "hides a secret" in err, "job.run_config.tags.api_key" in err) == (2, True, True)


def test_what_cannot_be_allowed(tell: Tell) -> None:
    code, _, err = tell("reproduce", "0a1b", "--allow", "dta")
    assert (code, "did you mean 'data'?" in err) == (2, True)


def test_a_store_that_is_read_only(
    there: Path, tell: Tell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file without the permission is no obstacle for root, so the data base itself refuses what is written."""
    shutil.copy("mlflow.db", tmp_path / "mlflow.db")
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        database.execute(
            "CREATE TRIGGER read_only BEFORE INSERT ON runs BEGIN "
            "SELECT RAISE(ABORT, 'attempt to write a readonly database'); END"
        )
    database.close()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path.as_posix()}/mlflow.db")
    osvariables.env.cache_clear()
    code, _, err = tell("reproduce", first("train"), "--in-process")
    assert code == 1
    assert f"the MLflow store sqlite:///{tmp_path.as_posix()}/mlflow.db does not take a run" in err
    assert "readonly database" in err


def test_the_schema_of_the_record(tell: Tell) -> None:
    import jsonschema

    code, out, _ = tell("schema", "record")
    assert code == 0
    described = json.loads(out)
    jsonschema.Draft202012Validator.check_schema(described)
    jsonschema.validate(json.loads(provenance.begin({"job": {}}).to_json()), described)
    assert [
        name for name, field in described["properties"].items() if "description" not in field
    ] == []


# ---------------------------------------------------------------------------------------------------------- killed
def test_a_run_has_a_record_from_its_start(store: services.MlflowService) -> None:
    begun: list[provenance.Provenance] = []

    def fail(job: promotion.PromotionJob) -> None:
        with job.recording(job.run_config) as recorder:
            begun.append(reproductions.find_record(recorder.run_id, store))
            raise errors.DataError("no hours")

    with (
        promotion.PromotionJob(mlflow_service=store) as job,
        pytest.raises(errors.DataError, match="no hours"),
    ):
        fail(job)
    assert (begun[0].outcome, begun[0].finished) == ("running", None)
    assert begun[0].modules == gitstates.module_hashes()
    ended = reproductions.find_record(str(begun[0].run_id), store)
    assert (ended.outcome, ended.started) == ("failed", begun[0].started)


# ---------------------------------------------------------------------------------------------------------- resume
def test_what_has_not_changed_is_not_run_again(there: Path, tell: Tell) -> None:
    assert (
        tell(*quick("train", "evaluate", "promote"), "--resume")[0] == 0
    )  # from here on, the newest runs are these
    counts = {verb: len(runs(verb)) for verb in ("train", "evaluate", "promote")}
    code, out, _ = tell(*quick("train", "evaluate", "promote"), "--resume")
    assert code == 0
    assert {verb: len(runs(verb)) for verb in counts} == counts
    assert out.count("unchanged since ") == out.count("not run again") == 3


def test_what_follows_a_step_that_runs_runs_too(there: Path, tell: Tell) -> None:
    assert tell(*quick("train", "evaluate"), "--resume")[0] == 0
    code, out, _ = tell(*quick("train", "evaluate"), "-s", "train.model.max_iter=6", "--resume")
    assert (code, "unchanged" in out) == (0, False)
    code, out, _ = tell(*quick("train", "evaluate"), "-s", "evaluate.resamples=6", "--resume")
    assert (code, out.count("unchanged since")) == (0, 1), (
        "training is as it was once, evaluation is not"
    )


def test_changed_data_and_lost_outputs_are_made_again(there: Path, tell: Tell) -> None:
    from_newest = ["-s", "job.alias_or_version=latest", "--resume"]
    assert tell(*quick("infer"), *from_newest)[0] == 0
    assert "unchanged since" in tell(*quick("infer"), *from_newest)[1]
    (there / "outputs" / "predictions.parquet").unlink()
    assert "unchanged since" not in tell(*quick("infer"), *from_newest)[1]
    _change_cell(there / TABLE, 3)
    assert "unchanged since" not in tell(*quick("infer"), *from_newest)[1]


# ------------------------------------------------------------------------------------------------ equal, bit by bit
_PREDICT = """
import sys
from model_name.core import models, schemas
from model_name.io import datasets
from model_name.records import fingerprints
data = datasets.SimulatedReader(rows=2_000).read()
inputs, targets = schemas.InputsSchema.check(data), schemas.TargetsSchema.check(data)
model = getattr(models, sys.argv[1])(**{sys.argv[2]: 20}).fit(inputs.head(1_500), targets.head(1_500))
print(fingerprints.fingerprint(model.predict(inputs.tail(500))))
"""


@pytest.mark.parametrize(
    ("kind", "size"),
    [("BaselineSklearnModel", "n_estimators"), ("GradientBoostingModel", "max_iter")],
)
def test_two_processes_predict_the_same_bits(kind: str, size: str, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONHASHSEED"}
    command = [sys.executable, "-c", _PREDICT, kind, size]
    both = [
        subprocess.run(
            command, check=True, capture_output=True, text=True, env=environment, cwd=tmp_path
        ).stdout
        for _ in range(2)
    ]
    assert both[0] == both[1]
    assert len(both[0].strip()) == 64
