"""The log, alerts that arrive and alerts that do not, and MLflow stores in every condition."""

import dataclasses
import http.server
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydantic as pdt
import pytest

from model_name.core import errors
from model_name.io import brokers, osvariables, services, stores


@pytest.fixture
def closed_port() -> int:
    """A port at which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port at which somebody listens and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield int(listener.getsockname()[1])


class Receiver(http.server.BaseHTTPRequestHandler):
    """Keeps what it is sent, and answers with the status of its server."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append(json.loads(body))  # type: ignore[attr-defined]
        self.do_GET()

    def do_GET(self) -> None:
        self.send_response(self.server.status)  # type: ignore[attr-defined]
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def receiver() -> Iterator[Any]:
    """A web server."""
    server: Any = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    server.received, server.status = [], 200
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def addresses(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Set the addresses that alerts go to."""

    def put(*values: str) -> None:
        monkeypatch.setenv("ALERTS_ADDRESSES", ",".join(values))
        osvariables.env.cache_clear()

    yield put
    monkeypatch.undo()
    osvariables.env.cache_clear()


# ------------------------------------------------------------------------------------------------------- the log
def test_the_log_goes_to_a_stream_at_a_level(capsys: pytest.CaptureFixture[str]) -> None:
    for sink in ("stderr", "stdout"):
        service = services.LoggerService(sink=sink, level="WARNING", format="{level}|{message}")
        service.start()
        service.logger().info("not this")
        service.logger().warning("{} rows", 3)
    shown = capsys.readouterr()
    assert (shown.err, shown.out) == ("WARNING|3 rows\n", "WARNING|3 rows\n"), (
        "once in each, in spite of two starts"
    )


def test_the_log_goes_to_a_file(tmp_path: Path) -> None:
    service = services.LoggerService(sink=str(tmp_path / "logs" / "job.log"), serialize=True)
    service.start()
    service.logger().info("read")
    services.LoggerService().start()
    record = json.loads((tmp_path / "logs" / "job.log").read_text())
    assert record["record"]["message"] == "read"


def test_a_log_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    sink = str(tmp_path / "file" / "job.log")
    with pytest.raises(
        errors.ServiceError, match="the log cannot be written to .*job.log .*logger_service.sink"
    ):
        services.LoggerService(sink=sink).start()


def test_a_level_that_does_not_exist() -> None:
    with pytest.raises(pdt.ValidationError, match="no level 'WARNIN'; did you mean 'WARNING'"):
        services.LoggerService(level="WARNIN")


# -------------------------------------------------------------------------------------------------------- alerts
def test_alerts_are_printed_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    services.AlertsService(app_name="bikes").notify("Training finished", "version 3")
    assert capsys.readouterr().out == "[bikes] Training finished: version 3\n"


def test_alerts_are_sent(
    addresses: Any, receiver: Any, warned: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    addresses(
        f"json://127.0.0.1:{receiver.server_port}/a", f"json://127.0.0.1:{receiver.server_port}/b"
    )
    service = services.AlertsService(enable=True, app_name="bikes", timeout=10)
    service.start()
    service.notify("Training finished", "version 3")
    sent = [(message["title"], message["message"]) for message in receiver.received]
    assert sent == [("[bikes] Training finished", "version 3")] * 2
    assert (warned, capsys.readouterr().out) == ([], "")


def test_alerts_need_an_address(addresses: Any) -> None:
    addresses("")
    with pytest.raises(errors.ServiceError, match="have no address: set ALERTS_ADDRESSES"):
        services.AlertsService(enable=True).start()
    services.AlertsService(enable=False).start()


@pytest.mark.parametrize("fault", ["closed", "silent", "refusing", "unknown"])
def test_an_alert_that_does_not_arrive_is_a_warning(
    fault: str, addresses: Any, receiver: Any, closed_port: int, silent_port: int, warned: list[str]
) -> None:
    receiver.status = 500
    places = {
        "closed": f"json://127.0.0.1:{closed_port}",
        "silent": f"json://127.0.0.1:{silent_port}",
        "refusing": f"json://127.0.0.1:{receiver.server_port}",
        "unknown": "nobody://knows/this",
    }
    addresses(places[fault])
    services.AlertsService(enable=True, timeout=1).notify("Training finished", "version 3")
    assert warned == ["The alert 'Training finished' could not be delivered to every address."]


def test_one_address_of_two_is_not_understood(
    addresses: Any, receiver: Any, warned: list[str]
) -> None:
    addresses(f"json://127.0.0.1:{receiver.server_port}", "nobody://knows/this")
    services.AlertsService(enable=True).notify("Training finished", "version 3")
    assert (len(receiver.received), len(warned)) == (1, 1)


def test_a_timeout_is_for_alerts_alone(addresses: Any, receiver: Any) -> None:
    addresses(f"json://127.0.0.1:{receiver.server_port}")
    services.AlertsService(enable=True, timeout=1).notify("Training finished", "version 3")
    assert socket.getdefaulttimeout() is None


# ---------------------------------------------------------------------------------------- MLflow: addresses
def test_a_server_that_refuses(closed_port: int) -> None:
    place = f"http://127.0.0.1:{closed_port}"
    with pytest.raises(
        errors.ServiceError, match=rf"{place} cannot be reached \(.*refused.*MLFLOW_TRACKING_URI"
    ):
        services.MlflowService(tracking_uri=place).start()


def test_a_server_that_never_answers(silent_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "_CONNECT_SECONDS", 0.1)
    with pytest.raises(
        errors.ServiceError, match=rf"127.0.0.1:{silent_port} cannot be reached \(.*timed out"
    ):
        services.MlflowService(tracking_uri=f"http://127.0.0.1:{silent_port}").start()


def test_a_database_server_that_refuses(closed_port: int) -> None:
    with pytest.raises(
        errors.ServiceError, match=rf"postgresql://127.0.0.1:{closed_port} cannot be reached"
    ) as caught:
        services.MlflowService(
            tracking_uri=f"postgresql://me:s3cret@127.0.0.1:{closed_port}/mlflow"
        ).start()
    assert "s3cret" not in str(caught.value)


def test_a_registry_that_refuses(store: services.MlflowService, closed_port: int) -> None:
    with pytest.raises(errors.ServiceError, match=f"127.0.0.1:{closed_port} cannot be reached"):
        store.model_copy(update={"registry_uri": f"http://127.0.0.1:{closed_port}"}).start()


def test_a_host_that_does_not_exist_and_a_password() -> None:
    with pytest.raises(
        errors.ServiceError, match="http://no-such-host.invalid cannot be reached"
    ) as caught:
        services.MlflowService(tracking_uri="http://me:s3cret@no-such-host.invalid").start()
    assert "s3cret" not in str(caught.value)


def test_a_proxy_that_was_set_before_is_not_used(
    receiver: Any, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver.status = 404
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed_port}")
    with pytest.raises(errors.ServiceError, match="cannot be reached"):
        services.MlflowService(tracking_uri="http://no-such-host.invalid").start()
    monkeypatch.delenv("http_proxy")
    with pytest.raises(errors.ServiceError, match="MLflow cannot open the experiment"):
        services.MlflowService(
            tracking_uri=f"http://127.0.0.1:{receiver.server_port}", experiment_name="x"
        ).start()


def test_a_web_server_that_is_not_mlflow(receiver: Any) -> None:
    receiver.status = 404
    with pytest.raises(errors.ServiceError, match="MLflow cannot open the experiment 'model_name'"):
        services.MlflowService(
            tracking_uri=f"http://127.0.0.1:{receiver.server_port}", experiment_name="model_name"
        ).start()


@pytest.mark.parametrize("uri", ["./mlruns", "mlruns", "file:///tmp/mlruns"])
def test_folders_are_refused(uri: str) -> None:
    with pytest.raises(
        errors.ServiceError, match=rf"not in the folder '{uri}': use e.g. sqlite:///mlflow.db"
    ):
        services.MlflowService(tracking_uri=uri).start()


@pytest.mark.parametrize("place", ["file/mlflow.db", "file/below/mlflow.db"])
def test_a_store_in_a_place_that_cannot_be(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    service = services.MlflowService(tracking_uri=f"sqlite:///{(tmp_path / place).as_posix()}")
    with pytest.raises(
        errors.ServiceError, match=r"mlflow.db cannot be written \(.*MLFLOW_TRACKING_URI"
    ):
        service.start()


def test_a_store_that_is_not_a_database(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("these are not the tables that you are looking for\n" * 100)
    service = services.MlflowService(tracking_uri=f"sqlite:///{tmp_path.as_posix()}/mlflow.db")
    with pytest.raises(errors.ServiceError, match="file is not a database"):
        service.start()


# ------------------------------------------------------------------------------------------- MLflow: experiments
def test_four_processes_open_a_store_at_once(tmp_path: Path) -> None:
    program = (
        "from model_name.io import services\n"
        f"services.MlflowService(tracking_uri='sqlite:///{tmp_path.as_posix()}/new/mlflow.db').start()"
    )
    running = [
        subprocess.Popen(
            [sys.executable, "-c", program], stderr=subprocess.PIPE, text=True, cwd=tmp_path
        )
        for _ in range(4)
    ]
    ends = [(process.communicate()[1], process.returncode) for process in running]
    assert [code for _, code in ends] == [0] * 4, ends
    client = services.MlflowService(
        tracking_uri=f"sqlite:///{tmp_path.as_posix()}/new/mlflow.db"
    ).client()
    assert [found.name for found in client.search_experiments()].count("model_name") == 1


def test_a_deleted_experiment(store: services.MlflowService) -> None:
    store.start()
    client = store.client()
    number = client.get_experiment_by_name(store.resolved_experiment_name).experiment_id
    client.delete_experiment(number)
    with pytest.raises(
        errors.ServiceError,
        match=f"was deleted: restore it with `mlflow experiments restore -x {number}",
    ):
        store.start()
    client.restore_experiment(number)
    store.start()
    assert client.get_experiment(number).lifecycle_stage == "active"


def test_files_are_kept_beside_the_store(store: services.MlflowService, tmp_path: Path) -> None:
    store.start()
    with store.run_context(store.RunConfig(name="Training")) as run:
        store.client().log_text(run.info.run_id, "hello", "note.txt")
    kept = tmp_path / "store" / "mlartifacts" / run.info.run_id / "artifacts" / "note.txt"
    assert kept.read_text() == "hello"


# --------------------------------------------------------------------------------------------------- MLflow: runs
def test_a_run_says_what_it_was_told(
    store: services.MlflowService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(stores.EXECUTION_VARIABLE, "0a1b")
    store.start()
    config = store.RunConfig(
        name="Training", description="A trial.", tags={"team": "bikes", "try": 3}
    )
    with store.run_context(config) as run:
        pass
    ended = store.client().get_run(run.info.run_id)
    assert (ended.info.run_name, ended.info.status) == ("Training", "FINISHED")
    tags = ended.data.tags
    assert (tags["team"], tags["try"], tags["mlflow.note.content"]) == ("bikes", "3", "A trial.")
    assert tags[stores.EXECUTION_TAG] == "0a1b"


def test_a_run_that_raises_has_failed(store: services.MlflowService) -> None:
    store.start()
    with (
        pytest.raises(ZeroDivisionError),
        store.run_context(store.RunConfig(name="Training")) as run,
    ):
        _ = 1 / 0
    assert store.client().get_run(run.info.run_id).info.status == "FAILED"


def test_where_the_stores_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking")
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "http://registry")
    monkeypatch.setenv("MLFLOW_REGISTERED_MODEL_NAME", "bikes")
    osvariables.env.cache_clear()
    given = services.MlflowService(tracking_uri="sqlite:///mine.db", registry_name="other")
    silent = services.MlflowService()
    found = [(each.resolved_tracking_uri, each.resolved_registry_uri) for each in (silent, given)]
    names = [each.resolved_registry_name for each in (silent, given)]
    osvariables.env.cache_clear()
    assert found == [
        ("http://tracking", "http://registry"),
        ("sqlite:///mine.db", "sqlite:///mine.db"),
    ]
    assert names == ["bikes", "other"]


def test_automatic_logging_when_asked_for(store: services.MlflowService) -> None:
    import mlflow
    from sklearn.linear_model import Ridge

    store.model_copy(update={"autolog_disable": False, "autolog_silent": True}).start()
    try:
        with store.run_context(store.RunConfig(name="Training")) as run:
            Ridge(alpha=3.0).fit([[1.0], [2.0]], [1.0, 2.0])
    finally:
        mlflow.autolog(disable=True)
    assert store.client().get_run(run.info.run_id).data.params["alpha"] == "3.0"


def test_commands_that_create_a_registry_of_its_own_at_the_same_moment(
    empty_store: Path, tmp_path: Path
) -> None:
    code = (
        "import sys; from model_name.io import services\n"
        "service = services.MlflowService(tracking_uri=sys.argv[1], registry_uri=sys.argv[2])\n"
        "service.start(); service.client().create_registered_model(sys.argv[3])"
    )
    tracking, registry = (
        f"sqlite:///{empty_store.as_posix()}/mlflow.db",
        f"sqlite:///{tmp_path.as_posix()}/registry.db",
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, tracking, registry, name],
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("a", "b", "c")
    ]
    said = [process.communicate()[1] for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], said
    client = services.MlflowService(tracking_uri=tracking, registry_uri=registry).client()
    assert sorted(model.name for model in client.search_registered_models()) == ["a", "b", "c"]


# ------------------------------------------------------------------------------------------------- runs of the dead
LEAVE_OPEN = """
import sys, mlflow
from model_name.io import services
from model_name.io import stores
service = services.MlflowService(tracking_uri=sys.argv[1])
service.start()
with service.run_context(service.RunConfig(name="killed")):
    with mlflow.start_run(run_name="nested", nested=True):
        print("open", flush=True)
        sys.stdin.read()
"""


def states(service: services.MlflowService) -> dict[str, str]:
    runs = stores.find_runs(service.client(), service, "")
    return {str(run.info.run_name): run.info.status for run in runs}


def test_a_run_whose_process_was_killed_fails_when_the_next_one_starts(
    store: services.MlflowService, warned: list[str]
) -> None:
    command = [sys.executable, "-c", LEAVE_OPEN, str(store.tracking_uri)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        store.start()
        assert states(store) == {"killed": "RUNNING", "nested": "RUNNING"}, "its process lives"
        process.kill()
    store.start()
    assert states(store) == {"killed": "FAILED", "nested": "FAILED"}
    (run,) = stores.find_runs(store.client(), store, "attributes.run_name = 'killed'")
    assert run.info.end_time is not None
    reason = f"process {process.pid} on {socket.gethostname()} died without ending the run"
    assert run.data.tags[stores.ENDED_TAG] == reason
    assert warned == [f"MLflow run {run.info.run_id} is FAILED: {reason}"]
    store.start()
    assert len(warned) == 1, "once"


def test_only_the_dead_of_this_machine_lose_their_runs(store: services.MlflowService) -> None:
    store.start()
    client, own = store.client(), stores.ProcessId.own()
    experiment = client.get_experiment_by_name(store.resolved_experiment_name)
    assert experiment is not None
    reused = dataclasses.replace(own, started="earlier")
    processes_of = {
        "this": own.tags(),
        "elsewhere": dataclasses.replace(reused, machine="another").tags(),
        "unknown": {},
        "a number used again": reused.tags(),
    }
    for name, tags in processes_of.items():
        client.create_run(experiment.experiment_id, run_name=name, tags=tags)
    store.start()
    running = dict.fromkeys(processes_of, "RUNNING")
    assert states(store) == running | {"a number used again": "FAILED"}


def test_a_store_that_cannot_be_asked_about_the_dead(
    store: services.MlflowService, monkeypatch: pytest.MonkeyPatch, warned: list[str]
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError("read-only\nand more")

    monkeypatch.setattr(stores, "find_runs", refuse)
    store.start()
    assert warned == ["Runs of dead processes are not looked for: read-only"]


# ------------------------------------------------------------------------------------------------------- Kafka
@pytest.fixture
def kafka() -> Iterator[services.KafkaService]:
    service = services.KafkaService()
    service.start()
    yield service
    service.stop()


def test_the_broker_in_the_process_carries_records(kafka: services.KafkaService) -> None:
    assert kafka.embedded
    assert kafka.address.startswith("127.0.0.1:")
    kafka.reach({})
    producer = kafka.producer({"linger.ms": 0})
    producer.produce("hours", b"noon", b"12")
    assert producer.flush(10) == 0
    assert "hours" in kafka.topics()
    consumer = kafka.consumer({"group.id": "readers", "auto.offset.reset": "earliest"})
    consumer.subscribe(["hours"])
    found: list[Any] = []
    while not found:
        found = [each for each in consumer.consume(1, 5.0) if each.error() is None]
    consumer.commit(message=found[0], asynchronous=False)
    assert (found[0].key(), found[0].value()) == (b"12", b"noon")
    consumer.close()


def test_a_broker_that_is_not_started_has_no_address() -> None:
    with pytest.raises(errors.ServiceError, match="not running: start the service"):
        _ = services.KafkaService().address
    service = services.KafkaService()
    service.start()
    service.stop()
    with pytest.raises(errors.ServiceError, match="not running"):
        _ = service.address


def test_a_setting_for_one_side(kafka: services.KafkaService) -> None:
    """What only the other side understands does not reach this one."""
    config = {
        "client.id": "both",
        "consumer.fetch.min.bytes": 2,
        "producer.linger.ms": 7,
        "group.id": "g",
    }
    assert brokers.for_side(config, "consumer.") == {
        "client.id": "both",
        "fetch.min.bytes": 2,
        "group.id": "g",
    }
    assert brokers.for_side(config, "producer.") == {
        "client.id": "both",
        "linger.ms": 7,
        "group.id": "g",
    }
    assert brokers.for_side({"linger.ms": 1, "producer.linger.ms": 7}, "producer.") == {
        "linger.ms": 7
    }
    kafka.consumer(config).close()


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"linger.mss": 5}, 'No such configuration property: "linger.mss"'),
        (
            {"session.timeout.ms": "soon"},
            'Invalid value for configuration property "session.timeout.ms"',
        ),
        (
            {"consumer.auto.offset.reset": "middle"},
            'Invalid value "middle" for configuration property',
        ),
    ],
)
def test_a_setting_that_librdkafka_does_not_take(
    kafka: services.KafkaService, config: dict[str, Any], reason: str
) -> None:
    with pytest.raises(errors.ConfigError, match=f"kafka_config: {reason}"):
        kafka.reach(config)


def test_an_address_where_nobody_answers_is_named(closed_port: int) -> None:
    service = services.KafkaService(bootstrap_servers=f"127.0.0.1:{closed_port}", timeout=1.5)
    assert not service.embedded
    begun = time.monotonic()
    with pytest.raises(
        errors.ServiceError,
        match=f"127.0.0.1:{closed_port} cannot be used .*KAFKA_BOOTSTRAP_SERVERS",
    ):
        service.reach({})
    assert time.monotonic() - begun < 55, "librdkafka itself would take a minute"
    with pytest.raises(errors.ServiceError, match="does not tell its topics"):
        service.topics()


def test_somebody_who_answers_and_is_no_broker(silent_port: int) -> None:
    service = services.KafkaService(bootstrap_servers=f"127.0.0.1:{silent_port}", timeout=1.5)
    with pytest.raises(errors.ServiceError, match=f"127.0.0.1:{silent_port} cannot be used"):
        service.reach({})


def test_secrets_reach_the_clients_and_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "BOOTSTRAP_SERVERS": "broker.example:9093", "SECURITY_PROTOCOL": "SASL_SSL", "SASL_MECHANISM": "SCRAM-SHA-512",
        "SASL_USERNAME": "jobs", "SASL_PASSWORD": "canary",
    }.items():  # fmt: skip
        monkeypatch.setenv(f"KAFKA_{name}", value)
    osvariables.env.cache_clear()
    try:
        service = services.KafkaService()
        assert service.settings() == {
            "bootstrap.servers": "broker.example:9093", "security.protocol": "SASL_SSL",
            "sasl.mechanism": "SCRAM-SHA-512", "sasl.username": "jobs", "sasl.password": "canary",
        }  # fmt: skip
        assert "canary" not in repr(service) + service.model_dump_json() + repr(osvariables.env())
    finally:
        osvariables.env.cache_clear()
