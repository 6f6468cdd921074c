"""A table that never stands still: late rows, rows that move in time, corrections and deletions, several at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from random import Random

import asyncpg

START = datetime(2024, 1, 1, tzinfo=UTC)
DAYS = 120
WRITERS = 4
KINDS = ("alpha", "beta", "gamma", "delta", None)
REGIONS = ("north", "south", "east", "west", "é")
SCHEMA = """
CREATE TABLE kinds (kind text PRIMARY KEY, family text NOT NULL);
INSERT INTO kinds VALUES ('alpha', 'greek'), ('beta', 'greek'), ('gamma', 'late'), ('delta', 'late');
CREATE TABLE events (
    id bigint GENERATED ALWAYS AS IDENTITY,
    at timestamptz NOT NULL,
    kind text,
    region text NOT NULL,
    visitor int,
    amount numeric(12, 2),
    score double precision,
    PRIMARY KEY (id, at)
) PARTITION BY RANGE (at);
"""
MODEL = """
datasets:
  events:
    table: public.events
    primary_key: {id: int64}
    default_time: at
    joins:
      kinds: {table: public.kinds, on: kinds.kind = events.kind}
    dimensions:
      at: {type: timestamp, time: true}
      kind: string
      region: string
      family: {column: kinds.family, type: string}
      amount: {type: decimal, scale: 2}
    measures:
      events: {kind: count}
      rated: {kind: count, column: score}
      revenue: {kind: sum, column: amount, type: decimal, scale: 2}
      smallest: {kind: min, column: amount, type: decimal, scale: 2}
      largest: {kind: max, column: amount, type: decimal, scale: 2}
      mean: {kind: avg, column: amount, type: decimal, scale: 2}
      spread: {kind: stddev, column: score, type: double}
      latest: {kind: last, column: amount, type: decimal, scale: 2}
      each: {kind: ratio, numerator: revenue, denominator: events}
    rollups:
      fine:
        dimensions: [kind, region]
        measures: [events, rated, revenue, smallest, largest, mean, spread, latest]
        grains: [fifteen_minutes, day, month]
        refresh_every: 1
      families:
        dimensions: [family]
        measures: [events, revenue]
        grains: [hour, day]
        partition: week
        refresh_every: 1
      rows:
        dimensions: [kind, region]
        measures: [events, revenue, mean, largest]
        grains: [hour]
        storage: table
        refresh_every: 1
      north:
        dimensions: [kind, region]
        measures: [events, revenue]
        grains: [day]
        zone: America/New_York
        filter: ["region = north"]
        refresh_every: 1
"""


def partitions() -> list[str]:
    """One partition a month, and one for what is far off."""
    months = [datetime(2024, month, 1, tzinfo=UTC) for month in range(1, 8)]
    made = [
        f"CREATE TABLE events_{low:%m} PARTITION OF events FOR VALUES FROM ('{low:%F}') TO ('{high:%F}')"
        for low, high in pairwise(months)
    ]
    return [*made, "CREATE TABLE events_else PARTITION OF events DEFAULT", "CREATE INDEX ON events (at)"]


async def fill(connection: asyncpg.Connection[asyncpg.Record], rows: int, random: Random) -> None:
    """The table with its first rows."""
    await connection.execute(SCHEMA)
    for statement in partitions():
        await connection.execute(statement)
    await connection.copy_records_to_table(
        "events", records=[_row(random) for _ in range(rows)],
        columns=["at", "kind", "region", "visitor", "amount", "score"],
    )  # fmt: skip
    await connection.execute("ANALYZE")


def _row(random: Random) -> tuple[object, ...]:
    at = START + timedelta(seconds=random.randrange(DAYS * 86_400))
    return (
        at,
        random.choice(KINDS),
        random.choice(REGIONS),
        random.randrange(5_000),
        None if random.random() < 0.05 else random.randrange(-10_000, 100_000) / 100,
        None if random.random() < 0.1 else random.gauss(0, 10),
    )


@dataclass(slots=True)
class Writes:
    """What the writers have done so far, by kind of change."""

    counts: dict[str, int] = field(default_factory=dict)

    def add(self, kind: str) -> None:
        """One more transaction."""
        self.counts[kind] = self.counts.get(kind, 0) + 1


@asynccontextmanager
async def writers(dsn: str, seed: int, pace: float) -> AsyncIterator[Writes]:
    """Transactions on several connections, of 1 to 5 changes, held open now and then; ``pace`` is their mean gap."""
    writes = Writes()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_write(dsn, Random(seed + i), pace, writes)) for i in range(WRITERS)]
        try:
            yield writes
        finally:
            for task in tasks:
                task.cancel()


async def _write(dsn: str, random: Random, pace: float, writes: Writes) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        while True:
            await asyncio.sleep(random.expovariate(1 / pace))
            try:
                async with connection.transaction():
                    for _ in range(random.randint(1, 5)):
                        writes.add(await _change(connection, random))
                    if random.random() < 0.2:
                        await asyncio.sleep(random.uniform(0, 4 * pace))  # others commit meanwhile
            except (asyncpg.DeadlockDetectedError, asyncpg.SerializationError):
                writes.add("undone")
    finally:
        connection.terminate()


async def _change(connection: asyncpg.Connection[asyncpg.Record], random: Random) -> str:
    kind = random.choices(
        ["insert", "burst", "move", "correct", "delete", "family"], weights=[40, 5, 20, 20, 14, 0.05]
    )[0]
    found = await connection.fetchrow("SELECT id, at FROM events WHERE at >= $1 LIMIT 1", _row(random)[0])
    insert = "INSERT INTO events (at, kind, region, visitor, amount, score) VALUES ($1, $2, $3, $4, $5, $6)"
    if kind in ("insert", "burst") or found is None:
        count = 50 if kind == "burst" else 1
        await connection.executemany(insert, [_row(random) for _ in range(count)])
    elif kind == "move":
        sql = "UPDATE events SET at = $3 WHERE id = $1 AND at = $2"
        await connection.execute(sql, found["id"], found["at"], _row(random)[0])
    elif kind == "correct":
        sql = "UPDATE events SET amount = amount + 1, region = $3 WHERE id = $1 AND at = $2"
        await connection.execute(sql, found["id"], found["at"], random.choice(REGIONS))
    elif kind == "delete":
        await connection.execute("DELETE FROM events WHERE id = $1 AND at = $2", found["id"], found["at"])
    else:
        sql = "UPDATE kinds SET family = $1 WHERE kind = 'beta'"
        await connection.execute(sql, random.choice(["greek", "late"]))
    return kind
