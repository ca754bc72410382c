"""Streaming on a real broker: what must not be lost or doubled when processes, brokers, versions and topics fail."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from model_name.core import errors, models, schemas
from model_name.io import datasets, osvariables, services, streams
from model_name.jobs import kafkainference, training
from model_name.utils import splitters
from tasks import brokers

pytestmark = pytest.mark.broker

QUICK = {"session.timeout.ms": 3_000, "heartbeat.interval.ms": 500}  # a dead member is noticed soon
ROWS = streams.JsonEncoder().encode(schemas.InputsSchema.check(datasets.SimulatedReader(rows=500).read()))


# ------------------------------------------------------------------------------------------------------- topics
class Topics:
    """Three topics of their own, and what goes in and comes out."""

    def __init__(self, broker: brokers.Broker, **settings: str) -> None:
        from confluent_kafka import Producer
        from confluent_kafka.admin import AdminClient, NewTopic

        name = uuid.uuid4().hex[:8]
        self.broker, self.names = broker, (f"in-{name}", f"out-{name}", f"dead-{name}")
        self.admin = AdminClient({"bootstrap.servers": broker.address, "log_level": 0})
        new = [NewTopic(each, 4, 1, config=settings if each.startswith("out") else {}) for each in self.names]
        for made in self.admin.create_topics(new).values():
            made.result(20)
        settings = {"bootstrap.servers": broker.address, "linger.ms": 5, "log_level": 0}
        self.producer = Producer(settings | {"enable.idempotence": True})  # sends nothing twice when a broker restarts
        self.keys: list[bytes] = []

    def send(self, count: int, value: Callable[[int], bytes | None] | None = None, rate: float | None = None) -> None:
        for _ in range(count):
            number = len(self.keys)
            self.keys.append(b"%d" % number)
            sent = ROWS[number % len(ROWS)] if value is None else value(number)
            self.producer.produce(self.names[0], sent, self.keys[-1])
            self.producer.poll(0)
            if rate is not None:
                time.sleep(1 / rate)
        assert self.producer.flush(30) == 0

    def read(self, topic: int = 1) -> list[Any]:
        """Read all that was committed to a topic."""
        from confluent_kafka import Consumer

        consumer = Consumer(
            {
                "bootstrap.servers": self.broker.address, "group.id": uuid.uuid4().hex, "log_level": 0,
                "auto.offset.reset": "earliest", "isolation.level": "read_committed", "enable.partition.eof": True,
            }
        )  # fmt: skip
        consumer.subscribe([self.names[topic]])
        found, ended = [], set()
        deadline = time.monotonic() + 120
        while len(ended) < 4 and time.monotonic() < deadline:
            for message in consumer.consume(10_000, 0.2):
                if message.error() is None:
                    found.append(message)
                else:
                    ended.add(message.partition())
        consumer.close()
        assert len(ended) == 4
        return found

    def answered(self) -> Counter[bytes]:
        return Counter(message.key() for message in self.read())


@pytest.fixture
def topics(broker: brokers.Broker) -> Topics:
    return Topics(broker)


@pytest.fixture
def job(broker: brokers.Broker, trained: services.MlflowService) -> Callable[..., kafkainference.KafkaInferenceJob]:
    def make(topics: Topics, **settings: Any) -> kafkainference.KafkaInferenceJob:
        inputs, outputs, dead = topics.names
        defaults: dict[str, Any] = {
            "kafka_service": services.KafkaService(bootstrap_servers=broker.address),
            "input_topic": inputs,
            "output_topic": outputs,
            "dead_letter_topic": dead,
            "kafka_config": QUICK | settings.pop("kafka_config", {}),
            "alias_or_version": "latest",
            "idle_time": 2.0,
            "mlflow_service": trained,
            "logger_service": services.LoggerService(level="ERROR"),
        }
        return kafkainference.KafkaInferenceJob(**(defaults | settings))

    return make


def run(job: kafkainference.KafkaInferenceJob) -> kafkainference.KafkaInferenceResult:
    with job:
        return job.run()


_KNOWN: dict[int, dict[str, Any]] = {}


@pytest.fixture(autouse=True)
def _keep_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the stream that a thread opens where `streaming` finds it."""
    opened = kafkainference.KafkaInferenceJob._open

    def open_and_keep(self: Any, scorer: Any, fed: Any) -> streams.Stream:
        stream = opened(self, scorer, fed)
        _KNOWN.get(threading.get_ident(), {})["stream"] = stream
        return stream

    monkeypatch.setattr(kafkainference.KafkaInferenceJob, "_open", open_and_keep)


@contextlib.contextmanager
def streaming(job: kafkainference.KafkaInferenceJob) -> Iterator[Any]:
    """Let the records of a job flow in a thread of its own, without an MLflow run; give what is known of it."""
    known: dict[str, Any] = {}
    job.mlflow_service.start()
    client = job.mlflow_service.client()
    champion = kafkainference.Champion(
        client,
        "model_name",
        job.alias_or_version,
        job.loader,
        lambda *words: known.setdefault("alerts", []).append(words),
    )

    def work() -> None:
        _KNOWN[threading.get_ident()] = known
        try:
            known["ended"], known["gauges"] = job._stream(champion)
        except errors.ProjectError as error:
            known["error"] = error

    thread = threading.Thread(target=work)
    thread.start()
    try:
        while "stream" not in known and thread.is_alive():
            time.sleep(0.02)
        yield known
    finally:
        if "stream" in known:
            known["stream"].stop()
        thread.join(120)
        assert not thread.is_alive()


def wait_for(truth: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not truth():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


# ------------------------------------------------------------------------------------------------------- exactly once
# Everything is imported and the model loaded once; each life of the job is a fork of that: a start costs little.
FORKER = """
import os, sys
from model_name import settings
from model_name.jobs import kafkainference
import sklearn.ensemble
job = settings.MainSettings.model_validate_json(sys.argv[1]).job
job.mlflow_service.start()
champion = kafkainference.Champion(job.mlflow_service.client(), "model_name", "latest", job.loader, print)
while True:
    child = os.fork()
    if not child:
        try:
            job._stream(champion)
        except BaseException as error:
            print("failed", type(error).__name__, error, flush=True)
            os._exit(1)
        os._exit(0)
    print("child", child, flush=True)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status):
        print("exited", os.WEXITSTATUS(status), flush=True)
        break
"""


def test_killed_twenty_times_and_every_input_is_answered_once(topics: Topics, job: Any) -> None:
    """Kill -9 at random moments, under load: a reader of committed records sees each answer exactly once."""
    config = job(topics, instance="one", batch_size=100, idle_time=4.0, watch_interval=None).model_dump_json()
    command = [sys.executable, "-c", FORKER, f'{{"job": {config}}}']
    generator, kills, committed = random.Random(5), 0, []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as program:
        assert program.stdout is not None
        sender = threading.Thread(daemon=True, target=topics.send, args=(10_000,), kwargs={"rate": 400.0})
        sender.start()
        said = []
        for line in program.stdout:
            said.append(line.strip())
            word, number, *_ = line.split()
            if word == "child" and kills < 20:
                time.sleep(generator.uniform(0.3, 1.6))
                os.kill(int(number), signal.SIGKILL)
                kills += 1
                committed.append(sum(each.offset for each in _committed(topics, job)))
        sender.join()
    assert (kills, said[-1]) == (20, "exited 0"), said[-5:]
    assert len(set(committed)) >= 5, "some of the lives lasted long enough to deliver"
    assert topics.answered() == Counter(topics.keys)


def _committed(topics: Topics, job: Any) -> list[Any]:
    kafka = services.KafkaService(bootstrap_servers=topics.broker.address)
    return [each for each in kafka.committed(job(topics).group) if each.offset >= 0]


def test_the_broker_restarts_while_records_flow(topics: Topics, job: Any) -> None:
    sender = threading.Thread(daemon=True, target=topics.send, args=(3_000,), kwargs={"rate": 600.0})
    with streaming(job(topics, idle_time=None, batch_size=50)) as known:
        sender.start()
        wait_for(lambda: known["stream"].delivered > 200)
        topics.broker.stop()
        topics.broker.start()
        sender.join()
        wait_for(lambda: known["stream"].delivered >= 3_000)
    assert "error" not in known
    assert topics.answered() == Counter(topics.keys)


def test_instances_join_and_leave_while_records_flow(topics: Topics, job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that takes a moment, so that at each rebalance a batch is in flight and records wait for the next."""
    score = kafkainference.Scorer._predict
    monkeypatch.setattr(kafkainference.Scorer, "_predict", lambda *a: (time.sleep(0.03), score(*a))[1])
    sender = threading.Thread(daemon=True, target=topics.send, args=(6_000,), kwargs={"rate": 900.0})
    sender.start()
    known: list[dict[str, Any]] = []

    def delivered() -> int:
        return sum(each["stream"].delivered for each in known)

    with streaming(job(topics, idle_time=None, batch_size=50)) as first:
        known.append(first)
        wait_for(lambda: first["stream"].delivered > 100)
        for _ in range(3):
            with streaming(job(topics, idle_time=None, batch_size=50)) as second:
                known.append(second)
                wait_for(lambda: second["stream"].delivered > 100)
        wait_for(lambda: delivered() >= 6_000)
    sender.join()
    assert not any("error" in each for each in known)
    assert topics.answered() == Counter(topics.keys)


def test_a_member_that_was_evicted_while_it_delivered(
    topics: Topics, job: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has produced answers, and before it commits its partitions go to somebody else, who answers as well."""
    produce, held, go_on = streams.ExactlyOnce._produce, threading.Event(), threading.Event()

    def produce_and_hold(self: Any, records: Any) -> None:
        produce(self, records)
        if not held.is_set():
            held.set()
            go_on.wait(60)

    monkeypatch.setattr(streams.ExactlyOnce, "_produce", produce_and_hold)
    topics.send(100)
    impatient = {"max.poll.interval.ms": 3_000, "producer.transaction.timeout.ms": 120_000}
    with streaming(job(topics, idle_time=None, kafka_config=impatient)) as first:
        wait_for(held.is_set)
        with streaming(job(topics, idle_time=None)) as second:
            wait_for(lambda: second["stream"].delivered >= 100)
            go_on.set()
            wait_for(lambda: first["stream"].attempts > 0 or first["stream"].delivered > 0)
            assert first["stream"].delivered == 0
            topics.send(100)
            wait_for(lambda: first["stream"].delivered + second["stream"].delivered >= 200)
    assert "error" not in first | second
    assert topics.answered() == Counter(topics.keys)


@pytest.mark.parametrize("idle", [True, False])
def test_a_job_with_the_same_instance_is_fenced_off(topics: Topics, job: Any, idle: bool) -> None:
    """It ends with an error, also when nothing comes that it could fail to deliver."""
    topics.send(200)
    with streaming(job(topics, idle_time=None, instance="same")) as zombie:
        wait_for(lambda: zombie["stream"].delivered == 200)
        with streaming(job(topics, idle_time=None, instance="same")) as successor:
            if not idle:
                topics.send(300)
            wait_for(lambda: "error" in zombie)
            if idle:
                topics.send(300)
            wait_for(lambda: successor["stream"].delivered >= 300)
    assert "fenced off" in str(zombie["error"])
    assert "error" not in successor
    assert topics.answered() == Counter(topics.keys)


# ------------------------------------------------------------------------------------------------------- the model
def second_version(store: services.MlflowService, hours: datasets.SimulatedReader) -> None:
    with training.TrainingJob(
        inputs=hours,
        targets=hours,
        model=models.GradientBoostingModel(max_iter=5),
        splitter=splitters.TrainTestSplitter(test_size=240),
        mlflow_service=store,
        logger_service=services.LoggerService(level="ERROR"),
    ) as train:
        train.run()


def test_the_alias_moves_while_records_flow(
    topics: Topics, job: Any, trained: services.MlflowService, hours: datasets.SimulatedReader
) -> None:
    second_version(trained, hours)
    client = trained.client()
    client.set_registered_model_alias("model_name", "Champion", "1")
    settings = {"alias_or_version": "Champion", "watch_interval": 0.1, "batch_size": 50, "idle_time": None}
    sender = threading.Thread(daemon=True, target=topics.send, args=(2_500,), kwargs={"rate": 500.0})
    with streaming(job(topics, **settings)) as known:
        sender.start()
        wait_for(lambda: known["stream"].delivered > 300)
        client.set_registered_model_alias("model_name", "Champion", "2")
        sender.join()
        wait_for(lambda: known["stream"].delivered >= 2_500)
    answers = topics.read()
    assert Counter(message.key() for message in answers) == Counter(topics.keys)
    by_partition: dict[int, list[int]] = {}
    for message in sorted(answers, key=lambda each: int(dict(each.headers())["source.offset"])):
        source = int(dict(message.headers())["source.partition"])
        by_partition.setdefault(source, []).append(json.loads(message.value())["model_version"])
    for versions in by_partition.values():
        assert versions == sorted(versions), "the new version takes over once, and the old one does not come back"
        assert set(versions) == {1, 2}


def test_a_slow_model_does_not_lose_its_place(topics: Topics, job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch takes longer than the broker waits for a poll: the consumer keeps its partitions."""
    score = kafkainference.Scorer._predict
    monkeypatch.setattr(kafkainference.Scorer, "_predict", lambda *a: (time.sleep(5.0), score(*a))[1])
    topics.send(120)
    slow = QUICK | {"max.poll.interval.ms": 4_000}
    with streaming(job(topics, idle_time=None, batch_size=60, kafka_config=slow)) as known:
        wait_for(lambda: known["stream"].delivered >= 120)
        revoked = known["stream"].lost
    assert revoked == 0
    assert known["stream"].batch_size < 60, "and the batches adapt"
    assert topics.answered() == Counter(topics.keys)


# ------------------------------------------------------------------------------------------------------- records
def test_one_percent_of_poison(topics: Topics, job: Any) -> None:
    poison: list[bytes | None] = [b"{", None, b"[]", b'{"instant": 1}', ROWS[0].replace(b'"hr": 0', b'"hr": "noon"')]
    topics.send(3_000, lambda n: poison[n // 100 % 5] if n % 100 == 7 else ROWS[n % 500])
    result = run(job(topics))
    assert (result.records, result.dead_letters) == (3_000, 30)
    letters = {message.key(): message for message in topics.read(2)}
    assert {int(key) for key in letters} == {n for n in range(3_000) if n % 100 == 7}
    for key, message in letters.items():
        assert message.value() == poison[int(key) // 100 % 5], "the original, untouched"
        headers = dict(message.headers())
        assert headers["source.topic"].decode() == topics.names[0]
        assert headers["dead.reason"]
    assert topics.answered() == Counter(key for key in topics.keys if int(key) % 100 != 7)


# ------------------------------------------------------------------------------------------------------- refusals
def test_a_topic_that_does_not_exist(topics: Topics, job: Any) -> None:
    with pytest.raises(errors.ServiceError, match=f"no topic '{topics.names[1]}x'; did you mean '{topics.names[1]}'"):
        run(job(topics, output_topic=topics.names[1] + "x"))


@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
def test_a_topic_that_refuses_records(broker: brokers.Broker, job: Any, delivery: str) -> None:
    refusing = Topics(broker, **{"max.message.bytes": "100"})
    refusing.send(20)
    with pytest.raises(errors.ServiceError, match=r"the topic 'out-.*' refuses records: .*too large"):
        run(job(refusing, delivery=delivery))
    assert refusing.read() == []
    assert _committed(refusing, job) == [], "what was not answered is not done"


def test_nothing_moves(topics: Topics, job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that hangs: the job ends with an error, and what it has not answered is not committed."""
    monkeypatch.setattr(kafkainference.Scorer, "_predict", lambda *_: time.sleep(60))
    topics.send(20)
    with pytest.raises(errors.ServiceError, match=r"no record was delivered for \d+ seconds, and 20 wait .*the model"):
        run(job(topics, stall_time=3.0, idle_time=None))
    assert _committed(topics, job) == []


def test_a_group_of_another_topic(broker: brokers.Broker, job: Any) -> None:
    first, second = Topics(broker), Topics(broker)
    first.send(5)
    run(job(first, kafka_config={"group.id": first.names[0]}))
    second.send(5)
    with pytest.raises(
        errors.ServiceError, match=f"the consumer group '{first.names[0]}' already reads '{first.names[0]}'"
    ):
        run(job(second, kafka_config={"group.id": first.names[0]}))


def test_wrong_security_settings(topics: Topics, job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_SECURITY_PROTOCOL", "SSL")
    osvariables.env.cache_clear()
    begun = time.monotonic()
    try:
        service = services.KafkaService(bootstrap_servers=topics.broker.address, timeout=4.0)
        with pytest.raises(errors.ServiceError, match=f"the Kafka cluster at {topics.broker.address} cannot be used"):
            run(job(topics, kafka_service=service))
    finally:
        osvariables.env.cache_clear()
    assert time.monotonic() - begun < 55, "librdkafka itself would take a minute"


# ------------------------------------------------------------------------------------------------------- stopping
def test_sigterm_finishes_and_commits(topics: Topics, job: Any) -> None:
    topics.send(2_000)
    config = job(topics, idle_time=None, batch_size=100).model_dump_json()
    program = (
        "import sys; from model_name import settings\n"
        "with settings.MainSettings.model_validate_json(sys.argv[1]).job as job: job.run()"
    )
    command = [sys.executable, "-c", program, f'{{"job": {config}}}']
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        wait_for(lambda: sum(each.offset for each in _committed(topics, job)) > 0)
        process.terminate()
        said, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert "asked to stop" in said
    assert sum(topics.answered().values()) == sum(each.offset for each in _committed(topics, job))
