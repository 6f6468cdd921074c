"""A dataset of orders for tests of the resolver: every type, a one-to-many join, a row policy."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from broker.domain.errors import BrokerError
from broker.domain.model import Dataset, Dimension, Join, JoinKind, Measure, MeasureKind, RowPolicy
from broker.domain.plan import Plan
from broker.domain.principal import Principal
from broker.domain.query import (
    DateRange,
    Grain,
    Query,
    TimeSelection,
)
from broker.domain.values import DataType
from broker.policy.resolve import resolve_query

NOW = datetime(2024, 5, 15, 12, tzinfo=UTC)


def dimension(name: str, kind: DataType, table: str = "orders", *, time: bool = False) -> Dimension:
    """A dimension over the column of its name."""
    return Dimension(name, f"{table}.{name}", kind, (table,), time=time)


ORDERS = Dataset(
    name="orders",
    table="public.orders",
    dimensions={
        d.name: d
        for d in (
            dimension("placed_at", DataType.TIMESTAMP, time=True),
            dimension("due_on", DataType.DATE, time=True),
            dimension("country", DataType.STRING),
            dimension("quantity", DataType.INT64),
            dimension("price", DataType.DECIMAL),
            dimension("weight", DataType.DOUBLE),
            dimension("paid", DataType.BOOL),
            dimension("tag", DataType.STRING, "tags"),
        )
    },
    measures={
        m.name: m
        for m in (
            Measure("orders_count", MeasureKind.COUNT, tables=("orders",)),
            Measure("revenue", MeasureKind.SUM, "orders.price", DataType.DECIMAL, 2, tables=("orders",)),
            Measure("mean_weight", MeasureKind.AVG, "orders.weight", DataType.DOUBLE, tables=("orders",)),
            Measure("buyers", MeasureKind.EXACT_DISTINCT, "orders.buyer", tables=("orders",)),
            Measure("buyers_about", MeasureKind.APPROX_DISTINCT, "orders.buyer", tables=("orders",)),
            Measure("last_note", MeasureKind.LAST, "orders.note", DataType.STRING, tables=("orders",)),
            Measure(
                "ratio",
                MeasureKind.RATIO,
                numerator="revenue",
                denominator="orders_count",
                tables=("orders",),
            ),
            Measure("tag_count", MeasureKind.COUNT, "tags.id", tables=("tags",)),
        )
    },
    joins={"tags": Join("tags", "public.tags", "tags.order_id = orders.id", "orders", JoinKind.ONE_TO_MANY)},
    row_policies=(RowPolicy("own", "orders.tenant = {tenant}", ("orders",), unless=("see_all",)),),
    primary_key=("id",),
    primary_key_types=(DataType.INT64,),
    default_time="placed_at",
    version="v1",
)
ALICE = Principal("alice", "acme")


def plan(query: Query, principal: Principal = ALICE) -> Plan:
    """The plan of a query over the orders."""
    return resolve_query(query, ORDERS, principal, NOW)


def violations(query: Query) -> dict[str, str]:
    """The violations of a query, by field."""
    with pytest.raises(BrokerError) as caught:
        plan(query)
    return {v.field: v.description for v in caught.value.violations}


YEAR = TimeSelection(
    range=DateRange(date(2023, 1, 1), date(2024, 1, 1)), grain=Grain.MONTH, zone="Europe/Berlin"
)
