"""The history of decisions: what is edited, removed or moved is noticed, and nobody is overtaken in silence."""

import contextlib
import multiprocessing
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydantic as pdt
import pytest

from model_name.core import errors
from model_name.io import decisions, services
from tests import servers

NAME = "bikes"


@pytest.fixture
def ledger(store: services.MlflowService) -> services.MlflowService:
    """A history of five decisions about three versions."""
    return five_decisions(store)


def five_decisions(store: services.MlflowService) -> services.MlflowService:
    store.start()
    client = store.client()
    client.create_registered_model(NAME)
    for _ in range(3):
        client.create_model_version(NAME, "file:///nowhere")
    for number, event in enumerate(["evaluated", "promoted", "refused", "promoted", "rolled back"]):
        decisions.record(client, decision(event, version=number % 3 + 1))
    return store


def decision(event: Any, version: int, **settings: Any) -> decisions.Decision:
    alias = "" if event == "evaluated" else "Champion"
    return decisions.Decision(
        event=event,
        registry_name=NAME,
        model_version=version,
        alias=alias,
        by="ann@lab",
        **settings,
    )


@contextlib.contextmanager
def database(store: services.MlflowService) -> Iterator[sqlite3.Connection]:
    path = store.resolved_tracking_uri.removeprefix("sqlite:///")
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        yield connection


WHERE = f"name = '{decisions.ledger_of(NAME)}'"


def fault(store: services.MlflowService) -> str:
    return decisions.read_history(store.client(), NAME).fault


def test_a_history_that_holds(ledger: services.MlflowService) -> None:
    history = decisions.read_history(ledger.client(), NAME)
    assert history.fault == ""
    assert [entry.decision.number for entry in history.entries] == [1, 2, 3, 4, 5]
    previous = ["", *(entry.sha256 for entry in history.entries)]
    assert [entry.decision.previous for entry in history.entries] == previous[:-1]


@pytest.mark.parametrize("removed", [1, 2, 3, 4, 5])
def test_an_entry_that_was_removed_is_named(ledger: services.MlflowService, removed: int) -> None:
    """Also the last one, which this machine has seen."""
    assert fault(ledger) == ""
    with database(ledger) as connection:
        for table in ("model_version_tags", "model_versions"):
            connection.execute(f"DELETE FROM {table} WHERE {WHERE} AND version = {removed}")
    assert fault(ledger).startswith(f"entry {removed} is missing or was replaced")
    with pytest.raises(errors.GateError, match="does not hold"):
        decisions.record(ledger.client(), decision("evaluated", version=1))


@pytest.mark.parametrize("edited", [1, 3, 5])
def test_an_entry_that_was_edited_is_named(ledger: services.MlflowService, edited: int) -> None:
    with database(ledger) as connection:
        connection.execute(
            f"UPDATE model_version_tags SET value = replace(value, 'ann@lab', 'bob@lab') WHERE {WHERE} "
            f"AND version = {edited}"
        )
    assert fault(ledger).startswith(f"entry {edited} is not what the key")


@pytest.mark.parametrize(("one", "other"), [(1, 2), (2, 3), (3, 5)])
def test_entries_that_changed_places_are_named(
    ledger: services.MlflowService, one: int, other: int
) -> None:
    with database(ledger) as connection:
        for before, after in ((one, 99), (other, one), (99, other)):
            connection.execute(
                f"UPDATE model_version_tags SET version = {after} WHERE {WHERE} AND version = {before}"
            )
    assert fault(ledger).startswith(f"entry {one} is missing or was replaced")


def test_an_entry_of_another_model_or_without_a_document(ledger: services.MlflowService) -> None:
    client = ledger.client()
    client.create_registered_model("cars")
    client.create_model_version("cars", "file:///nowhere")
    foreign = decision("promoted", version=1).model_copy(update={"registry_name": "cars"})
    decisions.record(client, foreign)
    [stored] = decisions._stored(client, "cars")
    made = client.create_model_version(
        decisions.ledger_of(NAME), "file:///nowhere", tags={"decision": str(stored.document)}
    )
    assert fault(ledger) == "entry 6 is about 'cars'"
    client.delete_model_version_tag(decisions.ledger_of(NAME), made.version, "decision")
    assert fault(ledger) == "entry 6 has lost its document"


def test_a_copy_of_an_earlier_entry_changes_nothing(ledger: services.MlflowService) -> None:
    """It looks like one that has lost a race: whoever appends it again moves nothing."""
    client = ledger.client()
    before = decisions.read_history(client, NAME)
    sealed = str(decisions._stored(client, NAME)[1].document)
    client.create_model_version(
        decisions.ledger_of(NAME), "file:///nowhere", tags={"decision": sealed}
    )
    assert decisions.read_history(client, NAME) == before


def test_a_model_cannot_be_called_like_the_history_of_another() -> None:
    """Two models would share what is written under that name."""
    with pytest.raises(
        pdt.ValidationError, match="names that end in -decisions belong to histories"
    ):
        services.MlflowService(registry_name=decisions.ledger_of(NAME))


def test_an_alias_that_was_moved_by_hand(ledger: services.MlflowService) -> None:
    client = ledger.client()
    client.set_registered_model_alias(NAME, "Champion", "3")
    assert decisions.settle(client, NAME) == (), "nobody has decided on it, so nothing is finished"
    history = decisions.read_history(client, NAME)
    [note] = decisions.undecided_aliases(client, history)
    assert note.startswith(
        "Champion was moved to version 3 without a decision; the last one (entry 5)"
    )


def test_an_alias_that_was_moved_back_by_hand_stays_there(ledger: services.MlflowService) -> None:
    """To the version before, or to none: both look like an interrupted promotion, and neither is one."""
    client = ledger.client()
    client.set_registered_model_alias(NAME, "Champion", "2")
    decisions.point(client, NAME, "Champion")
    first = decision("promoted", version=2).model_copy(update={"alias": "First"})
    second = decision("promoted", version=3, replaces=2)
    for made in (first, second):
        decisions.record(client, made)
        decisions.point(client, NAME, made.alias)
    client.delete_registered_model_alias(NAME, "First")
    client.set_registered_model_alias(NAME, "Champion", "2")
    assert decisions.settle(client, NAME) == ()
    aliases = client.get_registered_model(NAME).aliases
    assert {alias: int(version) for alias, version in aliases.items()} == {"Champion": 2}
    notes = decisions.undecided_aliases(client, decisions.read_history(client, NAME))
    assert "First was removed without a decision" in notes
    assert any(note.startswith("Champion was moved to version 2 without") for note in notes)


def test_a_promotion_that_ended_before_its_note_is_noted_by_the_next_command(
    ledger: services.MlflowService,
) -> None:
    client = ledger.client()
    last = decisions.record(client, decision("promoted", version=3, replaces=2))
    client.set_registered_model_alias(NAME, "Champion", "3")
    assert decisions.settle(client, NAME) == (), "the alias is where it should be"
    assert last.position in decisions.read_history(client, NAME).followed
    client.set_registered_model_alias(NAME, "Champion", "2")
    assert decisions.settle(client, NAME) == ()
    assert decisions.current_version(client, NAME, "Champion") == 2


def test_no_secret_is_signed(ledger: services.MlflowService) -> None:
    rule = decisions.RuleOutcome(rule="a", outcome="missed", why="https://ann:hush-1@h/x is away")
    made = decision(
        "refused", version=1, reason="see https://ann:hush-2@h/x?token=hush-3", rules=(rule,)
    )
    decisions.record(ledger.client(), made)
    with database(ledger) as connection:
        assert not [line for line in connection.iterdump() if "hush" in line]


# ------------------------------------------------------------------------------------------------------- many at once
def append_once(address: str, history: decisions.History, number: int) -> str:
    """Append a decision in a process of its own; tell how it ended."""
    client = services.MlflowService(tracking_uri=address, registry_uri=address).client()
    try:
        decisions.append(
            client, history, decision("promoted", version=1, reason=f"number {number}")
        )
    except decisions.OvertakenError as error:
        return str(error)
    return "first"


def race(address: str, client: Any, count: int, method: str = "fork") -> None:
    """Let many decide from the same history at the same moment."""
    before = decisions.read_history(client, NAME).require()
    work = [(address, before, number) for number in range(count)]
    with multiprocessing.get_context(method).Pool(count) as pool:
        ended = pool.starmap(append_once, work, chunksize=1)
    after = decisions.read_history(client, NAME).require()
    assert sorted(one == "first" for one in ended) == [False] * (count - 1) + [True]
    assert len(after.entries) == len(before.entries) + 1
    assert after.entries[-1].decision.reason == f"number {ended.index('first')}"
    assert all(
        "was decided at the same moment by ann@lab" in one for one in ended if one != "first"
    )


def test_of_ten_at_once_one_is_first(ledger: services.MlflowService) -> None:
    race(ledger.resolved_tracking_uri, ledger.client(), 10)


def test_of_ten_at_once_on_postgresql_one_is_first(postgresql: str) -> None:
    """No process inherits a connection: two processes cannot share one."""
    address = servers.new_database(postgresql)
    ledger = five_decisions(services.MlflowService(tracking_uri=address, registry_uri=address))
    multiprocessing.set_forkserver_preload([__name__])
    race(address, ledger.client(), 10, "forkserver")
    assert fault(ledger) == ""


def test_facts_of_many_at_once_are_all_recorded(
    ledger: services.MlflowService, tmp_path: Path
) -> None:
    client = ledger.client()
    with multiprocessing.get_context("fork").Pool(4) as pool:
        pool.starmap(record_once, [(ledger.resolved_tracking_uri, number) for number in range(8)])
    history = decisions.read_history(client, NAME).require()
    assert sorted(entry.decision.reason for entry in history.entries[5:]) == list("01234567")


def record_once(address: str, number: int) -> None:
    client = services.MlflowService(tracking_uri=address).client()
    decisions.record(client, decision("evaluated", version=1, reason=str(number)))


def test_through_a_server_one_is_first_too(ledger: services.MlflowService) -> None:
    with servers.mlflow(ledger) as address:
        client = services.MlflowService(tracking_uri=address, registry_uri=address).client()
        assert len(decisions.read_history(client, NAME).require().entries) == 5
        race(address, client, 4)
    assert fault(ledger) == ""
