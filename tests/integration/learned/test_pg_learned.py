"""Learned state in a real PostgreSQL: saved, found again, added up, and never in the way."""

from __future__ import annotations

import logging

import asyncpg
import pytest

from broker.adapters.migrate import migrate
from broker.adapters.pg_learned import READ_STATES, PgLearned, scope_of
from broker.app.learned import Keeper, kept
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.request import Basis, RequestKind
from broker.policy.classify import Classifier, Run, Subject
from broker.policy.learned import VERSION
from broker.runtime.clock import SystemClock
from tests.conftest import FreshDatabase
from tests.support.pg import Databases

ASKED = Subject(RequestKind.EXPLORE, "asked")


@pytest.fixture
async def learned_dsn(fresh_database: FreshDatabase) -> str:
    dsn = await fresh_database()
    await migrate(dsn, "learned")
    return dsn


async def writers(store: PgLearned) -> list[str]:
    return [state.writer for state in await store.load(VERSION)]


async def age(dsn: str, writer: str, interval: str) -> None:
    """Makes a state older than it is."""
    connection = await asyncpg.connect(dsn)
    try:
        statement = f"UPDATE broker.learned SET save_time = now() - interval '{interval}' WHERE writer = $1"
        await connection.execute(statement, writer)
    finally:
        await connection.close()


def keeper(dsn: str, name: str, classifier: Classifier | None = None) -> Keeper:
    return Keeper(classifier or Classifier(), PgLearned(dsn, "s"), SystemClock(), name)


def taught(name: str = "asked") -> Classifier:
    classifier = Classifier()
    classifier.observe(Subject(RequestKind.EXPLORE, name), Run(0.5), 0.0)
    return classifier


async def test_every_process_has_a_state_of_its_own_and_replaces_it(learned_dsn: str) -> None:
    store = PgLearned(learned_dsn, "s")
    await store.save("a", VERSION, b"first", ())
    await store.save("b", VERSION, b"other", ())
    await store.save("a", VERSION, b"second", ())
    found = {state.writer: state.state for state in await store.load(VERSION)}
    assert found == {"a": b"second", "b": b"other"}
    assert all(state.age >= 0.0 for state in await store.load(VERSION))


async def test_states_of_other_databases_and_versions_are_not_found(learned_dsn: str) -> None:
    await PgLearned(learned_dsn, "s").save("a", VERSION, b"x", ())
    assert not await PgLearned(learned_dsn, "t").load(VERSION)
    assert not await PgLearned(learned_dsn, "s").load(VERSION + 1)


async def test_what_was_absorbed_is_dropped_unless_its_writer_is_still_at_work(learned_dsn: str) -> None:
    store = PgLearned(learned_dsn, "s")
    for name in ("gone", "at work", "unread"):
        await store.save(name, VERSION, b"x", ())
    await age(learned_dsn, "gone", "11 minutes")
    await age(learned_dsn, "unread", "11 minutes")
    await store.save("new", VERSION, b"x", ("gone", "at work"))
    assert set(await writers(store)) == {"new", "at work", "unread"}


async def test_old_states_are_neither_read_nor_kept(learned_dsn: str) -> None:
    store = PgLearned(learned_dsn, "s")
    await store.save("old", VERSION, b"x", ())
    await age(learned_dsn, "old", "31 days")
    assert not await store.load(VERSION)
    await store.save("new", VERSION, b"x", ())
    assert await writers(store) == ["new"]


async def test_of_many_states_the_newest_are_read(learned_dsn: str) -> None:
    store = PgLearned(learned_dsn, "s")
    for i in range(READ_STATES + 3):
        await store.save(str(i), VERSION, b"x", ())
    assert len(await store.load(VERSION)) == READ_STATES
    assert (await writers(store))[0] == str(READ_STATES + 2)


async def test_a_process_knows_what_the_one_before_it_has_learned(learned_dsn: str) -> None:
    async with kept(keeper(learned_dsn, "first", taught())):
        pass
    classifier = Classifier()
    async with kept(keeper(learned_dsn, "second", classifier)):
        found = classifier.classify(ASKED, SystemClock().monotonic())
    assert found.classification.basis is Basis.HISTORY
    assert found.quantiles.p50 == pytest.approx(0.5, rel=0.05)


async def test_several_processes_add_up(learned_dsn: str) -> None:
    for name in ("one", "two"):
        await keeper(learned_dsn, name, taught(name)).save()
    classifier = Classifier()
    await keeper(learned_dsn, "third", classifier).load()
    assert {name for name, _ in classifier.histories} == {"one", "two"}


async def test_a_damaged_state_is_left_aside_with_a_warning(
    learned_dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    await PgLearned(learned_dsn, "s").save("broken", VERSION, b"nonsense", ())
    await keeper(learned_dsn, "sound", taught()).save()
    classifier = Classifier()
    await keeper(learned_dsn, "new", classifier).load()
    assert len(classifier.histories) == 1
    assert [r.levelno for r in caplog.records if "broken" in r.getMessage()] == [logging.WARNING]


async def test_without_its_table_nothing_is_kept_and_the_log_says_so_once(
    fresh_database: FreshDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    classifier = taught()
    nowhere = keeper(await fresh_database(), "a", classifier)
    async with kept(nowhere):
        await nowhere.save()
    warnings = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "broker migrate" in warnings[0].getMessage()
    assert len(classifier.histories) == 1


async def test_a_database_that_may_only_be_read_is_told_as_such(
    learned_dsn: str, databases: Databases
) -> None:
    await databases.make_read_only(learned_dsn)
    with pytest.raises(BrokerError) as raised:
        await PgLearned(learned_dsn, "s").save("a", VERSION, b"x", ())
    assert raised.value.reason is ErrorReason.STORE_REJECTED
    assert await PgLearned(learned_dsn, "s").load(VERSION) == []


async def test_a_database_that_is_away_is_no_reason_to_fail(caplog: pytest.LogCaptureFixture) -> None:
    async with kept(keeper("postgresql://nobody@127.0.0.1:1/none", "a")):
        pass
    assert [r.levelno for r in caplog.records if r.levelno >= logging.WARNING] == [logging.WARNING]


def test_a_scope_is_the_database_and_not_who_asks() -> None:
    one = scope_of("postgresql://ada:secret@db:5432/sales?sslmode=require")
    assert one == scope_of("postgresql://eve:other@db:5432/sales")
    assert one == scope_of("postgresql:///sales?host=db:5432&user=x")
    assert len({one, scope_of("postgresql://db:5432/other"), scope_of("postgresql://dc:5432/sales")}) == 3
    assert "secret" not in one
