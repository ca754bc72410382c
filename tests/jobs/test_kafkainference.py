"""Streaming on the broker inside the process: the same answers as a batch job, bad records, bad settings, versions."""

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pydantic as pdt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_name.core import errors, schemas
from model_name.io import datasets, modelfiles, registries, services
from model_name.jobs import inference, kafkainference
from model_name.streaming import codecs, deadletters, loops, scorers, telemetry
from tests.conftest import add_version, decide


@pytest.fixture
def job(trained: services.MlflowService) -> Callable[..., kafkainference.KafkaInferenceJob]:
    def make(**settings: Any) -> kafkainference.KafkaInferenceJob:
        defaults: dict[str, Any] = {
            "inputs": datasets.SimulatedReader(rows=300),
            "feed_rate": None,
            "alias_or_version": "latest",
            "mlflow_service": trained,
            "logger_service": services.LoggerService(level="ERROR"),
        }
        return kafkainference.KafkaInferenceJob(**(defaults | settings))

    return make


def run(job: kafkainference.KafkaInferenceJob) -> kafkainference.KafkaInferenceResult:
    with job:
        return job.run()


def answers(job: kafkainference.KafkaInferenceJob, topic: str, count: int) -> list[Any]:
    consumer = job.kafka_service.consumer(
        {"group.id": f"readers-{topic}", "auto.offset.reset": "earliest"}
    )
    consumer.subscribe([topic])
    found: list[Any] = []
    deadline = time.monotonic() + 120
    while len(found) < count and time.monotonic() < deadline:
        found += [message for message in consumer.consume(1_000, 0.2) if message.error() is None]
    consumer.close()
    assert len(found) == count
    return found


def test_the_same_answers_as_a_batch_job(job: Any, tmp_path: Path) -> None:
    """One file through both ways, gaps included: the same predictions, to the last bit."""
    table = datasets.SimulatedReader(rows=400, missing=0.2).read()
    assert table[["temp", "hum", "weathersit"]].isna().any().all()
    table.to_parquet(tmp_path / "inputs.parquet", index=False)
    reader = datasets.ParquetReader(path=str(tmp_path / "inputs.parquet"))
    streaming = job(inputs=reader, batch_size=90)
    batch = inference.InferenceJob(
        inputs=reader,
        outputs=datasets.ParquetWriter(path=str(tmp_path / "outputs.parquet")),
        alias_or_version="latest",
        mlflow_service=streaming.mlflow_service,
        logger_service=streaming.logger_service,
    )
    with batch:
        batch.run()
    with streaming:
        result = streaming.run()
        streamed = answers(streaming, "predictions", 400)
    expected = pd.read_parquet(tmp_path / "outputs.parquet").set_index("instant").sort_index()
    records = (
        pd.DataFrame([json.loads(message.value()) for message in streamed])
        .set_index("instant")
        .sort_index()
    )
    assert result.records == len(records) == 400
    assert records["prediction"].tolist() == expected["prediction"].tolist()
    assert (records["model_version"] == expected["model_version"]).all()
    assert {message.key() for message in streamed} == {
        str(label).encode() for label in expected.index
    }
    assert (result.delivery, result.ended) == ("at_least_once", "400 records are done")


def test_more_records_than_the_broker_in_the_process_keeps(job: Any) -> None:
    """It forgets the oldest beyond five megabytes a partition; the feed waits for the job instead."""
    result = run(job(inputs=datasets.SimulatedReader(rows=100_000), stall_time=15.0))
    assert (result.records, result.dead_letters) == (100_000, 0)


# ------------------------------------------------------------------------------------------------------- the scorer
ROWS = codecs.JsonEncoder().encode(
    schemas.InputsSchema.check(datasets.SimulatedReader(rows=50).read())
)


def humidity(inputs: pd.DataFrame) -> pd.DataFrame:
    return schemas.OutputsSchema.check(
        pd.DataFrame({"prediction": inputs["hum"]}, index=inputs.index)
    )


def scorer(predict: Callable[[pd.DataFrame], pd.DataFrame] = humidity) -> scorers.Scorer:
    served = scorers.LoadedVersion("bikes", 3, predict)
    return scorers.Scorer(lambda: served, codecs.JsonDecoder(), codecs.JsonEncoder(), 1_000)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"{", "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (ROWS[0].replace(b"2011-01-01T00:00:00", b"\\ud83d"), "lone surrogate"),
        (ROWS[0].replace(b'"hr": 0', b'"hr": true'), "hr: True is not a whole number"),
        (
            ROWS[0].replace(b'"temp": 0.', b'"temp": true, "other": 0.'),
            "temp: True is not a finite number",
        ),
        (
            ROWS[0].replace(b'"season": 1', b'"season": true'),
            "season: True is not one of 1, 2, 3, 4",
        ),
        (
            ROWS[0].replace(b'"instant": 1', b'"instant": true'),
            "instant: True is not a whole number",
        ),
        (
            ROWS[0].replace(b'"temp": 0.', b'"temp": 1e999, "other": 0.'),
            "temp: inf is not a finite number",
        ),
        (ROWS[0].replace(b'"hr": 0', b'"hr": ' + b"9" * 400), "hr: 9+... is not a whole number"),
        (
            ROWS[0].replace(b'"hr": 0', b'"hr": ' + b"[" * 200 + b"]" * 200),
            r"hr: \[+... is not a whole number",
        ),
        (b"[1]", "not a JSON object but a list"),
        (None, r"no value \(null\)"),
        (ROWS[0].replace(b'"temp"', b'"tmp"'), "field 'temp' is missing; did you mean"),
        (ROWS[0].replace(b'"hr": 0', b'"hr": "noon"'), "hr: 'noon' is not a whole number"),
        (ROWS[0].replace(b'"hr": 0', b'"hr": null'), "hr: a value is missing"),
        (ROWS[0].replace(b'"hr": 0', b'"hr": [1, 2]'), r"hr: \[1, 2\] is not a whole number"),
        (
            ROWS[0].replace(b'"hr": 0', b'"hr": 24'),
            "hr: 24 is above the greatest allowed value, 23",
        ),
        (ROWS[0].replace(b'"season": 1', b'"season": 5'), "season: 5 is not one of 1, 2, 3, 4"),
        (
            ROWS[0].replace(b'"instant": 1', b'"instant": [1]'),
            r"instant: \[1\] is not a whole number",
        ),
        (ROWS[0] + b" " * 1_000, "too large: 1,2.. bytes, and at most 1,000"),
    ],
)
def test_poison_is_refused_with_the_reason_and_the_others_are_scored(
    value: bytes | None, reason: str
) -> None:
    for place in (0, 7, 49):
        values: list[bytes | None] = [*ROWS]
        values[place] = value
        found = scorer()(values)
        refused = {
            number: answer
            for number, answer in enumerate(found)
            if isinstance(answer, deadletters.Rejected)
        }
        assert list(refused) == [place]
        assert re.search(reason, refused[place].reason), refused[place].reason
        assert [found[n] for n in range(50) if n != place] == [
            a for n, a in enumerate(scorer()([*ROWS])) if n != place
        ]


def spoil(row: bytes, cuts: list[tuple[int, int, bytes]]) -> bytes:
    """Put other bytes in the place of some."""
    for start, length, others in cuts:
        row = row[: start % (len(row) + 1)] + others + row[start % (len(row) + 1) + length :]
    return row


TOKENS = [
    b"NaN", b"Infinity", b"true", b"null", b'"\\ud83d"', b"\xff", b"\xef\xbb\xbf", b"\0", b"9" * 500, b"1e999",
    b"-0.0", b"{}", b"[[[[", b'"hr": 1,', b'"instant": "1",', b"\xed\xa0\x80", b"18446744073709551616", b'"\\u0000"',
    b"1e-400", b"\\",
]  # fmt: skip
CUTS = st.lists(
    st.tuples(
        st.integers(0, 300), st.integers(0, 12), st.sampled_from(TOKENS) | st.binary(max_size=6)
    ),
    max_size=3,
)
FIELDS = st.sampled_from([*json.loads(ROWS[0]), "other"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
RECORDS = (
    st.none()
    | st.binary(max_size=60)
    | st.builds(spoil, st.sampled_from(ROWS), CUTS)
    | st.builds(
        lambda row, changes: json.dumps(json.loads(row) | changes, ensure_ascii=True).encode(),
        st.sampled_from(ROWS),
        st.dictionaries(FIELDS, JSON, max_size=3),
    )
)


@settings(max_examples=50, deadline=None)
@given(st.lists(RECORDS, min_size=1, max_size=6), st.integers(0, 6))
def test_whatever_its_bytes_are_a_record_ends_as_a_prediction_or_a_dead_letter(
    values: list[bytes | None], place: int
) -> None:
    """And it is answered as if it were alone, and holds up no good one."""
    batch = [*values[:place], ROWS[9], *values[place:]]
    found = scorer()(batch)
    place = min(place, len(values))
    assert found[place] == scorer()([ROWS[9]])[0]
    for value, answer in zip(batch, found, strict=True):
        alone = scorer()([value])[0]
        if isinstance(answer, bytes):
            assert (
                math.isfinite(json.loads(answer)["prediction"])
                or json.loads(answer)["prediction"] is None
            )
            assert answer == alone
        else:
            assert answer.reason
            assert isinstance(alone, deadletters.Rejected)


def test_values_that_cannot_even_be_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the schema stumbles over, the record that it stumbles over is told apart."""
    split_valid = schemas.InputsSchema.split_valid

    def stumble(table: pd.DataFrame) -> Any:
        if (table["hr"] == 5).any():
            raise RecursionError("too deep")
        return split_valid(table)

    monkeypatch.setattr(schemas.InputsSchema, "split_valid", stumble)
    found = scorer()([*ROWS])
    refused = {
        number: answer
        for number, answer in enumerate(found)
        if isinstance(answer, deadletters.Rejected)
    }
    assert list(refused) == [
        number for number, row in enumerate(ROWS) if json.loads(row)["hr"] == 5
    ]
    assert {answer.reason for answer in refused.values()} == {
        "it cannot be checked (RecursionError: too deep)"
    }


@pytest.mark.parametrize("column", ["hr", "temp", "season"])
def test_a_boolean_is_no_number_in_a_batch_either(column: str, tmp_path: Path) -> None:
    """A table with a column of booleans in the place of numbers is refused, as each of its records is."""
    table = datasets.SimulatedReader(rows=3).read()
    table[column] = [True, False, True]
    table.to_parquet(tmp_path / "booleans.parquet", index=False)
    with pytest.raises(errors.DataError, match=f"{column}: True is not"):
        schemas.InputsSchema.check(
            datasets.ParquetReader(path=str(tmp_path / "booleans.parquet")).read()
        )


def test_a_label_may_come_twice() -> None:
    found = scorer()([ROWS[0], ROWS[1], ROWS[0], ROWS[0]])
    assert found[0] == found[2] == found[3] != found[1]
    assert all(isinstance(answer, bytes) for answer in found)


def test_rows_that_the_model_fails_for() -> None:
    def picky(inputs: pd.DataFrame) -> pd.DataFrame:
        if (inputs["hr"] == 5).any():
            raise ValueError("five is too early")
        return humidity(inputs)

    found = scorer(picky)([*ROWS])
    refused = [
        number for number, answer in enumerate(found) if isinstance(answer, deadletters.Rejected)
    ]
    assert refused == [number for number, row in enumerate(ROWS) if json.loads(row)["hr"] == 5]

    def broken(inputs: pd.DataFrame) -> pd.DataFrame:
        raise ValueError("no")

    with pytest.raises(errors.ModelError, match="version 3 of 'bikes' does not answer: no"):
        scorer(broken)([*ROWS])


# ------------------------------------------------------------------------------------------------------- settings
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"output_topic": "inputs"}, "have to be three topics"),
        ({"dead_letter_topic": "predictions"}, "have to be three topics"),
        ({"kafka_config": {"enable.auto.commit": True}}, "cannot set enable.auto.commit"),
        ({"kafka_config": {"producer.transactional.id": "x"}}, "cannot set transactional.id"),
        ({"kafka_config": {"sasl.password": "x"}}, "secrets come from the environment"),
        ({"delivery": "exactly_once"}, "has no transactions"),
        ({"metrics_address": "9464"}, "pattern"),
        ({"batch_size": 0}, "greater than or equal to 1"),
    ],
)
def test_settings_that_cannot_be_meant(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(pdt.ValidationError, match=message):
        kafkainference.KafkaInferenceJob(**settings)


def test_an_unknown_setting_of_librdkafka(job: Any) -> None:
    with pytest.raises(errors.ConfigError, match='No such configuration property: "linger.mss"'):
        run(job(kafka_config={"linger.mss": 5}))


def test_an_unreachable_broker_is_named_within_seconds(job: Any) -> None:
    begun = time.monotonic()
    service = services.KafkaService(bootstrap_servers="127.0.0.1:9", timeout=2.0)
    with pytest.raises(errors.ServiceError, match="Kafka cluster at 127.0.0.1:9 cannot be used"):
        run(job(kafka_service=service))
    assert time.monotonic() - begun < 55, "librdkafka itself would take a minute"


def test_an_alias_that_does_not_exist(job: Any) -> None:
    with pytest.raises(errors.RegistryError, match="no version or alias 'Champion'"):
        run(job(alias_or_version="Champion"))


def test_a_signature_that_does_not_match(job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.types import ColSpec, Schema

    load = registries.CustomLoader.load

    def load_another(self: Any, uri: str) -> registries.ModelAdapter:
        adapter = load(self, uri)
        signature = adapter.model.metadata.signature
        signature.inputs = Schema([*signature.inputs.inputs, ColSpec("double", "wind_gust")])
        return adapter

    monkeypatch.setattr(registries.CustomLoader, "load", load_another)
    with pytest.raises(
        errors.ModelError, match=r"signature does not match InputsSchema: .*wind_gust"
    ):
        run(job())


def test_too_many_dead_letters(job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    records = [(b"k", b"{")] * 30 + [(b"k", ROWS[0])] * 100
    monkeypatch.setattr(kafkainference, "_rows_as_records", lambda *_: records)
    with pytest.raises(
        errors.DataError, match="30 of the last 130 records have no answer, and at most 10.0% may"
    ):
        run(job(batch_size=130, batch_wait=1.0))


# ------------------------------------------------------------------------------------------------------- versions
def test_a_version_that_nobody_decided_on_is_refused_with_an_alert(
    trained: services.MlflowService,
) -> None:
    from loguru import logger

    trained.start()
    client = trained.client()
    decide(trained, 1)
    alerts: list[tuple[str, str]] = []
    watcher = scorers.ModelWatcher(
        client,
        "model_name",
        "Champion",
        registries.CustomLoader(),
        lambda *words: alerts.append(words),
    )
    broken = client.create_model_version("model_name", "file:///nowhere/at/all")
    client.set_registered_model_alias("model_name", "Champion", broken.version)
    watcher.look(logger)
    watcher.look(logger)
    assert watcher.current.version == 1
    assert len(alerts) == 1, "said once"
    assert f"Champion was moved to version {broken.version} without a decision" in alerts[0][1]
    assert "version 1 continues" in alerts[0][1]
    good = add_version(trained)
    client.set_registered_model_alias("model_name", "Champion", str(good))
    watcher.look(logger)
    assert watcher.current.version == 1, "nobody has decided on it"
    client.set_registered_model_alias("model_name", "Champion", "1")
    decide(trained, good)
    watcher.look(logger)
    assert watcher.versions == [1, good]
    decide(trained, 1)
    watcher.look(logger)
    client.set_registered_model_alias("model_name", "Champion", str(good))
    with pytest.raises(errors.GateError, match="the stream does not start: Champion was moved"):
        scorers.ModelWatcher(client, "model_name", "Champion", registries.CustomLoader(), print)
    assert watcher.versions == [1, good, 1]


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ("model.sig", "is not signed (there is no file model.sig)"),
        ("MLmodel", "the files of version 2 are not those of the decision"),
    ],
)
def test_a_decided_version_that_is_unsigned_or_altered_is_not_taken(
    file: str, reason: str, trained: services.MlflowService, tmp_path: Path
) -> None:
    """The decision is good; what is there now is not what it was about, or nobody answers for it."""
    from loguru import logger

    decide(trained, 1)
    client, alerts = trained.client(), []
    watcher = scorers.ModelWatcher(
        client, "model_name", "Champion", registries.CustomLoader(), lambda *words: alerts.append(words)
    )  # fmt: skip
    with modelfiles.fetch("models:/model_name/1") as fetched:
        copy = shutil.copytree(Path(fetched, "model"), tmp_path / "copy")
    client.create_model_version("model_name", copy.as_uri())
    decide(trained, 2)
    content = (copy / file).read_bytes()
    (copy / file).unlink()
    if file == "MLmodel":
        (copy / file).write_bytes(content + b"\n")
    watcher.look(logger)
    watcher.look(logger)
    assert (watcher.current.version, watcher.versions) == (1, [1])
    [(title, message)] = alerts
    assert title == "Promotion refused"
    assert reason in message
    assert message.endswith("version 1 continues")


# ------------------------------------------------------------------------------------------------------- figures
def test_metrics_are_served_while_records_flow(job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """At any free port, of which the log tells."""
    from loguru import logger

    log: list[str] = []
    seen: list[str] = []

    def scrape(self: Any, batch: Any, count: Any = telemetry.StreamMetrics.delivered) -> None:
        count(self, batch)
        (address,) = re.findall(
            r"Metrics are served at (http://127.0.0.1:[1-9]\d*/metrics)", "".join(log)
        )
        with urllib.request.urlopen(address) as page:
            seen.append(page.read().decode())

    monkeypatch.setattr(telemetry.StreamMetrics, "delivered", scrape)
    with job(metrics_address="127.0.0.1:0") as streaming:
        sink = logger.add(lambda line: log.append(str(line)), level="INFO")
        streaming.run()
        logger.remove(sink)
    assert "model_name_stream_records_in_total 300.0" in seen[-1]
    assert 'model_name_stream_latency_seconds_bucket{le="+Inf"} 300.0' in seen[-1]
    assert "model_name_stream_model_version 1.0" in seen[-1]


def test_the_table_by_time_stays_small() -> None:
    metrics = telemetry.StreamMetrics()
    for _ in range(5_000):
        metrics.delivered(loops.Delivered(10, [], 0.01, np.full(10, 0.02)))
        metrics.tick({0: 3})
    assert len(metrics.timeline.table()) <= 2_000
    assert metrics.metrics()["records"] == 50_000
    assert metrics.metrics()["latency_p99_seconds"] == pytest.approx(0.02, rel=0.11)


# ------------------------------------------------------------------------------------------------------- stopping
@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("ignored", [False, True], ids=["", "SIGINT ignored"])
@pytest.mark.parametrize("words", [(), ("--in-process",)], ids=["notebook", "in process"])
def test_sigterm_ends_a_stream_as_a_success(
    words: tuple[str, ...], ignored: bool, trained: services.MlflowService, tmp_path: Path
) -> None:
    """A scheduler ends it, in its notebook as in a process: exit code 0, a summary, a run that is finished."""
    settings = {"job.alias_or_version": "latest", "job.feed_rate": "50", "job.log_interval": "0.5"}
    command = [
        sys.executable,
        "-m",
        "model_name",
        "run",
        "stream",
        *words,
        "--notebooks",
        str(tmp_path / "notebooks"),
    ]
    for name, value in settings.items():
        command += ["-s", f"{name}={value}"]
    environment = os.environ | {"MLFLOW_TRACKING_URI": str(trained.tracking_uri)}
    environment["MLFLOW_REGISTRY_URI"] = environment["MLFLOW_TRACKING_URI"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    start = (lambda: signal.signal(signal.SIGINT, signal.SIG_IGN) and None) if ignored else None
    with subprocess.Popen(
        command, env=environment, cwd=tmp_path, preexec_fn=start, **pipes
    ) as process:
        log = []
        for line in process.stderr:
            log.append(line)
            if re.search(r"[1-9][\d,]* records \(", line):
                break
        process.send_signal(signal.SIGTERM)
        try:
            printed, rest = process.communicate(timeout=120)
        finally:
            process.kill()
    assert process.returncode == 0, (log, printed, rest)
    assert "asked to stop" in printed
    client = trained.client()
    (experiment,) = client.search_experiments(filter_string="name = 'model_name'")
    last = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time DESC"])[
        0
    ]
    assert (last.info.run_name, last.info.status) == ("Streaming", "FINISHED")
