"""Streaming on a real broker: what must not be lost or doubled when processes, brokers, versions and topics fail."""

import contextlib
import hashlib
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
from model_name.io import datasets, osvariables, services
from model_name.jobs import kafkainference, training
from model_name.streaming import codecs, deliveries, loops, scorers
from model_name.utils import splitters
from tasks import brokers
from tests.conftest import decide

pytestmark = pytest.mark.broker

QUICK = {"session.timeout.ms": 3_000, "heartbeat.interval.ms": 500}  # a dead member is noticed soon
ROWS = codecs.JsonEncoder().encode(
    schemas.InputsSchema.check(datasets.SimulatedReader(rows=500).read())
)


# ------------------------------------------------------------------------------------------------------- topics
class Topics:
    """Three topics of their own, and what goes in and comes out."""

    def __init__(self, broker: brokers.Broker, **limits: str) -> None:
        """Make the topics; `limits` are bytes of the largest record of `input`, `output` and `dead`."""
        from confluent_kafka import Producer
        from confluent_kafka.admin import AdminClient, NewTopic

        name = uuid.uuid4().hex[:8]
        self.broker, self.names = broker, (f"in-{name}", f"out-{name}", f"dead-{name}")
        self.admin = AdminClient({"bootstrap.servers": broker.address, "log_level": 0})
        new = [
            NewTopic(
                name, 4, 1, config={"max.message.bytes": limits[kind]} if kind in limits else {}
            )
            for kind, name in zip(("input", "output", "dead"), self.names, strict=True)
        ]
        for made in self.admin.create_topics(new).values():
            made.result(20)
        settings = {
            "bootstrap.servers": broker.address, "linger.ms": 5, "log_level": 0, "message.max.bytes": 8_000_000,
        }  # fmt: skip
        self.producer = Producer(
            settings | {"enable.idempotence": True}
        )  # sends nothing twice when a broker restarts
        self.keys: list[bytes] = []

    def send(
        self,
        count: int,
        value: Callable[[int], bytes | None] | None = None,
        rate: float | None = None,
    ) -> None:
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
def job(
    broker: brokers.Broker, trained: services.MlflowService
) -> Callable[..., kafkainference.KafkaInferenceJob]:
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
    opened = kafkainference._open_stream

    def open_and_keep(*arguments: Any) -> loops.Stream:
        stream = opened(*arguments)
        _KNOWN.get(threading.get_ident(), {})["stream"] = stream
        return stream

    monkeypatch.setattr(kafkainference, "_open_stream", open_and_keep)


@contextlib.contextmanager
def streaming(job: kafkainference.KafkaInferenceJob) -> Iterator[Any]:
    """Let the records of a job flow in a thread of its own, without an MLflow run; give what is known of it."""
    known: dict[str, Any] = {}
    job.mlflow_service.start()
    client = job.mlflow_service.client()
    watcher = scorers.ModelWatcher(
        client,
        "model_name",
        job.alias_or_version,
        job.loader,
        lambda *words: known.setdefault("alerts", []).append(words),
    )

    def work() -> None:
        _KNOWN[threading.get_ident()] = known
        try:
            known["ended"], known["metrics"] = kafkainference._stream_records(job, watcher, {})
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
from model_name.streaming import scorers
from model_name.streaming import telemetry
import sklearn.ensemble
job = settings.MainSettings.model_validate_json(sys.argv[1]).job
job.mlflow_service.start()
watcher = scorers.ModelWatcher(job.mlflow_service.client(), "model_name", "latest", job.loader, print)
while True:
    child = os.fork()
    if not child:
        try:
            kafkainference._stream_records(job, watcher, {})
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
    config = job(
        topics, instance="one", batch_size=100, idle_time=4.0, watch_interval=None
    ).model_dump_json()
    command = [sys.executable, "-c", FORKER, f'{{"job": {config}}}']
    generator, kills, committed = random.Random(5), 0, []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as program:
        assert program.stdout is not None
        sender = threading.Thread(
            daemon=True, target=topics.send, args=(10_000,), kwargs={"rate": 400.0}
        )
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
    assert len(set(committed)) > 2, "some of the lives lasted long enough to deliver"
    assert topics.answered() == Counter(topics.keys)


def _committed(topics: Topics, job: Any) -> list[Any]:
    kafka = services.KafkaService(bootstrap_servers=topics.broker.address)
    return [each for each in kafka.committed(job(topics).group) if each.offset >= 0]


def test_the_broker_restarts_while_records_flow(topics: Topics, job: Any) -> None:
    sender = threading.Thread(
        daemon=True, target=topics.send, args=(3_000,), kwargs={"rate": 600.0}
    )
    with streaming(job(topics, idle_time=None, batch_size=50)) as known:
        sender.start()
        wait_for(lambda: known["stream"].outlet.delivered > 200)
        topics.broker.stop()
        topics.broker.start()
        sender.join()
        wait_for(lambda: known["stream"].outlet.delivered >= 3_000)
    assert "error" not in known
    assert topics.answered() == Counter(topics.keys)


def test_partitions_that_were_lost_while_they_were_paused_are_read_again(
    topics: Topics, job: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that takes long, so that reading is paused when the broker restarts and the session ends."""
    answer, score = threading.Event(), scorers._predict
    monkeypatch.setattr(scorers, "_predict", lambda *a: (answer.wait(60), score(*a))[1])
    topics.send(400)
    with streaming(job(topics, idle_time=None, batch_size=50)) as known:
        stream = known["stream"]
        wait_for(lambda: stream.worker.is_busy() and stream.pipeline.room() == 0)
        time.sleep(1.0)  # it polls with all partitions paused
        topics.broker.stop()
        wait_for(lambda: stream.rebalances.lost == 4)
        topics.broker.start()
        answer.set()
        wait_for(lambda: stream.outlet.delivered >= 400)
    assert "error" not in known
    assert topics.answered() == Counter(topics.keys)


def test_a_commit_whose_confirmation_is_lost_is_counted(
    topics: Topics, job: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    retry, lost = deliveries._retry, list[str]()

    def lose_first_confirmation(call: Callable[..., Any], *arguments: Any, wait: Any) -> None:
        retry(call, *arguments, wait=wait)
        if call.__name__ == "commit_transaction" and not lost:
            lost.append(call.__name__)
            raise TimeoutError("commit_transaction did not return")

    monkeypatch.setattr(deliveries, "_retry", lose_first_confirmation)
    topics.send(200)
    with streaming(job(topics, idle_time=None, batch_size=50, max_messages=200)) as known:
        wait_for(lambda: "ended" in known)
    assert (lost, known["stream"].outlet.delivered) == (["commit_transaction"], 200)
    assert topics.answered() == Counter(topics.keys)


def test_instances_join_and_leave_while_records_flow(
    topics: Topics, job: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that takes a moment, so that at each rebalance a batch is in flight and records wait for the next."""
    score = scorers._predict
    monkeypatch.setattr(scorers, "_predict", lambda *a: (time.sleep(0.03), score(*a))[1])
    sender = threading.Thread(
        daemon=True, target=topics.send, args=(6_000,), kwargs={"rate": 900.0}
    )
    sender.start()
    known: list[dict[str, Any]] = []

    def delivered() -> int:
        return sum(each["stream"].outlet.delivered for each in known)

    with streaming(job(topics, idle_time=None, batch_size=50)) as first:
        known.append(first)
        wait_for(lambda: first["stream"].outlet.delivered > 100)
        for _ in range(3):
            with streaming(job(topics, idle_time=None, batch_size=50)) as second:
                known.append(second)
                wait_for(lambda: second["stream"].outlet.delivered > 100)
        wait_for(lambda: delivered() >= 6_000)
    sender.join()
    assert not any("error" in each for each in known)
    assert topics.answered() == Counter(topics.keys)


def test_a_member_that_was_evicted_while_it_delivered(
    topics: Topics, job: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has produced answers, and before it commits its partitions go to somebody else, who answers as well."""
    produce, held, go_on = deliveries.ExactlyOnce._produce, threading.Event(), threading.Event()

    def produce_and_hold(self: Any, *arguments: Any) -> None:
        produce(self, *arguments)
        if not held.is_set():
            held.set()
            go_on.wait(60)

    monkeypatch.setattr(deliveries.ExactlyOnce, "_produce", produce_and_hold)
    topics.send(100)
    impatient = {"max.poll.interval.ms": 3_000, "producer.transaction.timeout.ms": 120_000}
    with streaming(job(topics, idle_time=None, kafka_config=impatient)) as first:
        wait_for(held.is_set)
        with streaming(job(topics, idle_time=None)) as second:
            wait_for(lambda: second["stream"].outlet.delivered >= 100)
            go_on.set()
            wait_for(
                lambda: first["stream"].outlet.attempts > 0 or first["stream"].outlet.delivered > 0
            )
            assert first["stream"].outlet.delivered == 0
            topics.send(100)
            wait_for(
                lambda: first["stream"].outlet.delivered + second["stream"].outlet.delivered >= 200
            )
    assert "error" not in first | second
    assert topics.answered() == Counter(topics.keys)


@pytest.mark.parametrize("idle", [True, False])
def test_a_job_with_the_same_instance_is_fenced_off(topics: Topics, job: Any, idle: bool) -> None:
    """It ends with an error, also when nothing comes that it could fail to deliver."""
    topics.send(200)
    with streaming(job(topics, idle_time=None, instance="same")) as zombie:
        wait_for(lambda: zombie["stream"].outlet.delivered == 200)
        with streaming(job(topics, idle_time=None, instance="same")) as successor:
            if not idle:
                topics.send(300)
            wait_for(lambda: "error" in zombie)
            if idle:
                topics.send(300)
            wait_for(lambda: successor["stream"].outlet.delivered >= 300)
    assert "fenced off" in str(zombie["error"])
    assert "error" not in successor
    assert topics.answered() == Counter(topics.keys)


def test_an_instance_whose_session_ended_says_so_and_starts_again(topics: Topics, job: Any) -> None:
    """A member that cannot poll while the broker restarts is out of its group, and librdkafka does not let it back."""
    sender = threading.Thread(
        daemon=True, target=topics.send, args=(1_000,), kwargs={"rate": 200.0}
    )
    with streaming(job(topics, idle_time=None, batch_size=50, instance="one")) as known:
        sender.start()
        wait_for(lambda: known["stream"].outlet.delivered > 100)
        topics.broker.stop()
        topics.broker.start()
        sender.join()
        wait_for(lambda: "error" in known or known["stream"].outlet.delivered >= 1_000)
    if "error" in known:
        assert "fenced off" in str(known["error"]), "not that stall_time is over"
        assert "start this one again" in str(known["error"])
        run(job(topics, instance="one", idle_time=5.0))
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
    decide(trained, 1)
    settings = {
        "alias_or_version": "Champion",
        "watch_interval": 0.1,
        "batch_size": 50,
        "idle_time": None,
    }
    sender = threading.Thread(
        daemon=True, target=topics.send, args=(2_500,), kwargs={"rate": 500.0}
    )
    with streaming(job(topics, **settings)) as known:
        sender.start()
        wait_for(lambda: known["stream"].outlet.delivered > 300)
        decide(trained, 2)
        sender.join()
        wait_for(lambda: known["stream"].outlet.delivered >= 2_500)
    answers = topics.read()
    assert Counter(message.key() for message in answers) == Counter(topics.keys)
    by_partition: dict[int, list[int]] = {}
    for message in sorted(answers, key=lambda each: int(dict(each.headers())["source.offset"])):
        source = int(dict(message.headers())["source.partition"])
        by_partition.setdefault(source, []).append(json.loads(message.value())["model_version"])
    for versions in by_partition.values():
        assert versions == sorted(versions), (
            "the new version takes over once, and the old one does not come back"
        )
        assert set(versions) == {1, 2}


def test_a_slow_model_does_not_lose_its_place(
    topics: Topics, job: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch takes longer than the broker waits for a poll: the consumer keeps its partitions."""
    score = scorers._predict
    monkeypatch.setattr(scorers, "_predict", lambda *a: (time.sleep(5.0), score(*a))[1])
    topics.send(120)
    slow = QUICK | {"max.poll.interval.ms": 4_000}
    with streaming(job(topics, idle_time=None, batch_size=60, kafka_config=slow)) as known:
        wait_for(lambda: known["stream"].outlet.delivered >= 120)
        revoked = known["stream"].rebalances.lost
    assert revoked == 0
    assert known["stream"].outlet.size.current < 60, "and the batches adapt"
    assert topics.answered() == Counter(topics.keys)


# ------------------------------------------------------------------------------------------------------- records
def test_one_percent_of_poison(topics: Topics, job: Any) -> None:
    poison: list[bytes | None] = [
        b"{",
        None,
        b"[]",
        b'{"instant": 1}',
        ROWS[0].replace(b'"hr": 0', b'"hr": "noon"'),
    ]
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
    known = topics.names[1]
    with pytest.raises(
        errors.ServiceError, match=f"no topic '{known}x' .*; did you mean '{known}'"
    ):
        run(job(topics, output_topic=known + "x"))


def test_topics_that_take_too_little_are_refused_at_the_start(
    broker: brokers.Broker, job: Any
) -> None:
    refusing = Topics(broker, output="100")
    refusing.send(20)
    with pytest.raises(
        errors.ServiceError, match=r"the topic 'out-.*' takes records of 100 bytes at most"
    ):
        run(job(refusing))
    assert _committed(refusing, job) == [], "what was not answered is not done"


@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
def test_a_topic_that_refuses_records(
    broker: brokers.Broker, job: Any, delivery: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cluster that does not tell what its topics take: they are asked for what is usual, and refuse it."""
    monkeypatch.setattr(services.KafkaService, "limits", lambda *_: {})
    refusing = Topics(broker, output="100")
    refusing.send(20)
    with pytest.raises(
        errors.ServiceError, match=r"the topic 'out-.*' refuses records: .*too large"
    ):
        run(job(refusing, delivery=delivery))
    assert refusing.read() == []
    assert _committed(refusing, job) == [], "what was not answered is not done"


def test_nothing_moves(topics: Topics, job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that hangs: the job ends with an error, and what it has not answered is not committed."""
    monkeypatch.setattr(scorers, "_predict", lambda *_: time.sleep(60))
    topics.send(20)
    with pytest.raises(
        errors.ServiceError,
        match=r"no record was delivered for \d+ seconds, and 20 wait .*the model",
    ):
        run(job(topics, stall_time=3.0, idle_time=None))
    assert _committed(topics, job) == []


def test_a_group_of_another_topic(broker: brokers.Broker, job: Any) -> None:
    first, second = Topics(broker), Topics(broker)
    first.send(5)
    run(job(first, kafka_config={"group.id": first.names[0]}))
    second.send(5)
    with pytest.raises(
        errors.ServiceError,
        match=f"the consumer group '{first.names[0]}' already reads '{first.names[0]}'",
    ):
        run(job(second, kafka_config={"group.id": first.names[0]}))


def test_wrong_security_settings(topics: Topics, job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_SECURITY_PROTOCOL", "SSL")
    osvariables.env.cache_clear()
    begun = time.monotonic()
    try:
        service = services.KafkaService(bootstrap_servers=topics.broker.address, timeout=4.0)
        with pytest.raises(
            errors.ServiceError,
            match=f"the Kafka cluster at {topics.broker.address} cannot be used",
        ):
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
        try:
            wait_for(lambda: sum(each.offset for each in _committed(topics, job)) > 0)
            process.terminate()
            said, _ = process.communicate(timeout=120)
        finally:
            process.kill()
    assert process.returncode == 0
    assert "asked to stop" in said
    assert sum(topics.answered().values()) == sum(each.offset for each in _committed(topics, job))


# ------------------------------------------------------------------------------------------------------- sizes
def test_whatever_the_size_of_a_record_it_ends_in_a_topic(broker: brokers.Broker, job: Any) -> None:
    """The input topic takes more than the others: dead letters are cut, and say what the whole was."""
    topics = Topics(broker, input="4000000", dead="200000")
    sizes = [1_048_400, 1_048_588, 3_500_000, 150_000]
    topics.send(4, lambda number: b"[" + b"1," * (sizes[number] // 2))
    for key in (b"k" * 1_048_300, b"K" * 3_000_000):
        topics.producer.produce(topics.names[0], ROWS[0], key, headers=[("trace", b"t")])
    topics.producer.produce(topics.names[0], ROWS[1], b"h", headers=[("trace", b"t" * 2_000_000)])
    topics.send(100)
    assert topics.producer.flush(30) == 0
    result = run(job(topics, max_refused_rate=1.0))
    assert (result.records, result.dead_letters) == (107, 7)
    letters = {(len(message.key()), message.key()[:4]): message for message in topics.read(2)}
    assert len(letters) == 7
    for number, size in enumerate(sizes):
        message, whole = letters[1, b"%d" % number], b"[" + b"1," * (size // 2)
        headers = dict(message.headers())
        assert "too large" in headers["dead.reason"].decode()
        assert headers["source.topic"].decode() == topics.names[0]
        assert int(headers["source.offset"]) >= 0
        assert whole.startswith(message.value())
        if len(whole) > 199_000:
            assert headers["dead.cut"] == b"value"
            assert headers["dead.bytes"] == b"%d" % len(whole)
            assert headers["dead.sha256"].decode() == hashlib.sha256(whole).hexdigest()
            assert 190_000 < len(message.value()) < 200_000
        else:
            assert message.value() == whole
            assert "dead.cut" not in headers
    long_keys = [
        dict(message.headers()) for (length, _), message in letters.items() if length > 100_000
    ]
    assert [headers["dead.cut"] for headers in long_keys] == [b"value, headers, key"] * 2
    assert all(b"prediction" in headers["dead.reason"] for headers in long_keys)
    long_headers = letters[1, b"h"]
    assert long_headers.value() == ROWS[1]
    assert dict(long_headers.headers())["dead.cut"] == b"headers"


# ------------------------------------------------------------------------------------------------------- topics
@pytest.mark.parametrize("gone", [0, 1, 2], ids=["input", "output", "dead letters"])
def test_a_topic_is_deleted_while_the_job_runs(topics: Topics, job: Any, gone: int) -> None:
    """The operator is told its name, within stall_time, whether records come or not."""
    topics.send(50)
    with streaming(job(topics, idle_time=None, stall_time=15.0)) as known:
        wait_for(lambda: known["stream"].outlet.delivered == 50)
        for deleted in topics.admin.delete_topics([topics.names[gone]]).values():
            deleted.result(20)
        begun = time.monotonic()
        if gone == 1:
            topics.send(20)
        wait_for(lambda: "error" in known)
        assert time.monotonic() - begun < 20.0
    assert f"'{topics.names[gone]}'" in str(known["error"])
    assert "create" in str(known["error"])


def test_the_input_topic_is_created_again(topics: Topics, job: Any) -> None:
    """Offsets of the old one say nothing about the new one: the job says so, and the next one begins at the start."""
    from confluent_kafka.admin import NewTopic

    topics.send(60)
    with streaming(job(topics, idle_time=None, stall_time=10.0)) as known:
        wait_for(lambda: known["stream"].outlet.delivered == 60)
        wait_for(lambda: topics.names[0] in known["stream"].guard.watch.ids)
        topics.admin.delete_topics([topics.names[0]])[topics.names[0]].result(20)
        wait_for(lambda: topics.names[0] not in topics.admin.list_topics(timeout=10).topics)
        topics.admin.create_topics([NewTopic(topics.names[0], 4, 1)])[topics.names[0]].result(20)
        wait_for(lambda: "error" in known)
    assert f"'{topics.names[0]}' was deleted and created again" in str(known["error"])
    topics.send(100)
    run(job(topics))
    assert topics.answered() == Counter(topics.keys), "nothing of the new topic is left out"


def test_partitions_are_added_while_the_job_runs(topics: Topics, job: Any) -> None:
    from confluent_kafka.admin import NewPartitions

    topics.send(40)
    soon = {"topic.metadata.refresh.interval.ms": 500}
    with streaming(job(topics, idle_time=None, kafka_config=soon)) as known:
        wait_for(lambda: known["stream"].outlet.delivered == 40)
        topics.admin.create_partitions([NewPartitions(topics.names[0], 8)])[topics.names[0]].result(
            20
        )
        wait_for(
            lambda: (
                len(topics.producer.list_topics(topics.names[0]).topics[topics.names[0]].partitions)
                == 8
            )
        )
        for partition in range(8):
            topics.keys.append(b"%d" % (40 + partition))
            topics.producer.produce(topics.names[0], ROWS[partition], topics.keys[-1], partition)
        assert topics.producer.flush(30) == 0
        wait_for(lambda: known["stream"].outlet.delivered == 48)
    assert topics.answered() == Counter(topics.keys)


def test_records_that_were_deleted_before_they_were_read(topics: Topics, job: Any) -> None:
    """What cannot be read any more is said with its number; reading goes on at the earliest record that there is."""
    from confluent_kafka import TopicPartition
    from loguru import logger

    def send(count: int) -> None:
        for number in range(count):
            topics.producer.produce(topics.names[0], ROWS[number], b"k", partition=0)
        assert topics.producer.flush(30) == 0

    send(10)
    assert run(job(topics)).records == 10
    send(30)
    for deleted in topics.admin.delete_records([TopicPartition(topics.names[0], 0, 25)]).values():
        deleted.result(20)
    warned: list[str] = []
    stream_job = job(topics, logger_service=services.LoggerService(level="WARNING"))
    with stream_job:
        sink = logger.add(
            lambda message: warned.append(str(message)), level="WARNING", format="{message}"
        )
        result = stream_job.run()
        logger.remove(sink)
    assert result.records == 15
    assert any(
        f"{topics.names[0]}[0]: " in line and "were deleted by the broker" in line
        for line in warned
    ), warned


# ------------------------------------------------------------------------------------------------------- the broker
@contextlib.contextmanager
def warnings() -> Iterator[list[str]]:
    """Give what is logged as a warning."""
    from loguru import logger

    warned: list[str] = []
    sink = logger.add(
        lambda message: warned.append(str(message)), level="WARNING", format="{message}"
    )
    yield warned
    logger.remove(sink)


def test_told_to_stop_while_the_broker_is_away(
    topics: Topics, job: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends within shutdown_time and says why; what was not delivered is answered once when the broker is back."""
    score = scorers._predict  # takes a moment, so that there is something left to do
    monkeypatch.setattr(scorers, "_predict", lambda *a: (time.sleep(0.05), score(*a))[1])
    soon = {
        "producer.transaction.timeout.ms": 5_000
    }  # after which the broker ends what was left open
    topics.send(100)
    plan = job(topics, idle_time=None, batch_size=20, shutdown_time=8.0, kafka_config=soon)
    with warnings() as warned, streaming(plan) as known:
        wait_for(lambda: known["stream"].outlet.delivered == 100)
        topics.send(4_000)
        wait_for(lambda: known["stream"].outlet.delivered > 100)
        topics.broker.stop()
        begun = time.monotonic()
        known["stream"].stop()
        wait_for(lambda: "ended" in known or "error" in known)
        seconds = time.monotonic() - begun
    topics.broker.start()
    assert known["ended"].startswith("asked to stop, and shutdown_time was over before all")
    assert "read again next time" in known["ended"]
    assert any("records were not finished" in line for line in warned), warned
    assert seconds < 8.0
    run(job(topics, idle_time=5.0))
    wait_for(lambda: topics.answered() == Counter(topics.keys))


@pytest.mark.parametrize("records_wait", [True, False])
def test_the_broker_does_not_come_back(topics: Topics, job: Any, records_wait: bool) -> None:
    topics.send(30)
    with warnings() as warned, streaming(job(topics, idle_time=None, stall_time=8.0)) as known:
        wait_for(lambda: known["stream"].outlet.delivered == 30)
        if records_wait:
            known["stream"].outlet.delivery.producer.list_topics(timeout=10)
            topics.send(30)
        topics.broker.stop()
        begun = time.monotonic()
        wait_for(lambda: any("Trouble: the cluster does not answer" in line for line in warned))
        wait_for(lambda: "error" in known)
        seconds = time.monotonic() - begun
    topics.broker.start()
    assert seconds < 2 * 8.0
    assert "does not answer" in str(known["error"])


@pytest.fixture(scope="module")
def usual() -> Iterator[brokers.Broker]:
    """A broker that nobody has used yet, with the delay for joining that is usual, and with access rights."""
    settings = (
        "group.initial.rebalance.delay.ms=3000\n"
        "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n"
        "allow.everyone.if.no.acl.found=true\n"
    )
    if reason := brokers.missing():
        pytest.skip(reason)
    running = brokers.Broker("-XX:TieredStopAtLevel=1", settings=settings)
    yield running
    running.close()


def test_a_cluster_that_has_never_had_a_group(usual: brokers.Broker) -> None:
    """A process of its own: librdkafka once ended it here with a segmentation fault."""
    program = "import sys; from model_name.io import services\nprint(services.KafkaService().committed('new'))"
    environment = os.environ | {"KAFKA_BOOTSTRAP_SERVERS": usual.address}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def test_to_wait_for_partitions_is_not_to_be_idle(usual: brokers.Broker, job: Any) -> None:
    topics = Topics(usual)
    topics.send(500)
    kafka = services.KafkaService(bootstrap_servers=usual.address)
    assert run(job(topics, kafka_service=kafka, idle_time=1.0)).records == 500


@pytest.mark.parametrize(("denied", "operation"), [(0, "READ"), (1, "WRITE"), (2, "WRITE")])
def test_a_topic_that_the_user_may_not_use(
    usual: brokers.Broker, job: Any, denied: int, operation: str
) -> None:
    from confluent_kafka.admin import (  # type: ignore[attr-defined]
        AclBinding,
        AclOperation,
        AclPermissionType,
        ResourcePatternType,
        ResourceType,
    )

    topics = Topics(usual)
    topics.send(20, (lambda _: b"{") if denied == 2 else None)
    name, who = topics.names[denied], ("User:ANONYMOUS", "*")
    rules = [
        AclBinding(
            ResourceType.TOPIC,
            name,
            ResourcePatternType.LITERAL,
            *who,
            getattr(AclOperation, verb),
            permission,
        )
        for verb, permission in [
            ("ALL", AclPermissionType.ALLOW),
            (operation, AclPermissionType.DENY),
        ]
    ]
    for made in topics.admin.create_acls(rules).values():
        made.result(20)
    kafka = services.KafkaService(bootstrap_servers=usual.address)
    with pytest.raises(errors.ServiceError, match="(?i)authorization failed") as refused:
        run(job(topics, kafka_service=kafka, idle_time=20.0, stall_time=30.0, max_refused_rate=1.0))
    assert f"'{name}'" in str(refused.value)
    assert "access rights" in str(refused.value) or "allow" in str(refused.value)
