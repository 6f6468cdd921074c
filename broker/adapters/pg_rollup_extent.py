"""Which partitions of a rollup should exist: from its start, or the first row, to the last row."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlglot import exp

from broker.adapters.pg_rollup_database import SCAN_SECONDS, Connection
from broker.adapters.sql.compiler import SqlCompiler
from broker.adapters.sql.types import cast, typed, wire
from broker.adapters.sql.values import DIALECT
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.model import Dataset
from broker.domain.rollup import Rollup, Span, micros
from broker.domain.timegrid import TooManyBucketsError
from broker.domain.values import DataType
from broker.policy.rollups.scan import partitions
from broker.ports.clock import Clock

MOST_PARTITIONS = 20_000
"""A wrong year in one row must not lead to millions of empty partitions."""
QUICK = 0.1
"""Seconds that finding the first and the last row takes where there is an index."""
SHARE = 100.0
"""Where it takes longer, it is known for so many times as long."""


class Extents:
    """Where the rows of datasets begin and end. Where that took long to find, it is not looked for again for long."""

    def __init__(self, clock: Clock) -> None:
        self._clock, self._compiler = clock, SqlCompiler()
        self._known: dict[tuple[str, str], tuple[Span | None, float]] = {}

    async def find(self, connection: Connection, dataset: Dataset, rollup: Rollup) -> Span | None:
        """From the first to just after the last instant in the dataset's table; None when there is none."""
        key, began = (dataset.name, rollup.time), self._clock.monotonic()
        if key in self._known and began < self._known[key][1]:
            return self._known[key][0]
        text = extent_sql(self._compiler, dataset, rollup)
        row = await connection.fetchrow(text, timeout=SCAN_SECONDS)
        assert row is not None, "an aggregate has a row"
        found = None if row["lo"] is None else Span(row["lo"], row["hi"] + 1)
        took = self._clock.monotonic() - began
        if took > QUICK:
            self._known[key] = found, began + took * SHARE
        return found


def extent_sql(compiler: SqlCompiler, dataset: Dataset, rollup: Rollup) -> str:
    """The first and the last instant in microseconds.

    The smallest and the largest value are taken of the stored ones, so that an index on the column answers. Where they
    are wall clocks this may be wrong by the hour that a clock was set back, which costs an empty partition or leaves a
    new one to the next look.
    """
    time, sql = dataset.dimensions[rollup.time], compiler.dataset(dataset)
    stored = sql.expression(time.sql)
    if time.stored_zone:
        stored = exp.Cast(this=stored, to=exp.DataType.build("timestamp", dialect=DIALECT))
    else:
        stored = cast(stored, time.type)
    query = sql.rows(time.tables)
    for name, node in (("lo", exp.Min(this=stored.copy())), ("hi", exp.Max(this=stored.copy()))):
        found = typed(node, time.type, time.scale, time.stored_zone)
        value = wire(found, time.type)
        if time.type is DataType.DATE:
            day = exp.Cast(this=exp.Paren(this=value), to=exp.DataType.build("bigint", dialect=DIALECT))
            value = exp.Mul(this=day, expression=exp.Literal.number(86_400_000_000))
        query = query.select(exp.Alias(this=value, alias=exp.to_identifier(name, quoted=True)), copy=False)
    finite = [
        exp.GT(this=stored.copy(), expression=exp.Literal.string("-infinity")),
        exp.LT(this=stored.copy(), expression=exp.Literal.string("infinity")),
    ]
    query.set("where", exp.Where(this=exp.and_(*finite, dialect=DIALECT)))
    return query.sql(dialect=DIALECT)


def wanted(
    dataset: Dataset, rollup: Rollup, found: Span | None, now: datetime, *, most: int = MOST_PARTITIONS
) -> tuple[Span, ...]:
    """The partitions that should exist, ascending, given from where to where there are rows.

    The one that the rollup's start or the end of its retention is in is among them, and built whole.

    Raises:
        BrokerError: ROLLUP_STATE when they are too many.
    """
    if found is None:
        return ()
    lo = found.lo if rollup.start is None else max(found.lo, micros(rollup.start))
    kept = outlived(rollup, now)
    lo = lo if kept is None else max(lo, kept)
    if lo >= found.hi:
        return ()
    try:
        spans = partitions(dataset, rollup, Span(lo, found.hi))
    except (TooManyBucketsError, OverflowError, ValueError):
        spans = ()
    if not 0 < len(spans) <= most:
        text = (
            f"The times of {dataset.name!r} would make more than {most} partitions of a {rollup.partition} for the "
            f"rollup {rollup.name!r}. Correct rows with a wrong time, set its `start`, or choose larger partitions."
        )
        raise BrokerError(
            ErrorReason.ROLLUP_STATE, text, metadata={"rollup": rollup.name, "limit": str(most)}
        )
    return spans


def outlived(rollup: Rollup, now: datetime) -> int | None:
    """The instant before which nothing is kept; None for a rollup that keeps all."""
    if rollup.retention is None:
        return None
    return micros(now - timedelta(seconds=rollup.retention))
