"""The usual way to serve a rollup with a live tail, as a control: everything before a watermark from the rollup.

Each refresh rebuilds the last days, as materialized views with a refresh window do. Answers are compared with the table
in one snapshot, like those of the broker.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from random import Random

import asyncpg

from tests.bench.parts.moving import DAYS, START

SCHEMA = """
CREATE TABLE control (day timestamptz, region text, n bigint, revenue numeric);
CREATE TABLE control_watermark (at timestamptz);
"""
BUILD = """
INSERT INTO control
SELECT date_trunc('day', at, 'UTC'), region, count(*), sum(amount) FROM events
WHERE at >= $1 AND at < $2 GROUP BY 1, 2
"""
SPLIT = """
SELECT region, sum(n)::bigint AS n, sum(revenue) AS revenue FROM (
    SELECT region, n, revenue FROM control, control_watermark w WHERE day >= $1 AND day < $2 AND day < w.at
    UNION ALL
    SELECT region, 1, amount FROM events AS e, control_watermark AS w WHERE e.at >= $1 AND e.at < $2 AND e.at >= w.at
) AS both_parts GROUP BY 1 ORDER BY 1
"""
LIVE = """
SELECT region, count(*) AS n, sum(amount) AS revenue FROM events WHERE at >= $1 AND at < $2 GROUP BY 1 ORDER BY 1
"""
WATERMARK = START + timedelta(days=DAYS - 5)


@dataclass(slots=True)
class Control:
    """How often the split was compared, and how often it was wrong."""

    comparisons: int = 0
    mismatches: int = 0


@asynccontextmanager
async def control(dsn: str, seed: int) -> AsyncIterator[Control]:
    """Builds the rollup, and compares while the block runs."""
    connection = await asyncpg.connect(dsn)
    await connection.execute(SCHEMA)
    await connection.execute("INSERT INTO control_watermark VALUES ($1)", WATERMARK)
    await connection.execute(BUILD, START, WATERMARK)
    found = Control()
    task = asyncio.create_task(_compare(connection, Random(seed), found))
    try:
        yield found
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        connection.terminate()


async def _compare(connection: asyncpg.Connection[asyncpg.Record], random: Random, found: Control) -> None:
    while True:
        await asyncio.sleep(0.1)
        recent = WATERMARK - timedelta(days=7)
        async with connection.transaction():
            await connection.execute("DELETE FROM control WHERE day >= $1", recent)
            await connection.execute(BUILD, recent, WATERMARK)
        low = START + timedelta(days=random.randrange(DAYS - 30))
        high = low + timedelta(days=random.randrange(7, 30))
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            split = await connection.fetch(SPLIT, low, high)
            live = await connection.fetch(LIVE, low, high)
        found.comparisons += 1
        found.mismatches += [tuple(row) for row in split] != [tuple(row) for row in live]
