"""Pieces of a table with a default partition are read whole, also where rows without a time are left out."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from broker.domain.measures import states
from broker.domain.model import Dataset, Dimension, Measure, MeasureKind
from broker.domain.plan import Finish, Leaf, Scan
from broker.domain.pool import PoolName
from broker.domain.query import Condition, Filter, Not, Operator
from broker.domain.rollup import FAR_FUTURE, FAR_PAST, Span, micros
from broker.domain.values import DataType
from tests.conftest import FreshDatabase
from tests.integration.store.conftest import MakeStore, in_time, rows_of
from tests.support.pg import prepare

ROWS = """
CREATE TABLE visits (at timestamptz) PARTITION BY RANGE (at);
CREATE TABLE visits_early PARTITION OF visits FOR VALUES FROM (MINVALUE) TO ('2024-01-01 00:00Z');
CREATE TABLE visits_else PARTITION OF visits DEFAULT;
INSERT INTO visits VALUES
  ('2023-12-31 12:00Z'), ('2024-01-05 12:00Z'), ('2024-01-07 12:00Z'), ('2024-01-09 12:00Z'), (NULL)
"""
AT = Dimension("at", "visits.at", DataType.TIMESTAMP, ("visits",), time=True)
COUNT = Measure("visits", MeasureKind.COUNT)
VISITS = Dataset("visits", "visits", {"at": AT}, {"visits": COUNT}, default_time="at")


def day(number: int) -> int:
    return micros(datetime(2024, 1, number, tzinfo=UTC))


@pytest.mark.parametrize(
    ("pieces", "count"),
    [
        ((Span(day(5), day(6)), Span(day(7), day(8))), 2),
        ((Span(FAR_PAST, day(6)), Span(day(9), FAR_FUTURE)), 3),
    ],
)
@pytest.mark.parametrize(
    "known",
    [Condition("at", Operator.IS_NOT_NULL, ()), Not(Condition("at", Operator.IS_NULL, ()))],
    ids=["not null", "not of null"],
)
async def test_the_rows_of_pieces(
    fresh_database: FreshDatabase, make_store: MakeStore, known: Filter, pieces: tuple[Span, ...], count: int
) -> None:
    dsn = await fresh_database()
    await prepare(dsn, ROWS, ())
    store = await make_store(dsn)
    wanted = Scan(VISITS, (), (COUNT,), AT, None, None, known, pieces=pieces)
    finish = Finish((), (), (Leaf(COUNT, states(COUNT)),), ())
    async with store.snapshot(PoolName.DASHBOARD, in_time()) as snapshot:
        found = await snapshot.read_scan(wanted, finish)
    assert rows_of(found.grouped) == [(count,)]
