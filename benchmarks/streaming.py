"""How fast records flow: only copied, scored by the stream job, and scored one by one; and how long each takes."""

import gc
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np

from benchmarks import measuring
from benchmarks.measuring import Case, Sample
from model_name.core import models, schemas
from model_name.io import datasets, services
from model_name.jobs import kafkainference, training
from model_name.streaming import (
    codecs,
    deliveries,
    loops,
    scorers,
)
from model_name.utils import splitters
from tasks import brokers

SILENT = services.LoggerService(level="ERROR")
COPY, JOB, ONES = "copy", "job", "batches of one"
MOCK_HOLDS = 60_000  # records: the mock cluster drops the oldest of a partition beyond 5 MiB


def train(folder: str) -> services.MlflowService:
    """Train the default gradient boosting on simulated hours."""
    store = services.MlflowService(tracking_uri=f"sqlite:///{folder}/mlflow.db")
    hours = datasets.SimulatedReader(rows=15_340)
    with training.TrainingJob(
        inputs=hours,
        targets=hours,
        model=models.GradientBoostingModel(),
        splitter=splitters.TrainTestSplitter(test_size=1_440),
        mlflow_service=store,
        logger_service=SILENT,
    ) as job:
        job.run()
    return store


class Stopwatch(loops.StreamObserver):
    """Measures a stream from its first partition on; starts a sender there, if there is one."""

    def __init__(self, sender: threading.Thread | None) -> None:
        self.sender = sender
        self.begun, self.spent, self.ended = time.perf_counter(), time.process_time(), 0.0
        self.latencies: list[np.ndarray[Any, Any]] = []

    def assigned(self) -> None:
        if self.sender is None:
            self.begun, self.spent = time.perf_counter(), time.process_time()
        elif self.sender.ident is None:
            self.begun, self.spent = time.perf_counter(), time.process_time()
            self.sender.start()

    def delivered(self, batch: loops.Delivered) -> None:
        self.latencies.append(batch.latencies)
        self.ended = time.perf_counter()


class Course:
    """Topics on one broker, filled with records, and what runs over them."""

    def __init__(
        self, kafka: services.KafkaService, watcher: scorers.ModelWatcher, exactly: bool
    ) -> None:
        self.kafka, self.watcher, self.exactly = kafka, watcher, exactly
        rows = datasets.SimulatedReader(rows=5_000).read()
        self.values = codecs.JsonEncoder().encode(schemas.InputsSchema.check(rows))

    def run(
        self, what: str, records: int, rate: float | None = None
    ) -> tuple[float, float, "np.ndarray[Any, Any]"]:
        """Let records flow; give records a second, processor seconds a record, and the latencies in seconds."""
        from confluent_kafka import KafkaException

        names = [f"{kind}-{uuid.uuid4().hex[:8]}" for kind in ("in", "out", "dead")]
        producer = self.kafka.producer({"linger.ms": 2, "queue.buffering.max.messages": 2_000_000})
        if self.kafka.embedded:
            for name in names:
                producer.list_topics(name, timeout=10)
        else:
            from confluent_kafka.admin import NewTopic

            admin = self.kafka.admin({})  # which has to live until it has answered
            for made in admin.create_topics([NewTopic(name, 4, 1) for name in names]).values():
                made.result(20)
        batch = 1 if what == ONES else 5_000
        scorer = scorers.Scorer(
            lambda: self.watcher.current, codecs.JsonDecoder(), codecs.JsonEncoder(), 10_000
        )
        sender = threading.Thread(
            target=self._send, args=(producer, names[0], records, rate), daemon=True
        )
        watch = Stopwatch(None if rate is None else sender)
        answer = (lambda values: values) if what == COPY else scorer
        stream = self._stream(names, records, batch, answer, watch)
        if rate is None:
            sender.run()
        try:
            stream.run()
        except KafkaException as error:
            raise SystemExit(str(error)) from error
        processor = (time.process_time() - watch.spent) / records
        return records / (watch.ended - watch.begun), processor, np.concatenate(watch.latencies)

    def _send(self, producer: Any, topic: str, records: int, rate: float | None) -> None:
        begun = time.perf_counter()
        for number in range(records):
            if rate is not None and (wait := begun + number / rate - time.perf_counter()) > 0:
                time.sleep(wait)
            producer.produce(topic, self.values[number % 5_000], b"%d" % number)
            if number % 1_000 == 0 or rate is not None:
                producer.poll(0)
        producer.flush()

    def _stream(
        self, names: list[str], records: int, batch: int, answer: Any, watch: "Stopwatch"
    ) -> loops.Stream:
        consumer = self.kafka.consumer(
            {
                "group.id": names[0], "auto.offset.reset": "earliest", "enable.auto.commit": False,
                "enable.partition.eof": True, "partition.assignment.strategy": "cooperative-sticky",
            }
            | ({"fetch.wait.max.ms": 10} if self.kafka.embedded else {})  # as the job does
        )  # fmt: skip
        settings: dict[str, Any] = {"linger.ms": 5, "delivery.report.only.error": True}
        delivery: deliveries.Delivery
        if self.exactly:
            settings["transactional.id"] = names[0]
            delivery = deliveries.ExactlyOnce(lambda: self.kafka.producer(settings), consumer, 10.0)
        else:
            delivery = deliveries.AtLeastOnce(self.kafka.producer(settings), consumer, 10.0)
        config = loops.StreamConfig(
            names[0], names[1], names[2], batch_size=batch, max_messages=records
        )
        return loops.open_stream(config, consumer, delivery, answer, SILENT.logger(), [watch])


def cases(course: Course, records: int) -> list[Case]:
    """Make the cases of one broker; seconds are those of so many records, also where fewer are sent."""

    def flow(what: str, sent: int) -> Sample:
        rate, processor, _ = course.run(what, sent)
        return Sample(records / rate, processor * records)

    def latency() -> Sample:
        *_, latencies = course.run(JOB, 10_000, rate=1_000.0)
        half, most = np.quantile(latencies[2_000:], [0.5, 0.99])
        print(f"half within {1e3 * half:.1f} ms, 99 % within {1e3 * most:.1f} ms", file=sys.stderr)
        return Sample(float(most))

    sent = min(records, MOCK_HOLDS) if course.kafka.embedded else records
    return [
        Case(COPY, lambda: flow(COPY, sent), None, records, "records"),
        Case(JOB, lambda: flow(JOB, sent), COPY, records, "records"),
        Case(ONES, lambda: flow(ONES, 300), COPY, records, "records"),
        Case("99 % within, at 1,000 records a second", latency),
    ]


def main() -> None:
    """Measure on the broker inside the process, and on a real one if it is installed."""
    given = measuring.arguments(__doc__, rounds=3, records=100_000)
    SILENT.start()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, ExitStack() as stack:
        store = train(folder)
        watcher = scorers.ModelWatcher(
            store.client(), "model_name", "latest", kafkainference.registries.CustomLoader(), print
        )

        def embedded() -> list[Case]:
            kafka = services.KafkaService()
            kafka.start()
            stack.callback(kafka.stop)
            return cases(Course(kafka, watcher, exactly=False), given.records)

        def real() -> list[Case]:
            broker = brokers.Broker()
            stack.callback(broker.close)
            kafka = services.KafkaService(bootstrap_servers=broker.address)
            return cases(Course(kafka, watcher, exactly=True), given.records)

        gc.freeze()  # as the job does
        groups: dict[str, Callable[[], list[Case]]] = {"broker in the process": embedded}
        if reason := brokers.missing():
            print(f"no real broker: {reason}", file=sys.stderr)
        else:
            groups["Apache Kafka"] = real
        measuring.report(given, groups)


if __name__ == "__main__":
    main()
