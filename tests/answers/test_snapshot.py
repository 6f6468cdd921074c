"""The panels of a dashboard are read from one snapshot, however much is written meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
from google.protobuf import text_format

from querybroker.v1 import policy_pb2 as p
from querybroker.v1 import query_pb2 as q
from querybroker.v1 import query_service_pb2 as s
from querybroker.v1.query_service_pb2_grpc import QueryServiceStub
from tests.conftest import FreshDatabase
from tests.oracle.ask import channel_to
from tests.oracle.decode import from_table
from tests.support.server import running_broker

# Every panel parts the same flights in another manner: the sums of its last two columns must agree.
PANELS = (
    "",
    'dimensions: "carrier"',
    'dimensions: "airline"',
    'dimensions: "origin" dimensions: "haul"',
    'dimensions: "manufacturer" dimensions: "raining"',
    'dimensions: "month"',
    'dimensions: "dest_latitude"',
    """time { grain: TIME_GRAIN_QUARTER zone: "Asia/Kathmandu" gap_fill: true
           dates { start_date { year: 2013 month: 1 day: 1 } end_date { year: 2014 month: 2 day: 1 } } }""",
    """dimensions: "tailnum"
       calculations { top_n { count: 5 dimension: "tailnum" by: "miles" other: true } }""",
)
ENOUGH = 12
"""So many dashboards must have been overtaken by commits."""
TRIES = 400
COLUMNS = """year, month, day, dep_time, sched_dep_time, dep_delay, arr_time, sched_arr_time, arr_delay, carrier,
    flight, tailnum, origin, dest, air_time, distance, hour, minute, time_hour"""
WRITES = (
    f"INSERT INTO flights ({COLUMNS}) SELECT {COLUMNS} FROM flights WHERE id IN (SELECT id FROM flights LIMIT 40)",
    "DELETE FROM flights WHERE id IN (SELECT id FROM flights OFFSET 100 LIMIT 13)",
    "UPDATE flights SET distance = distance + 1, carrier = 'ZZ' WHERE id IN (SELECT id FROM flights LIMIT 30)",
    "UPDATE flights SET tailnum = NULL, month = month % 12 + 1 WHERE id IN (SELECT id FROM flights OFFSET 9 LIMIT 30)",
)


class Writer:
    """Inserts, deletes and updates, each round one commit, until told to stop."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        self.commits = 0
        self._connection = connection
        self._stop = asyncio.Event()
        self._committed = asyncio.Event()

    async def run(self) -> None:
        """Writes as fast as the database lets it."""
        while not self._stop.is_set():
            async with self._connection.transaction():
                for statement in WRITES:
                    await self._connection.execute(statement)
            self.commits += 1
            self._committed.set()

    async def committed(self) -> None:
        """Waits for the next commit."""
        self._committed.clear()
        await self._committed.wait()

    def stop(self) -> None:
        """Ends after the round under way."""
        self._stop.set()


@asynccontextmanager
async def writing(dsn: str) -> AsyncIterator[Writer]:
    connection = await asyncpg.connect(dsn)
    writer = Writer(connection)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(writer.run())
        try:
            yield writer
        finally:
            writer.stop()
    await connection.close()


def request(consistency: p.Consistency.ValueType) -> s.DashboardRequest:
    queries = [
        text_format.Parse(f'dataset: "flights" measures: "flights" measures: "miles" {text}', q.Query())
        for text in PANELS
    ]
    return s.DashboardRequest(
        panels=[s.Panel(query=query) for query in queries], policy=p.AnswerPolicy(consistency=consistency)
    )


def totals(panel: s.PanelAnswer) -> tuple[int, int]:
    """Flights and miles of all rows."""
    found = from_table(panel.table)
    names = [column.name for column in found.columns]
    places = names.index("flights"), names.index("miles")
    flights, miles = ([row[place] or 0 for row in found.rows] for place in places)
    return sum(flights), sum(miles)  # type: ignore[arg-type] # numbers


@pytest.mark.parametrize("consistency", [p.CONSISTENCY_SNAPSHOT, p.CONSISTENCY_BOUNDED])
async def test_panels_agree_while_another_connection_writes(
    fresh_database: FreshDatabase, tmp_path: Path, consistency: p.Consistency.ValueType
) -> None:
    dsn = await fresh_database(flights=True)
    jobs = await fresh_database()
    manager = running_broker(dsn, tmp_path, overrides={"jobs.dsn": jobs})
    broker = await asyncio.to_thread(manager.__enter__)
    overtaken, seen = 0, set()
    try:
        async with channel_to(broker.address) as channel, writing(dsn) as writer:
            stub = QueryServiceStub(channel)
            for _ in range(TRIES):
                await writer.committed()
                before = writer.commits
                answer = await stub.Dashboard(request(consistency), timeout=60)
                overtaken += writer.commits > before
                found = {totals(panel) for panel in answer.panels}
                assert len(found) == 1, [totals(panel) for panel in answer.panels]
                moments = [panel.status.as_of for panel in answer.panels]
                assert all(moment == answer.snapshot_time for moment in moments)
                seen |= found
                if overtaken >= ENOUGH:
                    break
    finally:
        await asyncio.to_thread(manager.__exit__, None, None, None)
    assert overtaken >= ENOUGH
    assert len(seen) >= ENOUGH
