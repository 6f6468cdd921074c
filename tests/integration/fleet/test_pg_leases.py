"""Leases in a real PostgreSQL: they are granted as the model grants them, also when many ask at the same moment."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import replace

import asyncpg
import pytest

from broker.adapters.migrate import migrate
from broker.adapters.pg_leases import PgLeases
from broker.demo.embedded import EmbeddedPostgres
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.fleet import Beat, Reading, Usage
from broker.domain.pool import PoolName
from broker.policy.fleet_ledger import Ledger
from tests.conftest import FreshDatabase
from tests.support.fleet import member
from tests.support.pg import Connection, Databases


@pytest.fixture
async def fleet_dsn(fresh_database: FreshDatabase) -> str:
    dsn = await fresh_database()
    await migrate(dsn, "fleet")
    return dsn


@pytest.fixture
async def store(fleet_dsn: str) -> AsyncIterator[PgLeases]:
    leases = PgLeases(fleet_dsn, "test")
    yield leases
    await leases.aclose()


@pytest.fixture
async def beside(fleet_dsn: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(fleet_dsn)
    yield connection
    await connection.close()


def beat(
    name: str,
    target: int,
    *,
    backend: str = "primary",
    limit: float = 32.0,
    revision: int = 0,
    probe: bool = False,
) -> Beat:
    report = member(name, target, running=3, progress=0.5, usage=(Usage(PoolName.DASHBOARD, "a", 1.5),))
    return Beat(backend, report, target, limit, revision, probe, extra=2)


async def one(store: PgLeases, asked: Beat) -> Reading:
    return (await store.beat([asked]))[asked.backend]


async def test_it_grants_as_its_model_does(store: PgLeases) -> None:
    chance, model = random.Random(7), Ledger()
    seen: dict[str, Reading] = {}
    for _ in range(300):
        name, target = f"b{chance.randrange(5)}", chance.randrange(20)
        if chance.random() < 0.1:
            await store.leave(name)
            model.leave(name)
            continue
        revision = seen[name].revision if name in seen else 0
        # No second passes, so the limit stands and the first token is held throughout.
        asked = beat(name, target, limit=20.0, revision=revision, probe=chance.random() < 0.2)
        real, expected = await one(store, asked), model.beat(asked, 100.0)
        assert real.members[0] == expected.members[0]
        assert set(real.members) == set(expected.members)
        assert replace(real, members=(), turn=0) == replace(expected, members=(), turn=0)
        seen[name] = real


async def test_a_report_comes_back_as_it_was_told(store: PgLeases) -> None:
    told = beat("a", 5)
    await store.beat([told])
    assert (await one(store, beat("b", 5))).members[1].report == told.report


async def test_members_that_ask_at_the_same_moment_get_no_more_than_there_is(fleet_dsn: str) -> None:
    stores = [PgLeases(fleet_dsn, "test") for _ in range(8)]
    try:
        for round_ in range(20):
            asked = [store.beat([beat(f"b{i}", 32 - round_)]) for i, store in enumerate(stores)]
            granted = [reading["primary"].seats for reading in await asyncio.gather(*asked)]
            assert sum(granted) == 32
            for i in range(8):
                await stores[0].leave(f"b{i}")
    finally:
        await asyncio.gather(*(store.aclose() for store in stores))


async def test_a_lease_runs_out_and_the_limit_moves_by_the_clock_of_the_database(
    store: PgLeases, beside: Connection
) -> None:
    await store.beat([beat("a", 20)])
    first = await one(store, beat("b", 32))
    assert (first.seats, first.limit) == (12, 32.0)
    refused = await one(store, beat("b", 32, limit=10.0, revision=first.revision))
    assert refused.limit == 32.0
    await beside.execute("UPDATE broker.fleet_backend SET move_time = move_time - interval '1 second'")
    await beside.execute("UPDATE broker.fleet_member SET expire_time = clock_timestamp() WHERE member = 'a'")
    moved = await one(store, beat("b", 32, limit=10.0, revision=first.revision))
    assert (moved.limit, moved.revision, moved.seats) == (10.0, 2, 10)
    assert [leased.report.member for leased in moved.members] == ["b"]
    later = await one(store, beat("b", 32, limit=20.0, revision=first.revision))
    assert later.limit == 10.0


async def test_the_token_goes_on_when_its_time_is_over(store: PgLeases, beside: Connection) -> None:
    assert (await one(store, beat("a", 40, probe=True))).seats == 34
    assert not (await one(store, beat("b", 40, probe=True))).probing
    await beside.execute("UPDATE broker.fleet_backend SET probe_end_time = clock_timestamp()")
    assert (await one(store, beat("b", 40, probe=True))).probing
    assert not (await one(store, beat("a", 32))).probing


async def test_backends_and_fleets_have_nothing_to_do_with_each_other(
    store: PgLeases, fleet_dsn: str
) -> None:
    both = await store.beat([beat("a", 32), beat("a", 4, backend="replica", limit=8.0)])
    assert {name: (reading.seats, reading.limit) for name, reading in both.items()} == {
        "primary": (32, 32.0),
        "replica": (4, 8.0),
    }
    other = PgLeases(fleet_dsn, "another")
    try:
        assert (await one(other, beat("b", 32))).seats == 32
    finally:
        await other.aclose()


async def test_without_tables_it_says_what_to_do(fresh_database: FreshDatabase) -> None:
    store = PgLeases(await fresh_database(), "test")
    with pytest.raises(BrokerError, match="broker migrate") as caught:
        await store.beat([beat("a", 1)])
    assert caught.value.reason is ErrorReason.STORE_REJECTED
    await store.aclose()


async def test_a_role_without_rights_is_told_so(fleet_dsn: str, beside: Connection) -> None:
    role = f"reader_{fleet_dsn.rpartition('_')[2][:12]}"
    await beside.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'secret'")
    await beside.execute(f"GRANT USAGE ON SCHEMA broker TO {role}")
    store = PgLeases(f"postgresql://{role}:secret@{fleet_dsn.rpartition('@')[2]}", "test")
    try:
        with pytest.raises(BrokerError, match="own the schema") as caught:
            await store.beat([beat("a", 1)])
        assert caught.value.reason is ErrorReason.STORE_REJECTED
    finally:
        await store.aclose()
        await beside.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


async def test_a_database_that_takes_no_writes_is_said_to_need_them(
    fleet_dsn: str, databases: Databases
) -> None:
    await databases.make_read_only(fleet_dsn)
    store = PgLeases(fleet_dsn, "test")
    with pytest.raises(BrokerError, match="must be writable") as caught:
        await store.beat([beat("a", 1)])
    assert caught.value.reason is ErrorReason.STORE_REJECTED
    await store.aclose()


async def test_what_another_version_tells_is_counted_even_if_it_is_not_understood(
    store: PgLeases, beside: Connection
) -> None:
    await store.beat([beat("a", 20)])
    await beside.execute("""UPDATE broker.fleet_member SET report = '{"member": "a", "kind": "oracle"}'""")
    reading = await one(store, beat("b", 32))
    assert (reading.seats, len(reading.members)) == (12, 1)
    await beside.execute(
        """UPDATE broker.fleet_member SET report = jsonb_set(report, '{claims}', '[["tomorrow", 1, 1, 0]]')
        WHERE member = 'b'"""
    )
    (_, other) = (await one(store, beat("c", 1))).members
    assert (other.report.member, other.report.claims) == ("b", ())


async def test_a_member_that_holds_the_lock_stops_others_for_less_than_a_second_only(
    store: PgLeases, beside: Connection
) -> None:
    await store.beat([beat("a", 1)])
    async with beside.transaction():
        await beside.execute("SELECT * FROM broker.fleet_backend FOR UPDATE")
        with pytest.raises(BrokerError) as caught:
            await store.beat([beat("a", 1)])
        assert caught.value.reason is ErrorReason.STORE_UNAVAILABLE
    assert (await one(store, beat("a", 1))).seats == 1


async def test_it_comes_back_after_the_server_does_and_begins_anew_after_a_crash(
    own_postgres: EmbeddedPostgres,
) -> None:
    dsn = own_postgres.dsn("postgres")
    await migrate(dsn, "fleet")
    store = PgLeases(dsn, "test")
    try:
        await store.beat([beat("a", 20)])
        await asyncio.to_thread(own_postgres.stop, "immediate")
        with pytest.raises(BrokerError) as caught:
            await store.beat([beat("a", 20)])
        assert caught.value.reason is ErrorReason.STORE_UNAVAILABLE
        await asyncio.to_thread(own_postgres.start)
        reading = await one(store, beat("b", 32, limit=24.0))
        assert (reading.seats, reading.limit, len(reading.members)) == (24, 24.0, 1)
    finally:
        await store.aclose()
