"""A pool on a real streaming replica: what it has, and how far behind it says it is."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest

from broker.adapters.pg_store import PgStore
from broker.demo.embedded import DEMO_SETTINGS, EmbeddedPostgres
from broker.demo.install import programs, service_account
from broker.demo.supervised import Supervised
from broker.domain.model import Dataset, Measure, MeasureKind
from broker.domain.pool import PoolName
from broker.domain.query import Query
from broker.policy.reach import reach_of
from tests.integration.rollups.marks.conftest import sales
from tests.integration.rollups.marks.watching import plan, prepared, watching
from tests.integration.store.conftest import MakeStore, in_time, plan_of, rows_of
from tests.support.eventually import eventually

DATASET = Dataset("events", "events", {}, {"count": Measure("count", MeasureKind.COUNT)})
COUNT = plan_of(Query("events", measures=("count",)), DATASET)


@dataclass(frozen=True, slots=True)
class Pair:
    """Connections to a primary and to its standby, and a store whose job pool reads the standby."""

    primary: asyncpg.Connection[asyncpg.Record]
    standby: asyncpg.Connection[asyncpg.Record]
    store: PgStore


async def connected(dsn: str) -> asyncpg.Connection[asyncpg.Record]:
    """A connection, as soon as the server takes one."""
    found: list[asyncpg.Connection[asyncpg.Record]] = []

    async def attempt() -> bool:
        try:
            found.append(await asyncpg.connect(dsn))
        except (OSError, asyncpg.CannotConnectNowError):
            return False
        return True

    await eventually(attempt, "the standby accepts connections")
    return found[0]


@pytest.fixture
def standby_dsn(own_postgres: EmbeddedPostgres) -> Iterator[str]:
    """The address of a standby that streams from the test's own server."""
    with tempfile.TemporaryDirectory(prefix="pg-") as name, ExitStack() as stack:
        directory = Path(name)
        directory.chmod(0o755)  # PostgreSQL may run as another account
        account = service_account(os.geteuid())
        data, binaries = directory / "pgdata", programs(account, directory / "programs")
        source = ["-R", "-X", "stream", "-c", "fast", "-d", own_postgres.dsn()]
        subprocess.run([binaries / "pg_basebackup", "-D", data, *source], check=True, capture_output=True)
        for path in (data, *data.rglob("*")):
            shutil.chown(path, account.uid, account.gid)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        settings = {
            **DEMO_SETTINGS,  # a standby must allow as many connections as its primary
            "port": port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "off",
        }
        options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        log = stack.enter_context((directory / "log").open("ab"))
        server = Supervised([str(binaries / "postgres"), "-D", str(data), *options], account, log)
        stack.callback(server.close)
        yield own_postgres.dsn().replace(f":{own_postgres.port}/", f":{port}/")


@pytest.fixture
async def pair(
    own_postgres: EmbeddedPostgres, standby_dsn: str, make_store: MakeStore
) -> AsyncIterator[Pair]:
    """Both servers, and a store on both."""
    primary, standby = await asyncpg.connect(own_postgres.dsn()), await connected(standby_dsn)
    await primary.execute("CREATE TABLE events (n int)")

    async def arrived() -> bool:
        return bool(await standby.fetchval("SELECT to_regclass('events') IS NOT NULL"))

    await eventually(arrived, "the table arrives")
    yield Pair(primary, standby, await make_store(own_postgres.dsn(), replica=standby_dsn))
    for connection in (primary, standby):
        connection.terminate()


async def test_the_replica_answers_and_says_how_far_behind_it_is(pair: Pair) -> None:
    async def counted() -> tuple[object, float | None]:
        async with pair.store.snapshot(PoolName.JOB, in_time()) as snapshot:
            (result,) = await snapshot.read(COUNT)
            return rows_of(result.grouped)[0][0], snapshot.replica_lag

    async def caught_up() -> bool:
        return await counted() == (1, 0.0)

    await pair.primary.execute("INSERT INTO events VALUES (1)")
    await eventually(caught_up, "the row arrives, and nothing is behind")

    await pair.standby.execute("SELECT pg_wal_replay_pause()")
    await pair.primary.execute("INSERT INTO events VALUES (2)")

    async def behind() -> bool:
        count, lag = await counted()
        assert count == 1
        return lag is not None and lag > 0.0

    await eventually(behind, "the row that was received but not replayed counts as lag")
    _, first = await counted()
    _, second = await counted()
    assert first is not None
    assert second is not None
    assert second > first

    await pair.standby.execute("SELECT pg_wal_replay_resume()")

    async def again() -> bool:
        return await counted() == (2, 0.0)

    await eventually(again, "the replica catches up")

    async with pair.store.snapshot(PoolName.DASHBOARD, in_time()) as snapshot:
        assert snapshot.replica_lag is None


async def test_a_replica_without_its_primary_does_not_pretend(
    pair: Pair, own_postgres: EmbeddedPostgres
) -> None:
    await pair.primary.execute("INSERT INTO events VALUES (1)")
    await asyncio.to_thread(own_postgres.stop)

    async def behind() -> bool:
        async with pair.store.snapshot(PoolName.JOB, in_time()) as snapshot:
            return snapshot.replica_lag is not None and snapshot.replica_lag > 0.0

    await eventually(behind, "an unconnected replica is behind by the age of its last commit")


async def test_a_replica_that_starts_without_its_primary_is_not_as_young_as_its_start(
    own_postgres: EmbeddedPostgres, standby_dsn: str, make_store: MakeStore
) -> None:
    standby = await connected(standby_dsn)
    store = await make_store(own_postgres.dsn(), replica=standby_dsn)
    await asyncio.to_thread(own_postgres.stop)

    async def alone() -> bool:
        return not await standby.fetchval("SELECT EXISTS (SELECT FROM pg_stat_wal_receiver)")

    await eventually(alone, "the standby has lost its primary")
    before = await standby.fetchval("SELECT clock_timestamp()")
    async with store.snapshot(PoolName.JOB, in_time()) as snapshot:
        lag = snapshot.replica_lag
    known = await standby.fetchval(
        "SELECT coalesce(pg_last_xact_replay_timestamp(), checkpoint_time) FROM pg_control_checkpoint()"
    )
    assert lag is not None
    assert (
        before - timedelta(seconds=lag) <= known < await standby.fetchval("SELECT pg_postmaster_start_time()")
    )
    standby.terminate()


async def test_a_replica_that_was_promoted_is_told_of_once(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    def told() -> list[str]:
        return [record.getMessage() for record in caplog.records if "no standby" in record.getMessage()]

    async def read() -> bool:
        async with pair.store.snapshot(PoolName.JOB, in_time()) as snapshot:
            await snapshot.read(COUNT)
        return bool(told())

    assert not await read()
    await pair.standby.execute("SELECT pg_promote()")
    await eventually(read, "it says that it is no standby any more")
    assert await read()
    (said,) = told()
    assert "database.dsn" in said


async def test_a_promotion_begins_another_history_of_changes(
    own_postgres: EmbeddedPostgres, standby_dsn: str
) -> None:
    dataset = sales()
    asked = plan(dataset)
    await prepared(own_postgres.dsn(), dataset)
    first, second = watching(own_postgres.dsn(), dataset), watching(standby_dsn, dataset)
    standby = await connected(standby_dsn)

    primary = await connected(own_postgres.dsn())
    end = await primary.fetchval("SELECT pg_current_wal_lsn()::text")
    await primary.close()

    async def replayed() -> bool:
        return bool(await standby.fetchval("SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn", end))

    await eventually(replayed, "the standby has the tables")
    await first.poller.turn()
    await second.poller.turn()
    moment = first.moment(asked)
    assert await first.still(reach_of(asked), moment)
    assert not second.moment(asked), "a standby does not tell who is writing"
    await standby.execute("SELECT pg_promote()")
    assert not await second.still(reach_of(asked), moment), "what the primary took last may be missing here"
    assert await second.still(reach_of(asked), second.moment(asked))
    await standby.close()
    for watch in (first, second):
        watch.poller.close()
