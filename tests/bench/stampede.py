"""Ten thousand callers ask the same at once: how often the database is asked.

The question takes PostgreSQL a few seconds, and nothing of it is held. Scans of its table are counted by PostgreSQL
itself. It is asked of one broker, of two that share a Valkey, half of the callers each, and of two of which the one
that reads the answer is killed (``kill -9``) while it does; its callers then ask the other one, once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import asyncpg

from broker.demo.embedded import EmbeddedPostgres
from querybroker.v1 import query_pb2, query_service_pb2
from tests.bench import harness
from tests.bench.hit import PATH
from tests.bench.parts.flood import DEADLINE, Flood, connected
from tests.bench.parts.place import Place, broker_over, flights_database
from tests.support.eventually import eventually
from tests.support.valkey import valkey_server

CALLERS, WIDTH = 10_000, 400
"""Calls at once, and calls on one connection."""
SECONDS = 3
NAMES = ("first", "second")
TABLE = "stampede_rows"
SLOW = {
    "table": "public.stampede",
    "dimensions": {"k": {"type": "int64"}},
    "measures": {"total": {"kind": "sum", "sql": "v", "type": "int64"}},
}
DATASETS = {f"slow{i}": SLOW for i in range(3)}
"""One for every rush: what is held of the others answers nothing here."""
SETUP = f"""
DROP TABLE IF EXISTS {TABLE} CASCADE;
CREATE TABLE {TABLE} (k bigint, v bigint);
INSERT INTO {TABLE} VALUES (1, 7);
CREATE VIEW stampede AS SELECT k, v + length(pg_sleep({SECONDS})::text) AS v FROM {TABLE};
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of all calls: how often the table was read, how many calls failed, and the slowest, in seconds."""

    upstream: int
    failed: int
    slowest: float
    retried: int = 0


def question(number: int) -> bytes:
    """The same question for everybody, to the dataset of a number."""
    query = query_pb2.Query(dataset=f"slow{number}", measures=["total"], dimensions=["k"])
    return query_service_pb2.DashboardRequest(
        panels=[query_service_pb2.Panel(query=query)]
    ).SerializeToString()


async def scans(dsn: str) -> int:
    """How often the table has been read, as far as PostgreSQL was told."""
    connection = await asyncpg.connect(dsn)
    try:
        found = await connection.fetchval(
            "SELECT seq_scan FROM pg_stat_user_tables WHERE relname = $1", TABLE
        )
        return int(found or 0)
    finally:
        await connection.close()


async def quiet(dsn: str) -> None:
    """Waits until no question is being read and every backend has told of what it read."""
    connection = await asyncpg.connect(dsn)
    try:

        async def none() -> bool:
            busy = await connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%stampede%' AND state <> 'idle' "
                "AND pid <> pg_backend_pid()"
            )
            return int(busy) == 0

        await eventually(none, "the questions are read", DEADLINE)
        # A backend tells of its reads when its transaction ends, unless it told of others within the last second.
        await asyncio.sleep(1.5)
    finally:
        await connection.close()


async def rush(places: Sequence[Place], message: bytes) -> list[Flood]:
    """All calls at once, spread over the places."""
    floods = []
    for i in range(CALLERS // WIDTH):
        place = places[i % len(places)]
        floods.append(await connected(place.broker.address, PATH, message, WIDTH, once=True))
    return floods


async def settle(floods: Sequence[Flood]) -> tuple[int, int, float]:
    """Waits for all calls: how many failed and how many were lost, and the slowest."""
    await asyncio.gather(*(each.stop() for each in floods))
    slowest = max((took for each in floods for took in each.seconds), default=0.0)
    return sum(each.failures for each in floods), sum(each.lost for each in floods), slowest


async def stampede(dsn: str, places: Sequence[Place], number: int, *, kill: bool = False) -> Outcome:
    """One rush, and what came of it."""
    before = await scans(dsn)
    message, retried = question(number), 0
    floods = await rush(places, message)
    if kill:
        leader = await reading(dsn, places)
        leader.broker.process.kill()
        left = [place for place in places if place is not leader]
        failed, lost, slowest = await settle(floods)
        began = time.perf_counter()
        again = [
            await connected(left[0].broker.address, PATH, message, min(WIDTH, lost - at), once=True)
            for at in range(0, lost, WIDTH)
        ]
        refused, gone, later = await settle(again)
        failed, retried = failed + refused + gone, lost
        slowest = max(slowest, later + time.perf_counter() - began - later)
    else:
        failed, lost, slowest = await settle(floods)
        failed += lost
    await quiet(dsn)
    return Outcome(await scans(dsn) - before, failed, slowest, retried)


async def reading(dsn: str, places: Sequence[Place]) -> Place:
    """The place whose broker has the question read."""
    connection = await asyncpg.connect(dsn)
    named: list[str] = []
    try:

        async def found() -> bool:
            rows = await connection.fetch(
                "SELECT application_name FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%stampede%' "
                "AND pid <> pg_backend_pid()"
            )
            named[:] = [name for row in rows for name in NAMES if row[0].startswith(name)]
            return bool(named)

        await eventually(found, "somebody reads the question", DEADLINE)
    finally:
        await connection.close()
    return places[NAMES.index(named[0])]


@asynccontextmanager
async def brokers(
    postgres: EmbeddedPostgres, dsn: str, shared: str, names: Sequence[str]
) -> AsyncIterator[list[Place]]:
    """Brokers over the database that share a tier, if there is one."""
    async with AsyncExitStack() as stack:
        places = []
        for name in names:
            overrides = {
                "cache.memory": 64 * 1024 * 1024, "cache.soft_age": 60, "cache.shared": shared,
                "cache.prefix": "stampede", "database.application_name": name,
                "server.deadlines": {"dashboard": {"default": DEADLINE, "cap": DEADLINE}},
            }  # fmt: skip
            places.append(await stack.enter_async_context(broker_over(postgres, dsn, overrides, DATASETS)))
        yield places


async def measure(options: harness.Options) -> harness.Report:
    """The three rushes."""
    outcomes: dict[str, Outcome] = {}
    async with flights_database() as (postgres, dsn):
        connection = await asyncpg.connect(dsn)
        await connection.execute(SETUP)
        await connection.close()
        async with brokers(postgres, dsn, "", NAMES[:1]) as places:
            outcomes["one process"] = await stampede(dsn, places, 0)
        with valkey_server() as valkey:
            async with brokers(postgres, dsn, valkey.url, NAMES) as places:
                outcomes["two processes"] = await stampede(dsn, places, 1)
                outcomes["reader killed"] = await stampede(dsn, places, 2, kill=True)
    one, two, killed = outcomes.values()
    rows = [(name, o.upstream, o.failed, o.slowest, o.retried) for name, o in outcomes.items()]
    return harness.Report(
        {
            "upstream_one_process": one.upstream,
            "upstream_two_processes": two.upstream,
            "upstream_leader_killed": killed.upstream,
            "failed": sum(o.failed for o in outcomes.values()),
            "slowest_s": max(o.slowest for o in outcomes.values()),
        },
        {
            "upstream_one_process": harness.Goal("<=", 1),
            "upstream_two_processes": harness.Goal("<=", 1),
            "upstream_leader_killed": harness.Goal("<=", 2),
            "failed": harness.Goal("<=", 0),
        },
        [harness.Section(f"{CALLERS} calls", ("rush", "reads", "failed", "slowest s", "asked twice"), rows)],
    )


def main() -> None:
    """Runs it."""
    harness.run("stampede", __doc__, measure)
