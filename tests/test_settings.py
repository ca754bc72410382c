"""What a configuration may say: the shared data section, strictness, and a schema that explains every field."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pydantic as pdt
import pytest

from model_name import jobs, settings
from model_name.io import datasets

CSV = {"KIND": "CsvReader", "path": "bikes.csv"}
OTHER = {"KIND": "ParquetReader", "path": "bikes.parquet"}


def validate(**given: Any) -> settings.MainSettings:
    """Validate as the command line does: from JSON."""
    return settings.MainSettings.model_validate_json(json.dumps(given))


def faults(**given: Any) -> dict[str, str]:
    """Return what is wrong, by place."""
    with pytest.raises(pdt.ValidationError) as caught:
        validate(**given)
    return {".".join(map(str, fault["loc"])): fault["msg"] for fault in caught.value.errors()}


# ---------------------------------------------------------------------------------------------- where the data are
def test_one_table_for_every_job_that_reads() -> None:
    for verb, job in settings.verbs().items():
        made = validate(data={"table": CSV}, job={"KIND": job.model_fields["KIND"].default}).job
        for side in {"inputs", "targets"} & set(job.model_fields):
            assert getattr(made, side) == datasets.CsvReader(path="bikes.csv"), (verb, side)


def test_inputs_and_targets_apart() -> None:
    made: Any = validate(data={"inputs": CSV, "targets": OTHER}, job={"KIND": "TrainingJob"}).job
    assert (made.inputs.KIND, made.targets.KIND) == ("CsvReader", "ParquetReader")
    only: Any = validate(data={"inputs": CSV}, job={"KIND": "TrainingJob"}).job
    assert (only.inputs.KIND, only.targets.KIND) == ("CsvReader", "SimulatedReader")
    assert (
        validate(data={"inputs": CSV}, job={"KIND": "InferenceJob"}).job.inputs.KIND == "CsvReader"
    )


def test_what_a_job_says_itself_wins() -> None:
    made: Any = validate(data={"table": CSV}, job={"KIND": "TrainingJob", "targets": OTHER}).job
    assert (made.inputs.KIND, made.targets.KIND) == ("CsvReader", "ParquetReader")


def test_a_job_that_reads_nothing_takes_no_harm() -> None:
    assert validate(data={"table": CSV}, job={"KIND": "PromotionJob"}).job.KIND == "PromotionJob"


def test_the_same_data_from_python_objects() -> None:
    made = settings.MainSettings.model_validate(
        {"data": {"table": CSV}, "job": {"KIND": "TrainingJob"}}
    )
    assert made == validate(data={"table": CSV}, job={"KIND": "TrainingJob"})
    again = settings.MainSettings.model_validate_json(made.model_dump_json())
    assert again == made, "what the executor hands over is what was checked"


def test_a_table_and_inputs_contradict_each_other() -> None:
    found = faults(data={"table": CSV, "inputs": CSV}, job={"KIND": "TrainingJob"})
    assert found == {"data": "Value error, give either table, or inputs and targets"}


def test_wrong_data_are_told_once_and_where_they_are_named() -> None:
    found = faults(data={"table": {"KIND": "CsvReader", "pat": "x"}}, job={"KIND": "TrainingJob"})
    assert set(found) == {"data.table.CsvReader.path", "data.table.CsvReader.pat"}


# ---------------------------------------------------------------------------------------------------- strictness
def test_a_configuration_needs_a_job_that_exists() -> None:
    assert faults() == {"job": "Field required"}
    assert "TrainnigJob" in faults(job={"KIND": "TrainnigJob"})["job"]
    assert "discriminator" in faults(job={})["job"]
    assert set(faults(job=3)) == {"job"}


def test_all_faults_at_once() -> None:
    found = faults(
        data={"tabel": CSV},
        job={
            "KIND": "TrainingJob",
            "model": {"KIND": "BaselineSklearnModel", "max_depth": "deep"},
            "splitter": {"KIND": "TrainTestSplitter", "shufle": True},
            "mlflow_service": {"tracking_uri": 5},
        },
    )
    assert set(found) == {
        "data.tabel",
        "job.TrainingJob.model.BaselineSklearnModel.max_depth",
        "job.TrainingJob.splitter.TrainTestSplitter.shufle",
        "job.TrainingJob.mlflow_service.tracking_uri",
    }


@pytest.mark.parametrize(
    "wrong",
    [
        {"KIND": "TrainingJob", "model": {"KIND": "BaselineSklearnModel", "n_estimators": "200"}},
        {"KIND": "TrainingJob", "model": {"KIND": "BaselineSklearnModel", "n_estimators": 200.5}},
        {"KIND": "PromotionJob", "version": True},
        {"KIND": "InferenceJob", "batch_size": 0},
        {"KIND": "EvaluationsJob", "beat_naive": "no"},
    ],
    ids=lambda wrong: wrong["KIND"],
)
def test_nothing_is_guessed(wrong: dict[str, Any]) -> None:
    assert len(faults(job=wrong)) >= 1


def models(
    kind: type[pdt.BaseModel], met: set[type[pdt.BaseModel]]
) -> Iterator[type[pdt.BaseModel]]:
    """Walk through a configuration class and those of its fields."""
    if kind in met:
        return
    met.add(kind)
    yield kind
    for field in kind.model_fields.values():
        for part in _parts(field.annotation):
            yield from models(part, met)


def _parts(annotation: Any) -> Iterator[type[pdt.BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, pdt.BaseModel):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _parts(argument)


def test_every_part_is_frozen_and_forbids_what_it_does_not_know() -> None:
    met = list(models(settings.MainSettings, set()))
    assert len(met) > 20
    for kind in met:
        assert kind.model_config.get("extra") == "forbid", kind
        is_model = kind.__module__.endswith(
            "core.models"
        )  # models are fitted, so they are not frozen
        assert kind.model_config.get("frozen", False) is not is_model, kind
        assert kind.model_config.get("strict") is True, kind


# ---------------------------------------------------------------------------------------------------- the schema
def test_the_json_schema_is_one_and_explains_every_field() -> None:
    schema = settings.MainSettings.model_json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert len(schema["$defs"]) > 20
    for name, definition in [("MainSettings", schema), *schema["$defs"].items()]:
        for field, its in definition.get("properties", {}).items():
            if field != "KIND":
                assert len(its.get("description", "")) > 3, f"{name}.{field}"
        assert definition["additionalProperties"] is False, name
        assert definition.get("description"), name


@pytest.mark.parametrize("verb", sorted(settings.verbs()))
def test_an_editor_and_the_command_line_agree(verb: str) -> None:
    """What validates here validates by the JSON schema, and what the schema refuses is refused here."""
    checker = jsonschema.Draft202012Validator(settings.MainSettings.model_json_schema())
    kind = settings.verbs()[verb].model_fields["KIND"].default
    dumped = json.loads(validate(data={"table": CSV}, job={"KIND": kind}).model_dump_json())
    assert list(checker.iter_errors(dumped)) == []
    wrong = {"job": {"KIND": kind, "no_such_key": 1}}
    assert not checker.is_valid(wrong)
    assert list(faults(**wrong)) == [f"job.{kind}.no_such_key"]


def test_verbs_and_kinds_name_the_same_jobs() -> None:
    assert list(settings.verbs().values()) == list(settings.kinds().values())
    assert {"train", "evaluate", "promote", "infer"} <= set(settings.verbs())
    assert settings.kinds()["TrainingJob"] is jobs.TrainingJob


# ------------------------------------------------------------------------------------------- what can be known before
DAY, WEEK = ({"KIND": "TrainTestSplitter", "test_size": size} for size in (24, 168))
SEARCH: dict[str, Any] = {"KIND": "TuningJob", "model": {"KIND": "GradientBoostingModel"}}
TRAIN: dict[str, Any] = {
    "KIND": "TrainingJob",
    "model": {"KIND": "GradientBoostingModel"},
    "tuned": "latest",
}
EVALUATE: dict[str, Any] = {"KIND": "EvaluationsJob"}
INFER: dict[str, Any] = {"KIND": "InferenceJob"}
SIMULATED = {"KIND": "SimulatedReader", "rows": 1_000}


def foreseen(*given: dict[str, Any]) -> list[str]:
    made = [
        settings.MainSettings.model_validate_json(json.dumps({"job": job})).job for job in given
    ]
    return settings.known_faults([(job.VERB, job) for job in made])


@pytest.mark.parametrize(
    ("holdout", "splitter", "seen"),
    [
        (WEEK, WEEK, 0),
        (WEEK, DAY, 0),
        (DAY, WEEK, 144),
        (None, DAY, 24),
        (WEEK, {"KIND": "TimeSeriesSplitter", "test_size": 168, "n_splits": 3}, 0),
        (DAY, {"KIND": "TimeSeriesSplitter", "test_size": 168, "n_splits": 3}, 144),
        (WEEK, {"KIND": "TrainTestSplitter", "test_size": 0.1}, 0),  # of a table of 1,000 rows
        (WEEK, {"KIND": "TrainTestSplitter", "test_size": 0.2}, 32),
        (WEEK | {"shuffle": True}, WEEK | {"shuffle": True}, 0),
    ],
)
def test_a_search_that_would_look_at_the_test_is_refused_before(
    holdout: Any, splitter: Any, seen: int
) -> None:
    tables = {"inputs": SIMULATED, "targets": SIMULATED}
    found = foreseen(
        SEARCH | tables | {"holdout": holdout}, TRAIN | tables | {"splitter": splitter}
    )
    if seen:
        [fault] = found
        assert fault.startswith(
            f"the search would choose parameters by {seen} of the test rows of train"
        )
        assert fault.endswith("make tune.holdout the same as train.splitter")
    else:
        assert found == []


def test_a_share_of_a_file_is_judged_by_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "hours.parquet"
    datasets.SimulatedReader(rows=1_000).read().to_parquet(path)
    tables = {side: {"KIND": "ParquetReader", "path": str(path)} for side in ("inputs", "targets")}
    share = {"KIND": "TrainTestSplitter", "test_size": 0.2}
    assert (
        "by 32 of the test rows"
        in foreseen(SEARCH | tables | {"holdout": WEEK}, TRAIN | tables | {"splitter": share})[0]
    )


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            [SEARCH, TRAIN | {"model": {"KIND": "BaselineSklearnModel"}}],
            "tune the model that is trained",
        ),
        (
            [SEARCH | {"mlflow_service": {"experiment_name": "mine"}}, TRAIN],
            "records in the experiment 'mine'",
        ),
        ([EVALUATE | {"rows": "all"}, {"KIND": "PromotionJob"}], "leave evaluate.rows at unseen"),
        (
            [TRAIN | {"metrics": [{"KIND": "SklearnMetric", "name": "accuracy_score"}]}],
            "train.metrics: the metric 'accuracy_score' cannot be computed here",
        ),
        (
            [SEARCH | {"metric": {"KIND": "SklearnMetric", "name": "f1_score"}}],
            "tune.metric: the metric 'f1_score'",
        ),
        (
            [TRAIN | {"saver": {"KIND": "BuiltinSaver", "flavor": "sklern"}}],
            "train.saver.flavor: MLflow has no flavor",
        ),
        (
            [TRAIN | {"inputs": {"KIND": "CsvReader", "path": "no.csv"}}],
            "train.targets: comes from the simulator",
        ),
        (
            [
                EVALUATE
                | {
                    "metrics": [
                        {"KIND": "SklearnMetric", "name": "r2_score", "greater_is_better": False}
                    ]
                }
            ],
            "evaluate.thresholds.r2_score: greater_is_better is True",
        ),
        (
            [INFER | {"outputs": {"KIND": "ParquetWriter", "path": "."}}],
            "is a folder; name a file in it",
        ),
        (
            [INFER | {"outputs": {"KIND": "CsvWriter", "path": __file__ + "/x.csv"}}],
            f"{__file__} is a file",
        ),
        (
            [{"KIND": "ExplanationsJob", "report": "outputs/shap_values.parquet"}],
            "explain.report: .*shap_values.parquet is what shap_values names, too",
        ),
    ],
)
def test_what_fails_later_is_known_before(given: list[dict[str, Any]], told: str) -> None:
    assert [fault for fault in foreseen(*given) if re.search(told, fault)], foreseen(*given)


def test_files_have_to_be_there_unless_an_earlier_job_writes_them(tmp_path: Path) -> None:
    file = str(tmp_path / "made.parquet")
    later = EVALUATE | {
        side: {"KIND": "ParquetReader", "path": file} for side in ("inputs", "targets")
    }
    assert foreseen(later) == [
        f"evaluate.inputs, evaluate.targets: {file}: no such file (files in its folder: none)"
    ]
    assert foreseen(INFER | {"outputs": {"KIND": "ParquetWriter", "path": file}}, later) == []


def test_the_configurations_of_the_project_have_no_known_fault() -> None:
    kinds = [job.__name__ for job in settings.verbs().values()]
    assert foreseen(*({"KIND": kind} for kind in kinds)) == []


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"KIND": "InferenceJob", "outputs": {"KIND": "CsvWriter", "path": "/etc/cron.d/job"}}, "place of the system"),
        ({"KIND": "InferenceJob", "outputs": {"KIND": "CsvWriter", "path": "file:///etc/job"}}, "place of the system"),
        ({"KIND": "InferenceJob", "outputs": {"KIND": "CsvWriter", "path": ".git/hooks/pre-commit"}}, "other programs"),
        ({"KIND": "TrainingJob", "logger_service": {"sink": "/usr/bin/log"}}, "logger_service.sink: /usr/bin/log"),
        ({"KIND": "KafkaInferenceJob", "input_topic": "../../x"}, "input_topic: '../../x' cannot be"),
        ({"KIND": "KafkaInferenceJob", "dead_letter_topic": "a b"}, "name of a topic"),
    ],
)  # fmt: skip
def test_names_and_places_are_known_before(given: dict[str, Any], told: str) -> None:
    found = foreseen(given)
    assert any(told in line for line in found), found


def test_a_link_to_a_place_of_the_system_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("outputs").symlink_to("/etc")
    job = {"KIND": "InferenceJob", "outputs": {"KIND": "CsvWriter", "path": "outputs/hosts.csv"}}
    assert any("place of the system" in line for line in foreseen(job))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("registry_name", "../../x"), ("registry_name", "a:b"), ("experiment_name", "a\nb"),
        ("experiment_name", " "),
    ],
)  # fmt: skip
def test_names_in_mlflow_are_checked(name: str, value: str) -> None:
    with pytest.raises(pdt.ValidationError, match="cannot be the name|is empty"):
        validate(job={"KIND": "TrainingJob", "mlflow_service": {name: value}})
