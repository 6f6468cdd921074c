"""A table with rows around every change of a clock, and what any buckets of it hold, added up from the rows.

Every quarter of an hour within 27 hours of a change has a row, so that no day, and no bucket of an hour, can begin at
a wrong instant unseen. Near a change there are more: on the bucket's first microsecond, on its last, and between.
Elsewhere there is a row a day.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from random import Random

import asyncpg
import numpy as np

from tests.bench.parts.zone_clocks import FIRST, LAST
from tests.oracle.zones import DAY, SECOND, Instants, ZoneClock, micros, moment

QUARTER = 900 * SECOND
FAR, NEAR = 27 * 4, 3 * 4
"""Quarters of an hour on each side of a change with rows, and with more of them."""
BEYOND = timedelta(days=100)
"""There are rows so long before the first change and after the last."""
KINDS = ("alpha", "beta")
SCHEMA = "CREATE TABLE {} (id bigint PRIMARY KEY, at timestamptz NOT NULL, kind text NOT NULL, amount bigint NOT NULL)"
TABLES = ("quarters", "hours")
MODEL = """
datasets:
  quarters:
    table: public.quarters
    primary_key: {id: int64}
    default_time: at
    dimensions: &dimensions
      at: {type: timestamp, time: true}
      kind: string
    measures: &measures
      events: {kind: count}
      total: {kind: sum, column: amount, type: int64}
    rollups:
      by_quarter:
        dimensions: [kind]
        measures: [events, total]
        grains: [fifteen_minutes, day, month]
        partition: year
        refresh_every: 1
  hours:
    table: public.hours
    primary_key: {id: int64}
    default_time: at
    dimensions: *dimensions
    measures: *measures
    rollups:
      by_hour:
        dimensions: [kind]
        measures: [events, total]
        grains: [hour]
        partition: year
        refresh_every: 1
"""
"""Every zone is answered from ``by_quarter``; ``by_hour`` is the control that may not answer all."""

Bucket = tuple[int, int, int | None]
"""Its first instant, the number of its rows, and their amount; none without rows."""


class Rows:
    """The rows in the order of time, around changes within a range."""

    def __init__(
        self, changes: Iterable[int], random: Random, first: datetime = FIRST, last: datetime = LAST
    ) -> None:
        low, high = micros(first - BEYOND), micros(last + BEYOND)
        instants = {day + random.randrange(DAY) for day in range(low, high, DAY)}
        around: dict[int, bool] = {}
        for change in set(changes):
            middle = change // QUARTER
            for quarter in range(middle - FAR, middle + FAR):
                around[quarter] = around.get(quarter, False) or abs(quarter - middle) <= NEAR
        for quarter, near in around.items():
            begin, odd = quarter * QUARTER, random.randrange(1, 900) * SECOND
            instants.update((begin, begin + odd, begin + QUARTER - 1) if near else (begin + odd,))
        self.at: Instants = np.array(sorted(instants), dtype=np.int64)
        self.amounts: Instants = np.array([random.randrange(1_000_000) for _ in instants], dtype=np.int64)
        self._kinds = [random.choice(KINDS) for _ in instants]
        self._sums = np.concatenate([[0], np.cumsum(self.amounts)])

    def __len__(self) -> int:
        return len(self.at)

    async def load(self, connection: asyncpg.Connection[asyncpg.Record], year: int) -> None:
        """The tables with these rows; that of the control has those of one year."""
        low, high = (micros(datetime(y, 1, 1, tzinfo=UTC)) for y in (year, year + 1))
        for table in TABLES:
            records = [
                (number, moment(int(at)), kind, amount)
                for number, (at, kind, amount) in enumerate(
                    zip(self.at, self._kinds, self.amounts.tolist(), strict=True)
                )
                if table == "quarters" or low <= at < high
            ]
            await connection.execute(SCHEMA.format(table))
            await connection.copy_records_to_table(table, records=records)
            await connection.execute(f"CREATE INDEX ON {table} (at)")
        await connection.execute("ANALYZE")

    def buckets(self, clock: ZoneClock, low: int, high: int, grain: str, *, empty: bool) -> list[Bucket]:
        """The buckets of ``[low, high)``, without those that are empty unless wanted."""
        starts = clock.buckets(low, high, grain.upper())
        places = np.searchsorted(self.at, [low, *starts[1:], high])
        counts, sums = np.diff(places), np.diff(self._sums[places])
        return [
            (start, int(count), int(total) if count else None)
            for start, count, total in zip(starts, counts, sums, strict=True)
            if count or empty
        ]
