"""Streams: what is read and written, which errors mean what, and where reading goes on after something went wrong."""

import concurrent.futures
import hashlib
import json
import math
import time
import types
from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd
import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from hypothesis import given
from hypothesis import strategies as st
from loguru import logger

from model_name.core import errors
from model_name.io import services
from model_name.streaming import (
    batches,
    codecs,
    deadletters,
    deliveries,
    intakes,
    loops,
    offsets,
    watches,
)

# ------------------------------------------------------------------------------------------------------- decoding
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS
)
DOCUMENTS = st.lists(
    st.fixed_dictionaries({"a": VALUES, "b %s": VALUES}, optional={"c": VALUES}), max_size=8
)


@given(DOCUMENTS)
def test_what_was_json_is_read_field_by_field(documents: list[dict[str, Any]]) -> None:
    values = [json.dumps(each, ensure_ascii=False).encode() for each in documents]
    decoded = codecs.JsonDecoder().decode(values, ["a", "b %s"], ["c", "d"])
    assert decoded.rejected == {}
    assert decoded.columns["a"] == [each["a"] for each in documents]
    assert decoded.columns["b %s"] == [each["b %s"] for each in documents]
    assert decoded.columns.get("c", [None] * len(documents)) == [
        each.get("c") for each in documents
    ]
    assert "d" not in decoded.columns, "an optional field that no record has is no column"


@given(
    st.lists(
        st.none()
        | st.binary(max_size=12)
        | DOCUMENTS.map(lambda each: json.dumps(each[:1]).encode()[1:-1])
    )
)
def test_together_and_one_by_one_are_the_same(values: list[bytes | None]) -> None:
    """Whatever the bytes are, a record is read the same way whoever its neighbours are."""
    decoder = codecs.JsonDecoder()
    alone = [decoder.decode([value], ["a"], ["c"]) for value in values]
    decoded = decoder.decode(values, ["a"], ["c"])
    assert decoded.rejected == {
        place: each.rejected[0] for place, each in enumerate(alone) if each.rejected
    }
    assert repr(decoded.columns["a"]) == repr(
        [value for each in alone for value in each.columns["a"]]
    )


NUMBERS = (
    st.integers(-(10**30), 10**30).map(str)
    | st.floats().map(repr)
    | st.tuples(st.integers(), st.integers(0), st.integers(-400, 400)).map(
        "{0[0]}.{0[1]}e{0[2]}".format
    )
    | st.sampled_from(
        [
            "-0",
            "-0.0",
            "1e400",
            "01",
            "1.",
            ".5",
            "+1",
            "9007199254740993",
            "1E5",
            "-",
            "NaN",
            "1" * 4301,
        ]
    )
)
STRINGS = st.text(st.sampled_from('aü😀":,{}[] \n\x7f\\/u0d8e'), max_size=8).flatmap(
    lambda text: st.sampled_from(
        [json.dumps(text), json.dumps(text, ensure_ascii=False), f'"{text}"', f'"\\u{text[:4]}"']
    )
)
RAW = st.recursive(
    NUMBERS | STRINGS | st.sampled_from(["true", "null", "nul", "Infinity", "-Infinity", ""]),
    lambda inner: (
        st.lists(inner, max_size=2).map(",".join).map("[{}]".format)
        | st.tuples(STRINGS, inner).map(":".join).map("{{{}}}".format)
    ),
    max_leaves=3,
)
SPACES = st.sampled_from(["", "", " ", "\t\n\r", "\x0b", "\xa0"])
MEMBERS = st.tuples(
    SPACES, st.sampled_from(['"a"', '"b"', '"\\u0061"', '":"']) | STRINGS, SPACES, RAW
)
RECORDS = st.tuples(
    st.lists(MEMBERS.map("{0[0]}{0[1]}{0[2]}:{0[3]}".format), max_size=4).map(",".join),
    st.sampled_from(["", "", "", "x", " ", "\ufeff", "\0", "{}", ","]),
).map(lambda each: f"{{{each[0]}}}{each[1]}".encode())


PLAIN = st.lists(
    st.tuples(st.sampled_from(["a", "b", ":", "ü"]), NUMBERS | TEXTS.map(json.dumps)).map(
        lambda member: f'"{member[0]}": {member[1]}'
    ),
    max_size=3,
).map(lambda members: f"{{{', '.join(members)}}}".encode())


def _decode_strictly(values: list[bytes]) -> codecs.Decoded:
    """Decode with Python's own `json` only, record by record."""
    rejected: dict[int, str] = {}
    documents = codecs._parse_each(values, 0, ["a"], rejected)
    return codecs.Decoded({"a": [document["a"] for document in documents]}, rejected)


@given(st.lists(PLAIN, max_size=2) | st.lists(RECORDS | PLAIN, max_size=6))
def test_the_fast_way_has_the_values_and_rejections_of_the_strict_one(values: list[bytes]) -> None:
    decoded, strict = codecs.JsonDecoder().decode(values, ["a"]), _decode_strictly(values)
    assert decoded.rejected == strict.rejected
    assert repr(decoded.columns) == repr(strict.columns)


def test_an_odd_record_costs_its_neighbours_nothing_but_time() -> None:
    values = [b'{"a": %d}' % number for number in range(250)]
    values[120] = b'{"a": [{"b": "\\""}]}'
    values[130] = b'{"a": 1, "a": 1}'
    decoded = codecs.JsonDecoder().decode(values, ["a"], ["c"])
    assert decoded.rejected == {
        130: "not JSON that can be read: the name 'a' is there more than once"
    }
    assert decoded.columns == {"a": [*range(120), [{"b": '"'}], *range(121, 130), *range(131, 250)]}


@pytest.mark.parametrize(
    "split",
    [[b'{"a": "x}', b'{y"}'], [b'{"a": 1}, {"a": 2', b"}"], [b'{"a": 1}, 7, {"a": 2}', b""]],
)
def test_no_record_reaches_into_its_neighbour(split: list[bytes]) -> None:
    good = b'{"a": 3}'
    decoded = codecs.JsonDecoder().decode([good, *split, good], ["a"])
    assert sorted(decoded.rejected) == [1, 2]
    assert decoded.columns == {"a": [3, 3]}


@pytest.mark.parametrize("value", [b'{"a": NaN}', b'{"a": null}'])
def test_a_missing_value_is_no_reason_to_refuse(value: bytes) -> None:
    (read,) = codecs.JsonDecoder().decode([value], ["a"]).columns["a"]
    assert read is None or math.isnan(read)


def test_documents_that_are_too_deep() -> None:
    assert (
        "not JSON" in codecs.JsonDecoder().decode([b"[" * 100_000, b'{"a": 1}'], ["a"]).rejected[0]
    )


STRANGE = [
    (b'{"a": "\\ud83d"}', "lone surrogate"),
    (b'{"a": ["\\uDE00", 1]}', "lone surrogate"),
    (b'{"a": 1, "\\ud83d": 1}', "lone surrogate"),
    (b'{"a": 1, "other": {"deep": ["\\ud83d\\ud83d"]}}', "lone surrogate"),
    (b'{"a": "\xed\xa0\xbd"}', "not JSON in UTF-8: invalid continuation byte at byte 7"),
    (b'{"a": "\xff"}', "not JSON in UTF-8: invalid start byte at byte 7"),
    (b'\xef\xbb\xbf{"a": 1}', "byte-order mark"),
    ('{"a": 1}'.encode("utf-16"), "zero bytes, as UTF-16 has"),
    ('{"a": 1}'.encode("utf-16-le"), "zero bytes, as UTF-16 has"),
    ('{"a": 1}'.encode("utf-32-be"), "zero bytes, as UTF-16 has"),
    (b'{"a": 1, "a": 1}', "the name 'a' is there more than once"),
    (b'{"a": 1, "b": [{"c": 1, "c": 2}]}', "the name 'c' is there more than once"),
    (b'{"a": 1, "\\u0061": 2}', "the name 'a' is there more than once"),
    (b'{"a": Infinity}', "Infinity is not a number"),
    (b'{"a": 1, "b": -Infinity}', "-Infinity is not a number"),
    (b'{"a": ' + b"9" * 5_000 + b"}", "not JSON that can be read: Exceeds the limit"),
    (b'{"a": ' + b"[" * 50_000 + b"]" * 50_000 + b"}", "nested too deeply"),
    (b"", "not JSON: Expecting value"),
    (b" ", "not JSON: Expecting value"),
    (b"null", "not a JSON object but a NoneType"),
    (b"[]", "not a JSON object but a list"),
    (b"1", "not a JSON object but a int"),
    (b'{"a": 1}{"a": 2}', "not JSON: Extra data"),
    (b'{"a": "\n"}', "not JSON: Invalid control character"),
    (None, "no value"),
]


@pytest.mark.parametrize(("value", "reason"), STRANGE, ids=[reason for _, reason in STRANGE])
def test_what_other_programs_read_in_another_way_is_refused(
    value: bytes | None, reason: str
) -> None:
    """Also among good records, which are not held up."""
    good = b'{"a": "\\ud83d\\ude00"}'
    decoded = codecs.JsonDecoder().decode([good, value, b'{"a": 2}'], ["a"])
    assert reason in decoded.rejected[1]
    assert decoded.columns == {"a": ["\N{GRINNING FACE}", 2]}
    assert list(decoded.rejected) == [1]


def test_a_backslash_before_what_looks_like_half_a_character() -> None:
    value = json.dumps({"a": "\\ud83d"}).encode()
    assert value == b'{"a": "\\\\ud83d"}'
    assert codecs.JsonDecoder().decode([value], ["a"]).columns == {"a": ["\\ud83d"]}


# ------------------------------------------------------------------------------------------------------- encoding
@given(
    st.lists(
        st.tuples(
            st.floats() | st.none(),
            st.integers(-(2**63), 2**63 - 1),
            TEXTS | st.none(),
            st.booleans(),
        )
    )
)
def test_what_is_written_reads_back_the_same(rows: list[tuple[Any, ...]]) -> None:
    table = pd.DataFrame(rows, columns=["number", "100%", 'a "name"', "truth"])
    table["number"] = table["number"].astype("float64")
    read = [
        json.loads(each)
        for each in codecs.JsonEncoder().encode(table, {"model": "50% \\ ü", "version": 3})
    ]
    for (number, whole, text, truth), document in zip(rows, read, strict=True):
        missing = number is None or math.isnan(number)
        if missing or math.isfinite(number):
            assert document["number"] == (None if missing else number)
        assert (document["100%"], document['a "name"'], document["truth"]) == (whole, text, truth)
        assert (document["model"], document["version"]) == ("50% \\ ü", 3)


def test_dates_and_missing_ones() -> None:
    table = pd.DataFrame(
        {"day": [pd.Timestamp("2011-01-02T03:04"), pd.NaT]}, index=pd.Index([7, 8], name="id")
    )
    found = codecs.JsonEncoder().encode(table)
    assert found == [b'{"id": 7, "day": "2011-01-02T03:04:00"}', b'{"id": 8, "day": null}']


# ------------------------------------------------------------------------------------------------------- a stream
class Mock:
    """The broker inside the process, with topics of its own."""

    def __init__(self) -> None:
        self.kafka = services.KafkaService()
        self.kafka.start()
        self.producer = self.kafka.producer({"linger.ms": 0})
        self.topics = 0

    def fill(self, values: list[bytes | None], **record: Any) -> loops.StreamConfig:
        self.topics += 1
        config = loops.StreamConfig(
            *(f"{kind}-{self.topics}" for kind in ("in", "out", "dead")), max_refused_rate=1.0
        )
        for topic in (config.input_topic, config.output_topic, config.dead_letter_topic):
            self.producer.list_topics(topic, timeout=10)
        for number, value in enumerate(values):
            self.producer.produce(config.input_topic, value, b"%d" % number, **record)
        assert self.producer.flush(20) == 0
        return config

    def stream(
        self,
        config: loops.StreamConfig,
        answer: batches.Answering,
        *observers: loops.StreamObserver,
        **settings: Any,
    ) -> loops.Stream:
        consumer = self.kafka.consumer(
            {
                "group.id": config.input_topic, "auto.offset.reset": "earliest", "enable.auto.commit": False,
                "enable.partition.eof": True, "fetch.wait.max.ms": 10,
                "partition.assignment.strategy": "cooperative-sticky",
            }
        )  # fmt: skip
        config = loops.StreamConfig(**(vars(config) | settings))
        delivery = deliveries.AtLeastOnce(
            self.kafka.producer({"delivery.report.only.error": True}), consumer, 10.0
        )
        return loops.open_stream(config, consumer, delivery, answer, logger, observers)

    def read(self, topic: str, count: int) -> list[Any]:
        consumer = self.kafka.consumer(
            {"group.id": f"reads-{topic}", "auto.offset.reset": "earliest"}
        )
        consumer.subscribe([topic])
        found: list[Any] = []
        deadline = time.monotonic() + 120
        while len(found) < count and time.monotonic() < deadline:
            found += [each for each in consumer.consume(1_000, 0.2) if each.error() is None]
        found += [
            each for each in consumer.consume(10, 0.5) if each.error() is None
        ]  # and there is no other one
        consumer.close()
        return found


@pytest.fixture(scope="module")
def mock() -> Iterator[Mock]:
    made = Mock()
    yield made
    made.kafka.stop()


class Seen(loops.StreamObserver):
    """Keeps the batches, and reacts to what happens."""

    def __init__(
        self, react: Callable[[], object] = bool, on_tick: Callable[[], object] = bool
    ) -> None:
        self.batches: list[loops.Delivered] = []
        self.react, self.on_tick = react, on_tick

    def delivered(self, batch: loops.Delivered) -> None:
        self.batches.append(batch)
        self.react()

    def tick(self, lag: dict[int, int]) -> None:
        self.on_tick()


def echo(values: list[bytes | None]) -> list[deadletters.Outcome]:
    return [
        deadletters.Rejected("it is bad") if value is None or value.startswith(b"bad") else value
        for value in values
    ]


def test_answers_and_dead_letters_say_where_they_come_from(mock: Mock) -> None:
    values = [b"good", b"bad \xff\x00", None, b"good too"]
    config = mock.fill(values, headers=[("trace", b"\x00\x01"), ("trace", b"twice")])
    seen = Seen()
    stream = mock.stream(config, echo, seen, max_messages=4)
    begun = time.time()
    assert stream.run() == "4 records are done"
    answers = {each.key(): each for each in mock.read(config.output_topic, 2)}
    letters = {each.key(): each for each in mock.read(config.dead_letter_topic, 2)}
    assert {key: each.value() for key, each in answers.items()} == {
        b"0": b"good",
        b"3": b"good too",
    }
    assert {key: each.value() for key, each in letters.items()} == {
        b"1": b"bad \xff\x00",
        b"2": None,
    }, "untouched"
    for message in [*answers.values(), *letters.values()]:
        assert message.headers()[:2] == [("trace", b"\x00\x01"), ("trace", b"twice")]
        headers = dict(message.headers())
        assert headers["source.topic"].decode() == config.input_topic
        assert int(headers["source.partition"]) in range(4)
        assert (
            begun - 60
            < int(headers["source.timestamp"]) / 1000
            < int(headers["scored.timestamp"]) / 1000 + 1
        )
        assert headers.get("dead.reason") == (b"it is bad" if message.key() in letters else None)
    assert sum(each.records for each in seen.batches) == stream.outlet.delivered == 4
    assert sorted(reason for each in seen.batches for _, reason in each.dead_letters) == [
        "it is bad",
        "it is bad",
    ]
    assert all(len(each.latencies) == each.records for each in seen.batches)


@pytest.mark.parametrize("size", [1, 7, 1_000])
def test_a_batch_has_at_most_so_many_records(mock: Mock, size: int) -> None:
    config = mock.fill([b"%d" % number for number in range(40)])
    sizes: list[int] = []

    def count(values: list[bytes | None]) -> list[deadletters.Outcome]:
        sizes.append(len(values))
        return echo(values)

    mock.stream(config, count, batch_size=size, max_messages=40, batch_wait=0.2).run()
    assert sum(sizes) == 40
    assert max(sizes) <= size
    assert {each.value() for each in mock.read(config.output_topic, 40)} == {
        b"%d" % number for number in range(40)
    }


def test_an_error_of_who_answers_ends_the_stream(mock: Mock) -> None:
    def fail(values: list[bytes | None]) -> list[deadletters.Outcome]:
        raise errors.ModelError("no version answers")

    with pytest.raises(errors.ModelError, match="no version answers"):
        mock.stream(mock.fill([b"x"]), fail).run()


def test_a_batch_that_is_given_up_is_done_again(mock: Mock) -> None:
    config = mock.fill([b"%d" % number for number in range(30)])
    stream = mock.stream(config, echo, batch_size=10, max_messages=30)
    deliver, failures = stream.outlet.delivery.deliver, [0]

    def stumble(*arguments: Any) -> None:
        if failures[0] < 3:
            failures[0] += 1
            raise deliveries.BatchAborted("the broker thinks", unsure=failures[0] == 2)
        deliver(*arguments)

    stream.outlet.delivery.deliver = stumble  # type: ignore[method-assign]
    assert stream.run() == "30 records are done"
    assert failures == [3]
    found = [each.value() for each in mock.read(config.output_topic, 30)]
    assert sorted(found, key=int) == [b"%d" % number for number in range(30)], "each once"


def test_a_batch_whose_confirmation_is_lost_is_counted_and_not_answered_again(mock: Mock) -> None:
    config = mock.fill([b"%d" % number for number in range(27)] + [b"bad"] * 3)
    seen = Seen()
    stream = mock.stream(config, echo, seen, batch_size=10, max_messages=30)
    deliver, lost = stream.outlet.delivery.deliver, list[str]()

    def lose_confirmation(*arguments: Any) -> None:
        deliver(*arguments)
        lost.append("commit_transaction did not return")
        raise deliveries.BatchAborted(lost[-1], unsure=True)

    stream.outlet.delivery.deliver = lose_confirmation  # type: ignore[method-assign]
    assert stream.run() == "30 records are done"
    assert sum(batch.records for batch in seen.batches) == stream.outlet.delivered == 30
    assert sum(len(batch.dead_letters) for batch in seen.batches) == 3
    assert len(lost) == len(seen.batches), "no batch was answered again"
    found = [each.value() for each in mock.read(config.output_topic, 27)]
    assert sorted(found, key=int) == [b"%d" % number for number in range(27)], "each once"


@pytest.mark.parametrize("slow", [0.0, 0.3])
def test_a_rebalance_reads_nothing_twice(mock: Mock, slow: float) -> None:
    """One partition goes while a batch is answered, the next one waits, and a third is on its way."""
    config = mock.fill([b"%d" % number for number in range(400)])
    gone: set[int] = set()

    def answer(values: list[bytes | None]) -> list[deadletters.Outcome]:
        time.sleep(0.02 + slow / 10)
        return echo(values)

    seen = Seen(
        on_tick=lambda: (
            stream.stop() if len(gone) == 2 and sum(stream.guard.lag.values()) == 0 else None
        )
    )
    stream = mock.stream(config, answer, seen, batch_size=20, tick=0.1, batch_wait=0.005)
    intake = stream.intake
    consume, calls = intake.consumer.consume, [0]

    class Consumer:
        """Calls back in the middle of `consume`, as a rebalance does."""

        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

        def consume(self, most: int, timeout: float) -> list[Any]:
            messages: list[Any] = consume(min(most, 7), timeout)
            calls[0] += 1
            print(calls, len(intake.waiting), len(messages), stream.worker.is_busy())
            if intake.waiting and messages and calls[0] > 5 and len(gone) < 2:
                partition = min({each.partition for each in real.assignment()})
                gone.add(partition)
                stream.rebalances.on_revoke(real, [TopicPartition(config.input_topic, partition)])
                real.incremental_unassign([TopicPartition(config.input_topic, partition)])
            return messages

    real = intake.consumer
    intake.consumer = intake.offsets.consumer = Consumer()  # type: ignore[assignment]
    stream.run()
    sources = [
        (dict(each.headers())["source.partition"], dict(each.headers())["source.offset"])
        for each in mock.read(config.output_topic, stream.outlet.delivered)
    ]
    assert len(sources) == len(set(sources)) == stream.outlet.delivered, "nothing twice"
    kept = [source for source in sources if int(source[0]) not in gone]
    assert len(kept) == sum(
        real_end
        for partition, real_end in _ends(mock, config.input_topic).items()
        if partition not in gone
    ), "and of the partitions that stayed, everything"


def test_a_partition_that_went_while_it_was_paused_is_read_when_it_comes_back(mock: Mock) -> None:
    config = mock.fill([b"%d" % number for number in range(30)])
    stream = mock.stream(config, echo)
    intake, consumer = stream.intake, stream.intake.consumer
    for _ in range(2):
        stream.rebalances.subscribe(config.input_topic)
        deadline = time.monotonic() + 60
        while not intake.waiting and time.monotonic() < deadline:
            intake.read(10, 0.2)
        assert intake.waiting
        consumer.pause(consumer.assignment())
        consumer.unsubscribe()
        while intake.assigned:
            intake.read(10, 0.2)
    stream.worker.close()
    consumer.close()


def _ends(mock: Mock, topic: str) -> dict[int, int]:
    consumer = mock.kafka.consumer({"group.id": "ends"})
    partitions = mock.producer.list_topics(topic, timeout=10).topics[topic].partitions
    ends = {
        each: consumer.get_watermark_offsets(TopicPartition(topic, each), timeout=10)[1]
        for each in partitions
    }
    consumer.close()
    return ends


def test_asked_to_stop_it_finishes_what_it_has(mock: Mock) -> None:
    config = mock.fill([b"%d" % number for number in range(200)])
    seen = Seen(react=lambda: stream.stop())
    stream = mock.stream(
        config, lambda values: (time.sleep(0.05), echo(values))[1], seen, batch_size=20
    )
    assert stream.run() == "asked to stop"
    assert 0 < stream.outlet.delivered < 200
    assert len(mock.read(config.output_topic, stream.outlet.delivered)) == stream.outlet.delivered


# ------------------------------------------------------------------------------------------------------- dead letters
class Record:
    """A record that a consumer hands out."""

    def __init__(
        self, key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes | None]] | None
    ) -> None:
        self.parts = key, value, headers

    def key(self) -> bytes | None:
        return self.parts[0]

    def value(self) -> bytes | None:
        return self.parts[1]

    def headers(self) -> list[tuple[str, bytes | None]] | None:
        return self.parts[2]

    def partition(self) -> int:
        return 3

    def offset(self) -> int:
        return 2**62

    def timestamp(self) -> tuple[int, int]:
        return 1, 2**60

    def error(self) -> None: ...


LENGTHS = st.sampled_from([0, 1, 100, 3_000, 4_000, 4_096, 9_000])
PARTS = st.none() | LENGTHS.map(lambda length: b"x" * length)
PAIRS = st.lists(st.tuples(TEXTS, PARTS), max_size=3)


@given(
    PARTS,
    PARTS,
    st.none() | PAIRS,
    st.text(max_size=2_000) | LENGTHS.map(lambda length: b"y" * length),
)
def test_nothing_is_larger_than_its_topic_takes(
    key: bytes | None, value: bytes | None, headers: Any, answer: str | bytes
) -> None:
    config = loops.StreamConfig("i" * 249, "o", "d", output_limit=4_096, dead_letter_limit=4_096)
    scored: deadletters.Outcome = (
        deadletters.Rejected(answer) if isinstance(answer, str) else answer
    )
    (record,), dead_letters = deadletters.outgoing(config, [(Record(key, value, headers), scored)])
    size = (
        61
        + 36
        + len(record.key or b"")
        + len(record.value or b"")
        + deadletters._length(record.headers)
    )
    assert size <= 4_096
    assert len(dead_letters) == (record.topic == "d")
    own = dict(record.headers)
    assert own["source.offset"] == b"%d" % 2**62
    if record.topic == "o":
        assert (record.key, record.value) == (key, answer)
        return
    parts = [name for name in own.get("dead.cut", b"").decode().split(", ") if name]
    whole = {
        "value": record.value == value,
        "key": record.key == key,
        "headers": record.headers[: len(headers or [])] == (headers or []),
    }
    assert all(whole[name] == (name not in parts) for name in whole)
    if parts and value is not None:
        assert (own["dead.bytes"], own["dead.sha256"]) == (
            b"%d" % len(value),
            hashlib.sha256(value).hexdigest().encode(),
        )


# ------------------------------------------------------------------------------------------------------- topics
class Admin:
    """Answers at once, as it is told."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    def describe_topics(self, topics: Any, request_timeout: float) -> dict[str, Any]:
        answer: Any = concurrent.futures.Future()
        found = self.answers.pop(0)
        answer.set_exception(found) if isinstance(found, Exception) else answer.set_result(found)
        return {"t": answer}


def described(identity: str, *leaders: object) -> Any:
    partitions = [
        types.SimpleNamespace(id=number, leader=leader) for number, leader in enumerate(leaders)
    ]
    return types.SimpleNamespace(topic_id=identity, partitions=partitions)


def test_what_is_wrong_with_a_topic_is_at_hand() -> None:
    away = KafkaException(KafkaError(KafkaError._TIMED_OUT))
    gone = KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART))
    admin: Any = Admin(
        described("1", "a", None, None), away, gone, described("1", "a"), described("2")
    )
    watch = watches.TopicWatch(admin, ["t"], 0.0)
    troubles = []
    for _ in range(5):
        watch.look()
        watch.asked, answers = {}, watch.asked
        try:
            watch._read(answers)
            troubles.append(watch.trouble)
        except errors.ServiceError as error:
            troubles.append(str(error))
    assert "partition 1, 2 of the topic 't' has no leader" in troubles[0]
    assert "'t' cannot be looked up" in troubles[1]
    assert "'t' does not exist any more" in troubles[2], "which here is after no time at all"
    assert troubles[3] == ""
    assert "'t' was deleted and created again" in troubles[4]


def test_a_cluster_that_does_not_answer_is_told_from_one_that_was_not_asked() -> None:
    admin: Any = Admin(described("1", "a"), described("1", "a"))
    watch = watches.TopicWatch(admin, ["t"], 5.0)
    watch.answered_at -= 100
    assert watch.is_answered(), "nobody has asked"
    watch.look()
    assert watch.is_answered(), "it was asked just now"
    assert watch.unanswered is not None
    watch.unanswered -= 11
    assert not watch.is_answered()
    watch.look()
    assert watch.is_answered()
    assert watch.unanswered is None


# ------------------------------------------------------------------------------------------------------- errors
class Producer:
    """Fails as it is told; what cannot be caused on a broker."""

    def __init__(self, failure: Callable[[], None]) -> None:
        self.failure, self.aborted, self.made = failure, 0, 0

    def init_transactions(self, timeout: float) -> None:
        self.made += 1

    def begin_transaction(self) -> None: ...

    def flush(self, timeout: float) -> int:
        return 0

    def send_offsets_to_transaction(self, *arguments: Any) -> None: ...

    def commit_transaction(self, timeout: float) -> None:
        self.failure()

    def abort_transaction(self, timeout: float) -> None:
        self.aborted += 1


class Consumer:
    def consumer_group_metadata(self) -> bytes:
        return b""


def failing(*kinds: dict[str, Any]) -> tuple[deliveries.ExactlyOnce, Producer]:
    """Make a delivery whose commits fail, one after the other; after the last one they are good."""
    left = iter(kinds)

    def fail() -> None:
        if (kind := next(left, None)) is not None:
            raise KafkaException(KafkaError(**kind))

    producer = Producer(fail)
    return deliveries.ExactlyOnce(lambda: producer, Consumer(), 0.1), producer  # type: ignore[arg-type,return-value]


def test_retriable_asks_again() -> None:
    delivery, producer = failing(*[{"error": KafkaError._TIMED_OUT, "retriable": True}] * 2)
    delivery.deliver([], {0: 1}, "t")
    assert (producer.aborted, producer.made) == (0, 1)


def test_retriable_without_an_end_replaces_the_producer() -> None:
    delivery, producer = failing(*[{"error": KafkaError._TIMED_OUT, "retriable": True}] * 3)
    with pytest.raises(deliveries.BatchAborted) as given_up:
        delivery.deliver([], {0: 1}, "t")
    assert given_up.value.unsure, "only the broker knows whether it was committed"
    assert producer.made == 2


def test_abortable_gives_the_batch_up() -> None:
    delivery, producer = failing(
        {"error": KafkaError.ILLEGAL_GENERATION, "txn_requires_abort": True}
    )
    with pytest.raises(deliveries.BatchAborted) as given_up:
        delivery.deliver([], {0: 1}, "t")
    assert (given_up.value.unsure, producer.aborted) == (False, 1)


class Report:
    """What a consumer returns in the place of a record."""

    def __init__(self, kind: int, reason: str) -> None:
        self.kind, self.reason = kind, reason

    def error(self) -> KafkaError:
        return KafkaError(self.kind, self.reason)


def test_an_error_that_comes_with_a_rebalance_is_not_overlooked() -> None:
    """A consumer whose session has ended loses its partitions and gets a fatal error in the same call."""
    reports = [
        Report(KafkaError._TRANSPORT, "the broker went away"),
        Report(KafkaError._FATAL, "Static consumer fenced by other consumer"),
    ]

    class Losing:
        def consume(self, most: int, seconds: float) -> list[Report]:
            intake.forget({0})
            return [reports.pop(0)]

    guard = watches.ProgressGuard(watches.StallTimer(120, 20), logger)
    consumer: Any = Losing()
    positions = offsets.Offsets("hours", consumer, guard.check, logger)
    intake = intakes.Intake(consumer, positions, guard, logger)
    intake.read(10, 0.1)
    assert guard.trouble == "the broker went away"
    with pytest.raises(errors.ServiceError, match=r"fenced off: .* or the session ended"):
        intake.read(10, 0.1)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ({"error": KafkaError._FENCED, "fatal": True}, "fenced off"),
        ({"error": KafkaError.INVALID_PRODUCER_EPOCH}, "fenced off"),
        (
            {"error": KafkaError._FATAL, "reason": "Static consumer fenced by other consumer"},
            "fenced off",
        ),
        (
            {"error": KafkaError._FATAL, "reason": "out of order", "fatal": True},
            "cannot be delivered: out of order",
        ),
        ({"error": KafkaError.TOPIC_AUTHORIZATION_FAILED}, "cannot be delivered"),
        (
            {"error": KafkaError.TOPIC_AUTHORIZATION_FAILED, "txn_requires_abort": True},
            "access rights",
        ),
    ],
)
def test_final_ends_the_job(kind: dict[str, Any], words: str) -> None:
    delivery, _ = failing(kind)
    with pytest.raises(errors.ServiceError, match=words):
        delivery.deliver([], {0: 1}, "t")


def test_a_fatal_error_that_hides_in_another_one() -> None:
    """A delivery report that follows it makes the interpreter complain about the report instead."""

    def hide() -> None:
        try:
            raise KafkaException(KafkaError(KafkaError._FENCED, fatal=True))
        except KafkaException as error:
            raise SystemError("a result with an exception set") from error

    delivery = deliveries.ExactlyOnce(lambda: Producer(hide), Consumer(), 0.1)  # type: ignore[arg-type,return-value]
    with pytest.raises(errors.ServiceError, match="fenced off"):
        delivery.deliver([], {0: 1}, "t")


# ------------------------------------------------------------------------------------------------------- counters
def test_dead_letters_are_counted_over_the_last_thousand() -> None:
    rate = deadletters.DeadLetterRate(limit=0.1)
    rate.add(50, ["bad"] * 50)  # too few to say anything
    rate.add(950, [])
    for _ in range(20):
        rate.add(1_000, ["bad"] * 100)
    with pytest.raises(
        errors.DataError, match=r"101 of the last 1,000 records .* because of 'bad'"
    ):
        rate.add(1_000, ["bad"] * 101)


@given(st.lists(st.tuples(st.integers(1, 400), st.floats(0, 1)), max_size=30), st.floats(0, 1))
def test_the_rate_is_that_of_the_last_batches(
    batches: list[tuple[int, float]], limit: float
) -> None:
    rate, done = deadletters.DeadLetterRate(limit), [(0, 0)]
    for records, share in batches:
        done.append((records, round(records * share)))
        window: list[tuple[int, int]] = []
        while sum(count for count, _ in window) < 1_000 and len(window) < len(done):
            window.append(done[-1 - len(window)])
        total, refused = map(sum, zip(*window, strict=True))
        if total >= 100 and refused > limit * total:
            with pytest.raises(errors.DataError):
                rate.add(records, ["bad"] * done[-1][1])
            return
        rate.add(records, ["bad"] * done[-1][1])


def test_batches_shrink_and_grow_again() -> None:
    size = batches.BatchSize(64, 4.0, logger)
    for seconds, expected in [(1.5, 32), (1.5, 16), (0.5, 16), (0.1, 32), (0.1, 64), (0.1, 64)]:
        size.adapt(seconds)
        assert size.current == expected
    for _ in range(10):
        size.adapt(9.0)
    assert size.current == 1
