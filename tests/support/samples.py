"""A table whose blocks are known: rows lie in the order of time, so a range of time is a few blocks full of matches."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from broker.domain.model import Dataset, Dimension, Join, Measure, MeasureKind, RowPolicy
from broker.domain.query import AbsoluteRange, Condition, Operator, Query, TimeSelection
from broker.domain.values import DataType
from tests.support.pg import Connection

START = datetime(2024, 1, 1, tzinfo=UTC)
DAYS = 90
SPREAD = 1.1
"""Standard deviation of the amounts' logarithms."""

# Box and Muller's normal numbers; amounts are null in one of fifty rows.
_ROWS = """
INSERT INTO {table}
SELECT i, $1::timestamptz + $3::interval * (i::float8 / $2), (random() * 9)::int, floor(random() * 10)::int,
       CASE WHEN random() < 0.02 THEN NULL
            ELSE exp({spread} * sqrt(-2 * ln(1 - random())) * cos(2 * pi() * random()))::numeric(12, 2) END,
       1 + floor(random() * 5)::int, 'note ' || i
  FROM generate_series(0, $2::bigint - 1) AS i
"""
_SHOPS = """
CREATE TABLE IF NOT EXISTS shops AS SELECT i AS shop, 'region ' || i % 3 AS region FROM generate_series(0, 9) AS i
"""
_COLUMNS = """
  id bigint NOT NULL, at timestamptz NOT NULL, shop integer NOT NULL, kind integer NOT NULL,
  amount numeric(12, 2), quantity integer NOT NULL, note text NOT NULL
"""


async def make_events(
    connection: Connection, rows: int, table: str = "events", partitions: int = 0, seed: float = 0.5
) -> None:
    """Makes the table, as so many partitions by time where some are asked for, and the shops that it refers to."""
    tail = "PARTITION BY RANGE (at)" if partitions else ""
    await connection.execute(f"CREATE TABLE {table} ({_COLUMNS}) {tail}")
    step = timedelta(days=DAYS) / max(1, partitions)
    for i in range(partitions):
        ends = [f"'{(START + step * n).isoformat()}'" for n in (i, i + 1)]
        await connection.execute(
            f"CREATE TABLE {table}_{i} PARTITION OF {table} FOR VALUES FROM ({ends[0]}) TO ({ends[1]})"
        )
    await connection.execute(f"SELECT setseed({seed})")
    text = _ROWS.format(table=table, spread=SPREAD)
    await connection.execute(_SHOPS)
    await connection.execute("SET synchronous_commit = off")
    await connection.fetch(text, START, rows, timedelta(days=DAYS))
    await connection.execute(f"ANALYZE {table}")
    await connection.execute("ANALYZE shops")


def events(table: str = "events", policies: Iterable[RowPolicy] = ()) -> Dataset:
    """The dataset over the table."""
    dimensions = (
        Dimension("at", "events.at", DataType.TIMESTAMP, ("events",), time=True),
        Dimension("shop", "events.shop", DataType.INT64, ("events",)),
        Dimension("kind", "events.kind", DataType.INT64, ("events",)),
        Dimension("region", "shops.region", DataType.STRING, ("shops",)),
        Dimension("note", "events.note", DataType.STRING, ("events",)),
    )
    own = ("events",)
    measures = (
        Measure("events", MeasureKind.COUNT),
        Measure("rare", MeasureKind.COUNT, filter="events.id % 50000 = 7", tables=own),
        Measure("revenue", MeasureKind.SUM, "events.amount", DataType.DECIMAL, 2, tables=own),
        Measure("pieces", MeasureKind.SUM, "events.quantity", DataType.INT64, tables=own),
        Measure("balance", MeasureKind.SUM, "events.quantity - 3", DataType.INT64, tables=own),
        Measure("mean_amount", MeasureKind.AVG, "events.amount", DataType.DECIMAL, 2, tables=own),
        Measure("largest", MeasureKind.MAX, "events.amount", DataType.DECIMAL, 2, tables=own),
        Measure("per_piece", MeasureKind.RATIO, numerator="revenue", denominator="pieces"),
        Measure("means", MeasureKind.RATIO, numerator="mean_amount", denominator="pieces"),
    )
    return Dataset(
        "events",
        f"public.{table}",
        {d.name: d for d in dimensions},
        {m.name: m for m in measures},
        {"shops": Join("shops", "public.shops", "events.shop = shops.shop", "events")},
        tuple(policies),
        default_time="at",
        version="test",
    )


def days(first: int, count: int) -> TimeSelection:
    """A range of days of the table."""
    start = START + timedelta(days=first)
    return TimeSelection(range=AbsoluteRange(start, start + timedelta(days=count)))


KIND = Condition("kind", Operator.EQ, (3,))
"""One row in ten, anywhere."""


def uniform(*measures: str) -> Query:
    """A question for rows that lie anywhere."""
    return Query("events", measures, filter=KIND)


def clustered(*measures: str, first: int = 30, count: int = 9) -> Query:
    """A question for rows that lie in a few neighbouring blocks."""
    return Query("events", measures, time=days(first, count))
