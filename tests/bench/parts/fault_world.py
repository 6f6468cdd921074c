"""Rows whose every sum tells which of them were read: they are numbered, and where each lies follows from its number.

Numbers are written one after the other, each to both tables in one transaction, so an answer is right when there is a
number up to which it holds all rows and none above. That number tells its age, whatever it says of itself.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import accumulate, pairwise

import asyncpg

TABLES = ("fault_marked", "fault_aged")
DATASETS = ("marked", "late", "aged")
"""Rollups of the first hold all days; of the second, over the same table, those from `MIDDLE`; the third has none."""
START = datetime(2024, 1, 1, tzinfo=UTC)
MONTHS = (0, 31, 60, 91)
DAYS = MONTHS[-1]
MIDDLE = 31
KINDS = 5
BASE = 3_000
MOST = BASE + 20_000
"""Rows at first, and at last."""
PERIOD = 0.03
"""Seconds between two writes."""
_MADE = """
CREATE TABLE {name} (n bigint PRIMARY KEY, at timestamptz NOT NULL, kind text NOT NULL);
CREATE INDEX {name}_at ON {name} (at);
"""
_WRITE = """
WITH other AS (INSERT INTO fault_aged VALUES ($1, $2, $3))
INSERT INTO fault_marked VALUES ($1, $2, $3)
"""


def day_of(number: int) -> int:
    """Days of a row after `START`: all days at first, then mostly the last three."""
    if number <= BASE or number % 8 == 0:
        return number * 7919 % DAYS
    return DAYS - 1 - number // 16 % 3


def row_of(number: int) -> tuple[int, datetime, str]:
    """The row of a number."""
    at = START + timedelta(days=day_of(number), minutes=number % 1440)
    return number, at, f"kind-{number % KINDS}"


def datasets() -> Mapping[str, object]:
    """What is asked of the two tables."""
    rows: dict[str, object] = {
        "default_time": "at",
        "dimensions": {"at": {"type": "timestamp", "time": True}, "kind": "string"},
        "measures": {
            "rows": "count",
            "total": {"kind": "sum", "column": "n", "type": "int64"},
            "last": {"kind": "max", "column": "n", "type": "int64"},
        },
    }
    rollup = {
        "dimensions": ["kind"],
        "measures": ["rows", "total", "last"],
        "grains": ["day", "month"],
        "refresh_every": 1,
    }
    begun = (START + timedelta(days=MIDDLE)).date().isoformat()
    marked, aged = (f"public.{name}" for name in TABLES)
    return {
        "marked": {**rows, "table": marked, "rollups": {"daily": rollup}},
        "late": {**rows, "table": marked, "rollups": {"begun": {**rollup, "start": begun}}},
        "aged": {**rows, "table": aged, "cache": {"soft_age": 0.5}},
    }


async def make_tables(connection: asyncpg.Connection) -> None:
    """Both tables with the first rows."""
    for name in TABLES:
        await connection.execute(_MADE.format(name=name))
        await connection.copy_records_to_table(name, records=[row_of(n) for n in range(1, BASE + 1)])
    await connection.execute("ANALYZE")


@dataclass
class Writer:
    """Writes numbers and remembers the instants of the wall clock before and after; survives whatever happens."""

    dsn: str
    begun: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)

    async def run(self) -> None:
        """Goes on until it is cancelled."""
        connection = None
        try:
            while len(self.ended) < MOST - BASE:
                try:
                    async with asyncio.timeout(5.0):
                        if connection is None:
                            connection = await asyncpg.connect(self.dsn)
                            await self._caught_up(connection)
                        await self._write(connection)
                except Exception:  # noqa: BLE001 - a server that dies ends calls with errors of many kinds, none matters
                    if connection is not None:
                        connection.terminate()
                    connection = None
                await asyncio.sleep(PERIOD)
        finally:
            if connection is not None:
                connection.terminate()

    async def _caught_up(self, connection: asyncpg.Connection) -> None:
        """What became of a number whose commit was not acknowledged."""
        if await connection.fetchval("SELECT max(n) FROM fault_aged") > BASE + len(self.ended):
            self.ended.append(time.time())

    async def _write(self, connection: asyncpg.Connection) -> None:
        if len(self.begun) == len(
            self.ended
        ):  # else it is tried again, and may be there since the first time
            self.begun.append(time.time())
        await connection.execute(_WRITE, *row_of(BASE + len(self.begun)))
        self.ended.append(time.time())

    def least(self, instant: float) -> int:
        """All numbers up to this one were committed by an instant."""
        return BASE + bisect_right(self.ended, instant)

    def most(self, instant: float) -> int:
        """None above this one was committed by an instant."""
        return BASE + bisect_right(self.begun, instant)


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where rows lie: days from one to before another, and a kind unless empty."""

    first: int
    end: int
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of an answer."""

    place: Place
    rows: int
    total: int
    last: int


@dataclass
class Truth:
    """What every answer should hold."""

    numbers: dict[Place, tuple[list[int], list[int]]] = field(default_factory=dict)
    cells: dict[tuple[int, str], list[int]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        for number in range(1, MOST + 1):
            self.cells[day_of(number), f"kind-{number % KINDS}"].append(number)

    def of(self, place: Place) -> tuple[list[int], list[int]]:
        """The numbers that will ever lie in a place, and their running sums, with that of none first."""
        if place not in self.numbers:
            kinds = [place.kind] if place.kind else [f"kind-{k}" for k in range(KINDS)]
            days = range(place.first, place.end)
            found = sorted(n for day in days for kind in kinds for n in self.cells[day, kind])
            self.numbers[place] = found, list(accumulate(found, initial=0))
        return self.numbers[place]

    def upto(self, row: Row) -> tuple[int, int] | None:
        """A row holds all up to a number that is one of these, the least and the greatest; None when no number fits."""
        found, sums = self.of(row.place)
        if not 0 < row.rows < len(found) or row.last != found[row.rows - 1] or row.total != sums[row.rows]:
            return None
        return found[row.rows - 1], found[row.rows] - 1


def common(intervals: Iterable[tuple[int, int]]) -> tuple[int, int] | None:
    """The numbers that lie in all intervals."""
    found = list(intervals)
    low, high = max(low for low, _ in found), min(high for _, high in found)
    return (low, high) if low <= high else None


def places(first: int, end: int, grain: str, *, by_kind: bool) -> Sequence[Place]:
    """The rows that an answer about some days has."""
    cuts = {"day": range(DAYS + 1), "month": MONTHS}.get(grain, ())
    edges = [first, *(cut for cut in cuts if first < cut < end), end]
    kinds = [f"kind-{k}" for k in range(KINDS)] if by_kind else [""]
    return [Place(low, high, k) for low, high in pairwise(edges) for k in kinds]
