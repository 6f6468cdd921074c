"""The flights with members that are slow, large or wrong on purpose."""

from __future__ import annotations

from dataclasses import replace

from broker.adapters.pg_snapshot import PgSnapshot
from broker.domain.model import Dimension, Measure, MeasureKind
from broker.domain.query import Query
from broker.domain.values import DataType
from tests.integration.store.conftest import plan_of, rows_of
from tests.support.datasets import flights

_BASE = flights()
DATASET = replace(
    _BASE,
    dimensions={
        **_BASE.dimensions,
        "id": Dimension("id", "flights.id", DataType.INT64, ("flights",)),
        "padding": Dimension("padding", "repeat(flights.dest, 200)", DataType.STRING, ("flights",)),
    },
    measures={
        **_BASE.measures,
        "sleep": Measure("sleep", MeasureKind.MAX, "length(pg_sleep(30)::text)", tables=("flights",)),
        "overflow": Measure("overflow", MeasureKind.SUM, "9223372036854775807::bigint", tables=("flights",)),
        "zero": Measure("zero", MeasureKind.SUM, "1 / (flights.month - flights.month)", tables=("flights",)),
    },
)
COUNT = plan_of(Query("flights", measures=("flights",)), DATASET)
SLEEP = plan_of(Query("flights", measures=("sleep",)), DATASET)
LARGE = plan_of(Query("flights", measures=("flights",), dimensions=("id", "padding")), DATASET)
BY_PLANE = Query("flights", measures=("flights",), dimensions=("tailnum",))


async def count(snapshot: PgSnapshot) -> object:
    """The number of flights that a snapshot sees."""
    (result,) = await snapshot.read(COUNT)
    ((found,),) = rows_of(result.grouped)
    return found
