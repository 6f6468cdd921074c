"""What the triggers that mark changes cost writers: the same inserts into the same table with and without them.

Two equal tables, one followed for a rollup; rounds alternate between them, so a slow moment of the machine hits both. A
ratio is the median time with triggers by the median time without. Inserts are of one row or of 1,000,
each a transaction of its own, by 1 writer and by 8; their times lie in the last two hours, or anywhere in a year for
`scattered`, the worst case: every row in a bucket of its own. Nothing waits for the disk, which would hide the cost.

Lock waits are looked for all the while that 8 writers insert with triggers: sessions that wait for another transaction.
Waits for room at the end of a table (`extend`) are shown apart; they are there without triggers too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random

import asyncpg

from broker.adapters.migrate import migrate
from broker.adapters.pg_rollup_database import open_rollup_database
from broker.adapters.pg_rollup_schema import PgRollupSchema
from broker.domain.model import Dataset, Dimension, Measure, MeasureKind
from broker.domain.rollup import Rollup
from broker.domain.values import DataType
from tests.bench import harness
from tests.bench.harness import Goal, Options, Report, Section
from tests.support.pg import Connection, temporary_server

NOW = datetime(2026, 1, 1, tzinfo=UTC)
WRITERS = 8
TABLE = """
CREATE TABLE {name} (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL, shop integer NOT NULL,
    amount numeric(12, 2) NOT NULL, quantity integer NOT NULL, note text
);
CREATE INDEX ON {name} (at);
"""
INSERT = """
INSERT INTO {name} (at, shop, amount, quantity, note)
SELECT t, 1 + s % 500, (s % 10000) / 100.0, s % 9, 'note ' || s FROM unnest($1::timestamptz[], $2::int[]) AS r (t, s)
"""
UPDATES = {
    "update of a measure": "UPDATE {name} SET amount = amount + 1 WHERE id BETWEEN $1 AND $1 + 999",
    "update of another column": "UPDATE {name} SET note = note || '.' WHERE id BETWEEN $1 AND $1 + 999",
}
WAITS = """
SELECT count(*) FILTER (WHERE wait_event <> 'extend'), count(*) FILTER (WHERE wait_event = 'extend')
FROM pg_stat_activity WHERE wait_event_type = 'Lock'
"""


@dataclass(frozen=True, slots=True)
class Load:
    """Inserts of so many rows by so many writers, ``statements`` by each of them in a round."""

    name: str
    rows: int
    writers: int
    statements: int
    window: timedelta = timedelta(hours=2)


LOADS = (
    Load("single", 1, 1, 20),
    Load("batch", 1_000, 1, 1),
    Load("scattered", 1_000, 1, 1, timedelta(days=365)),
    Load("single_8", 1, WRITERS, 20),
    Load("batch_8", 1_000, WRITERS, 1),
)


def main() -> None:
    harness.run("writecost", __doc__, measure)


def dataset() -> Dataset:
    """The followed table, with a rollup that reads all but the note."""
    dimensions = (
        Dimension("at", "tracked.at", DataType.TIMESTAMP, ("tracked",), time=True),
        Dimension("shop", "tracked.shop", DataType.INT64, ("tracked",)),
    )
    measures = (
        Measure("revenue", MeasureKind.SUM, "tracked.amount", DataType.DECIMAL, 2, tables=("tracked",)),
        Measure("pieces", MeasureKind.SUM, "tracked.quantity", DataType.INT64, tables=("tracked",)),
    )
    rollup = Rollup("by_shop", "tracked", "at", ("shop",), ("revenue", "pieces"))
    return Dataset(
        "tracked",
        "public.tracked",
        {d.name: d for d in dimensions},
        {m.name: m for m in measures},
        default_time="at",
        rollups={"by_shop": rollup},
    )


async def insert(connection: Connection, table: str, load: Load, rng: Random) -> None:
    """What one writer does in a round."""
    statement = await connection.prepare(INSERT.format(name=table))
    for _ in range(load.statements):
        times = [NOW - rng.random() * load.window for _ in range(load.rows)]
        await statement.fetch(times, [rng.randrange(1_000_000) for _ in range(load.rows)])


async def round_of(connections: Sequence[Connection], table: str, load: Load, rng: Random) -> float:
    """Milliseconds of a round by statement of each writer."""
    seeds = [Random(rng.random()) for _ in range(load.writers)]
    began = time.perf_counter()
    await asyncio.gather(*(insert(c, table, load, seed) for c, seed in zip(connections, seeds, strict=False)))
    return (time.perf_counter() - began) * 1e3 / load.statements


class Watcher:
    """Looks for sessions that wait for a lock, again and again."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.looks = self.waits = self.extending = 0

    async def look(self) -> None:
        """Until it is cancelled."""
        while True:
            waits, extending = await self._connection.fetchrow(WAITS) or (0, 0)
            self.looks, self.waits, self.extending = (
                self.looks + 1,
                self.waits + waits,
                self.extending + extending,
            )

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Looks while the block runs."""
        looking = asyncio.create_task(self.look())
        try:
            yield
        finally:
            looking.cancel()
            await asyncio.wait([looking])


async def measure(options: Options) -> Report:
    rounds = 50 if options.quick else 200
    rng = Random(1)
    with temporary_server() as server:
        async with AsyncExitStack() as stack:
            connections = [await asyncpg.connect(server.dsn()) for _ in range(WRITERS + 1)]
            for connection in connections:
                stack.push_async_callback(connection.close)
            *writers, other = connections
            for name in ("bare", "tracked"):
                await other.execute(TABLE.format(name=name))
            await migrate(server.dsn(), "rollups")
            database = await stack.enter_async_context(open_rollup_database(server.dsn()))
            await PgRollupSchema(database).install(dataset())
            return await _report(writers, other, rounds, rng)


async def _report(writers: Sequence[Connection], other: Connection, rounds: int, rng: Random) -> Report:
    watcher, metrics, rows = Watcher(other), {}, []
    for load in LOADS:
        bare, tracked = [], []
        for number in range(rounds + 1):
            own = await round_of(writers, "bare", load, rng)
            if load.writers > 1:
                async with watcher.watching():
                    with_marks = await round_of(writers, "tracked", load, rng)
            else:
                with_marks = await round_of(writers, "tracked", load, rng)
            if number:  # the first prepares plans
                bare.append(own)
                tracked.append(with_marks)
        rows.append(_row(f"{load.name.removesuffix('_8')}, {load.writers} writers", bare, tracked))
        metrics[f"{load.name}_ratio".replace("_8_ratio", "_ratio_8")] = rows[-1][3]
    for name, text in UPDATES.items():
        bare, tracked = await _updates(writers[0], text, rounds)
        rows.append(_row(name, bare, tracked))
    metrics["lock_waits"] = float(watcher.waits)
    title = f"milliseconds by statement, medians of {rounds} rounds"
    looks = Section(
        "sessions that wait, while 8 write with triggers",
        ("looks", "for a transaction", "to extend"),
        [(watcher.looks, watcher.waits, watcher.extending)],
    )
    goals = {"batch_ratio": Goal("<=", 1.5), "batch_ratio_8": Goal("<=", 1.5), "lock_waits": Goal("<=", 0)}
    return Report(metrics, goals, [Section(title, ("", "without", "with", "ratio"), rows), looks])


async def _updates(connection: Connection, text: str, rounds: int) -> tuple[list[float], list[float]]:
    found: dict[str, list[float]] = {"bare": [], "tracked": []}
    for number in range(rounds + 1):
        for name, times in found.items():
            statement = await connection.prepare(text.format(name=name))
            began = time.perf_counter()
            await statement.fetch(1 + 1000 * number)
            if number:
                times.append((time.perf_counter() - began) * 1e3)
    return found["bare"], found["tracked"]


def _row(name: str, bare: list[float], tracked: list[float]) -> tuple[str, float, float, float]:
    without, followed = harness.median(bare), harness.median(tracked)
    return name, without, followed, followed / without
