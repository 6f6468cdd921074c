"""Rows of which every answer tells how old it is: a number among them grows, and when it grew is known.

An answer is honest when it holds everything that was committed by its ``as_of``, and says so when that is not now.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import asyncpg

from querybroker.v1 import answer_pb2, policy_pb2, query_pb2, query_service_pb2
from tests.bench.live import stamp
from tests.bench.parts.senders import DIMENSIONS
from tests.support.pg import GONE

TABLES = ("bench_marked", "bench_aged")
"""Of the first writers mark what they change; of the second nothing is known but age."""
PERIOD = 0.25
"""Seconds between two writes to each table."""
_MADE = """
CREATE TABLE {name} AS SELECT time_hour, carrier, origin, distance, 0::bigint AS tick FROM flights;
CREATE INDEX {name}_time ON {name} (time_hour);
ANALYZE {name};
"""
_TICK = "INSERT INTO {name} VALUES ('2013-07-01 12:00Z', 'ZZ', 'ZZZ', 0, $1)"
_START = datetime(2013, 1, 1, tzinfo=UTC)
_STALE = {
    answer_pb2.ANSWER_KIND_CACHE_STALE,
    answer_pb2.ANSWER_KIND_ROLLUP_STALE,
    answer_pb2.ANSWER_KIND_ESTIMATE,
}


def datasets() -> Mapping[str, object]:
    """The two tables as datasets; a rollup of the first is installed, so that changes are marked, and not built."""
    rows: dict[str, object] = {
        "default_time": "time_hour",
        "dimensions": DIMENSIONS,
        "measures": {
            "flights": "count",
            "miles": {"kind": "sum", "column": "distance", "type": "int64"},
            "tick": {"kind": "max", "column": "tick", "type": "int64"},
        },
    }
    rollup = {"marks": {"dimensions": ["carrier", "origin"], "measures": ["flights", "miles", "tick"]}}
    marked, aged = TABLES
    return {
        marked: {**rows, "table": f"public.{marked}", "rollups": rollup},
        aged: {**rows, "table": f"public.{aged}"},
    }


async def make_tables(connection: asyncpg.Connection) -> None:
    """The tables as they were before anything was written."""
    for name in TABLES:
        if await connection.fetchval("SELECT to_regclass($1)", name) is None:
            await connection.execute(_MADE.format(name=name))
        await connection.execute(f"DELETE FROM {name} WHERE carrier = 'ZZ'")


@dataclass
class Writer:
    """Writes to both tables now and then, and remembers when each number was committed; forgives a lost server."""

    dsn: str
    committed: dict[str, list[tuple[float, int]]] = field(default_factory=lambda: {t: [] for t in TABLES})

    async def run(self) -> None:
        """Goes on until it is cancelled."""
        connection, number = None, 0
        while True:
            number += 1
            try:
                async with asyncio.timeout(5.0):
                    if connection is None:
                        connection = await asyncpg.connect(self.dsn)
                    for name in TABLES:
                        await connection.execute(_TICK.format(name=name), number)
                        self.committed[name].append((time.time(), number))
            except GONE:
                connection = None
            await asyncio.sleep(PERIOD)

    def by(self, table: str, instant: float) -> int:
        """The greatest number that was committed by an instant."""
        found = self.committed[table]
        place = bisect_right(found, (instant, 1 << 62))
        return found[place - 1][1] if place else 0


@dataclass(frozen=True, slots=True)
class Panel:
    """A question over one of the tables."""

    table: str
    start: datetime
    end: datetime

    def request(self, max_staleness: float) -> bytes:
        """It as a dashboard of one panel, serialized."""
        bounds = query_pb2.AbsoluteTimeRange(start_time=stamp(self.start), end_time=stamp(self.end))
        query = query_pb2.Query(
            dataset=self.table,
            measures=["flights", "miles", "tick"],
            dimensions=["carrier", "origin"],
            time=query_pb2.TimeSelection(absolute=bounds),
        )
        policy = policy_pb2.AnswerPolicy()
        policy.max_staleness.FromTimedelta(timedelta(seconds=max_staleness))
        panel = query_service_pb2.Panel(query=query, policy=policy)
        return query_service_pb2.DashboardRequest(panels=[panel]).SerializeToString()


def panels(table: str, count: int, length: timedelta) -> Sequence[Panel]:
    """Different questions of a length that all hold the rows that are written."""
    middle = datetime(2013, 7, 1, 12, tzinfo=UTC)
    first = max(_START, middle - length + timedelta(hours=2))
    last = min(middle - timedelta(hours=1), _START + timedelta(days=365) - length)
    step = (last - first) / max(1, count)
    return [Panel(table, first + i * step, first + i * step + length) for i in range(count)]


@dataclass(frozen=True, slots=True)
class Seen:
    """An answer: when it came, what it says of itself, and the number that it holds."""

    at: float
    status: answer_pb2.AnswerStatus
    tick: int

    @property
    def as_of(self) -> float:
        """The instant that it claims to be of."""
        found = self.status.as_of
        return float(found.seconds + found.nanos / 1e9)

    @property
    def kind(self) -> str:
        """Its kind in short."""
        return answer_pb2.AnswerKind.Name(self.status.kind).removeprefix("ANSWER_KIND_").lower()

    @property
    def labelled(self) -> bool:
        """Whether what is stale is declared: degraded with its reasons, or being read again."""
        status = self.status
        declared = bool(status.reasons) and (status.degraded or status.degradation_level == 1)
        return declared if status.kind in _STALE else not status.degraded

    def honest(self, table: str, writer: Writer, sent: float, slack: float = 0.05) -> bool:
        """Whether it holds what was committed by its instant, and is not older than it says."""
        if not self.labelled or self.tick < writer.by(table, self.as_of - slack):
            return False
        staleness = self.status.staleness.seconds + self.status.staleness.nanos / 1e9
        return sent - self.as_of <= staleness + slack


def read(message: bytes, at: float) -> Seen | str:
    """The answer of a dashboard of one panel, or the reason of its error."""
    panel = query_service_pb2.DashboardResponse.FromString(message).panels[0]
    if panel.HasField("error"):
        return panel.error.message
    table = panel.table
    place = next(i for i, column in enumerate(table.schema) if column.name == "tick")
    return Seen(at, panel.status, max(table.columns.columns[place].int64_values.values, default=0))
