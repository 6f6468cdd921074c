"""Visits to sites, a small table with rollups of it, and what a rollup has to be equal to."""

from __future__ import annotations

from datetime import UTC, datetime
from random import Random

from broker.domain.model import Dataset, Dimension, Measure, MeasureKind
from broker.domain.query import Grain
from broker.domain.rollup import Rollup, Storage
from broker.domain.values import DataType
from tests.support.pg import Connection

FIRST, LAST = datetime(2024, 1, 3, tzinfo=UTC), datetime(2024, 3, 20, tzinfo=UTC)
"""Between them lie the visits, in three months."""
SQL = """
CREATE TABLE visits (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz, site text, spent numeric(12, 2)
);
CREATE INDEX visits_at ON visits (at);
"""
_OWN = ("visits",)
BY_SITE = Rollup(
    "by_site", "visits", "at", ("site",), ("visits", "spent"), (Grain.FIFTEEN_MINUTES, Grain.DAY)
)
AS_TABLE = Rollup(
    "as_table",
    "visits",
    "at",
    ("site",),
    ("visits", "spent"),
    (Grain.FIFTEEN_MINUTES,),
    storage=Storage.TABLE,
)


def dataset(*rollups: Rollup) -> Dataset:
    """The dataset with these rollups."""
    dimensions = (
        Dimension("at", "visits.at", DataType.TIMESTAMP, _OWN, time=True),
        Dimension("site", "visits.site", DataType.STRING, _OWN),
    )
    measures = (
        Measure("visits", MeasureKind.COUNT),
        Measure("spent", MeasureKind.SUM, "visits.spent", DataType.DECIMAL, 2, tables=_OWN),
    )
    return Dataset(
        "visits",
        "public.visits",
        {d.name: d for d in dimensions},
        {m.name: m for m in measures},
        primary_key=("id",),
        primary_key_types=(DataType.INT64,),
        default_time="at",
        rollups={rollup.name: rollup for rollup in rollups},
    )


async def fill(connection: Connection, count: int = 600) -> None:
    """Makes the table with visits at random."""
    rng, length = Random(3), LAST - FIRST
    await connection.execute(SQL)
    rows = [
        (FIRST + length * rng.random(), rng.choice("abc"), rng.randrange(10_000) / 100) for _ in range(count)
    ]
    await connection.executemany("INSERT INTO visits (at, site, spent) VALUES ($1, $2, $3::float8)", rows)


async def visit(connection: Connection, at: datetime, site: str = "a", spent: int = 1) -> None:
    """One more visit."""
    await connection.execute("INSERT INTO visits (at, site, spent) VALUES ($1, $2, $3)", at, site, spent)
