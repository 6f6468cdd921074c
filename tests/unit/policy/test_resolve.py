"""What the resolver accepts, what it refuses, and that it names everything at once."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from broker.domain.errors import BrokerError
from broker.domain.model import Dataset, Dimension, Join, JoinKind, Measure, MeasureKind, RowPolicy
from broker.domain.plan import Plan
from broker.domain.principal import Principal
from broker.domain.query import (
    AbsoluteRange,
    AllOf,
    AnyOf,
    Calculations,
    CompareTo,
    Condition,
    DateRange,
    Grain,
    Not,
    Operator,
    OrderKey,
    Query,
    RelativeRange,
    RollingWindow,
    ShareOfTotal,
    TimeSelection,
    TopN,
)
from broker.domain.values import ColumnRole, DataType
from broker.policy.resolve import resolve_query

NOW = datetime(2024, 5, 15, 12, tzinfo=UTC)


def dimension(name: str, kind: DataType, table: str = "orders", *, time: bool = False) -> Dimension:
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
    return resolve_query(query, ORDERS, principal, NOW)


def violations(query: Query) -> dict[str, str]:
    with pytest.raises(BrokerError) as caught:
        plan(query)
    return {v.field: v.description for v in caught.value.violations}


YEAR = TimeSelection(
    range=DateRange(date(2023, 1, 1), date(2024, 1, 1)), grain=Grain.MONTH, zone="Europe/Berlin"
)


def test_columns_come_in_the_order_of_the_contract() -> None:
    query = Query(
        "orders",
        measures=("revenue", "orders_count"),
        dimensions=("country",),
        time=YEAR,
        calculations=Calculations(
            top_n=TopN(3, "country", "revenue", other=True),
            compare_to=CompareTo(1, Grain.YEAR, ("revenue",)),
            shares=(ShareOfTotal("orders_count"),),
            rolling=(RollingWindow("revenue", 3),),
        ),
    )
    resolved = plan(query)
    assert [c.name for c in resolved.columns] == [
        "placed_at",
        "country",
        "revenue",
        "orders_count",
        "country__other",
        "revenue__previous",
        "revenue__change",
        "revenue__change_ratio",
        "orders_count__share",
        "revenue__rolling",
    ]
    assert [c.role for c in resolved.columns[:3]] == [
        ColumnRole.TIME_BUCKET,
        ColumnRole.DIMENSION,
        ColumnRole.MEASURE,
    ]
    assert resolved.columns[0].zone == "Europe/Berlin"
    assert resolved.finish.lead == 2
    assert resolved.main.grid is not None
    assert len(resolved.main.grid.starts) == 14
    assert resolved.comparison is not None
    assert [m.name for m in resolved.comparison.leaves] == ["revenue"]
    assert resolved.finish.shift[2:] == tuple(range(12))
    assert not resolved.finish.pushed_down


def test_month_ends_are_compared_with_the_last_day_that_exists() -> None:
    query = Query(
        "orders",
        measures=("revenue",),
        time=TimeSelection(range=DateRange(date(2024, 3, 29), date(2024, 4, 2)), grain=Grain.DAY),
        calculations=Calculations(compare_to=CompareTo(1, Grain.MONTH)),
    )
    resolved = plan(query)
    assert resolved.finish.comparison is not None
    starts = resolved.finish.comparison.starts
    days = [starts[i].date() if i >= 0 else None for i in resolved.finish.shift]
    assert days == [date(2024, 2, 29), date(2024, 2, 29), date(2024, 2, 29), date(2024, 3, 1)]


def test_every_violation_is_named_at_once() -> None:
    query = Query(
        "orders",
        measures=("revenu", "orders_count", "orders_count"),
        dimensions=("placed_at", "land"),
        time=replace(YEAR, dimension="country"),
        filter=AllOf(
            (
                Condition("quantity", Operator.EQ, ("three",)),
                Not(Condition("weight", Operator.CONTAINS, ("x",))),
                AnyOf((Condition("revenue", Operator.GT, (1,)), Condition("paid", Operator.LT, (True,)))),
            )
        ),
        having=Condition("country", Operator.EQ, ("DE",)),
        limit=-1,
    )
    found = violations(query)
    assert found["measures[0]"].endswith("did you mean 'revenue'?")
    assert set(found) == {
        "measures[0]",
        "measures[2]",
        "dimensions[1]",
        "time.dimension",
        "filter.all_of.filters[0].condition.values[0]",
        "filter.all_of.filters[1].not_filter.condition.operator",
        "filter.all_of.filters[2].any_of.filters[0].condition.member",
        "filter.all_of.filters[2].any_of.filters[1].condition.operator",
        "having.condition.member",
        "limit",
    }


@pytest.mark.parametrize(
    ("query", "field"),
    [
        (Query("orders"), "measures"),
        (Query("orders", ("revenue",), time=TimeSelection(grain=Grain.DAY)), "time.range"),
        (Query("orders", ("revenue",), time=TimeSelection(gap_fill=True)), "time.gap_fill"),
        (
            Query(
                "orders",
                ("revenue",),
                time=TimeSelection(range=DateRange(date(2024, 1, 2), date(2024, 1, 2))),
            ),
            "time.range",
        ),
        (
            Query("orders", ("revenue",), time=replace(YEAR, grain=Grain.MINUTE)),
            "time.grain",
        ),
        (
            Query("orders", ("revenue",), time=replace(YEAR, dimension="due_on", grain=Grain.HOUR)),
            "time.grain",
        ),
        (
            Query(
                "orders",
                ("revenue",),
                time=TimeSelection(
                    "due_on", None, "UTC", AbsoluteRange(datetime(2024, 1, 1, 5, tzinfo=UTC), NOW)
                ),
            ),
            "time.range",
        ),
        (Query("orders", ("revenue",), ("placed_at",), time=YEAR), "dimensions"),
        (Query("orders", ("revenue",), order=(OrderKey("country"),)), "order[0].member"),
        (Query("orders", ("revenue",), order=(OrderKey("revenue"), OrderKey("revenue"))), "order[1].member"),
        (Query("orders", ("revenue",), ("tag",)), "measures"),
        (
            Query(
                "orders", ("mean_weight",), calculations=Calculations(shares=(ShareOfTotal("mean_weight"),))
            ),
            "calculations.shares[0].measure",
        ),
        (
            Query(
                "orders",
                ("revenue",),
                calculations=Calculations(shares=(ShareOfTotal("revenue", ("country",)),)),
            ),
            "calculations.shares[0].within[0]",
        ),
        (
            Query(
                "orders",
                ("buyers",),
                time=YEAR,
                calculations=Calculations(rolling=(RollingWindow("buyers", 3),)),
            ),
            "calculations.rolling_windows[0].measure",
        ),
        (
            Query("orders", ("revenue",), calculations=Calculations(rolling=(RollingWindow("revenue", 3),))),
            "calculations.rolling_windows[0]",
        ),
        (
            Query(
                "orders",
                ("revenue",),
                time=TimeSelection(range=DateRange(date(2024, 1, 9), date(2024, 3, 1)), grain=Grain.MONTH),
                calculations=Calculations(rolling=(RollingWindow("revenue", 3),)),
            ),
            "time.range",
        ),
        (
            Query(
                "orders",
                ("revenue",),
                time=YEAR,
                calculations=Calculations(compare_to=CompareTo(1, Grain.WEEK)),
            ),
            "calculations.compare_to.unit",
        ),
        (
            Query("orders", ("revenue",), calculations=Calculations(compare_to=CompareTo(1, Grain.WEEK))),
            "calculations.compare_to",
        ),
        (
            Query(
                "orders",
                ("last_note",),
                time=YEAR,
                calculations=Calculations(compare_to=CompareTo(1, Grain.YEAR)),
            ),
            "calculations.compare_to.measures",
        ),
        (
            Query(
                "orders",
                ("revenue", "buyers"),
                ("country",),
                calculations=Calculations(top_n=TopN(2, "country", "revenue", other=True)),
            ),
            "calculations.top_n.other",
        ),
        (
            Query("orders", ("revenue",), calculations=Calculations(top_n=TopN(0, "country", "buyers"))),
            "calculations.top_n.count",
        ),
    ],
)
def test_a_violation_has_its_path(query: Query, field: str) -> None:
    assert field in violations(query)


def test_values_are_brought_to_the_type_of_their_member() -> None:
    query = Query(
        "orders",
        measures=("revenue",),
        filter=AllOf(
            (
                Condition("weight", Operator.IN, (1, Decimal("2.5"))),
                Condition("price", Operator.BETWEEN, (1, Decimal("9.99"))),
                Condition("quantity", Operator.EQ, (Decimal("3.0"),)),
            )
        ),
    )
    checked = plan(query).main.filter
    assert checked == AllOf(
        (
            Condition("weight", Operator.IN, (1.0, 2.5)),
            Condition("price", Operator.BETWEEN, (Decimal(1), Decimal("9.99"))),
            Condition("quantity", Operator.EQ, (3,)),
        )
    )


def test_ratios_are_read_as_their_operands_and_plain_queries_are_pushed_down() -> None:
    resolved = plan(Query("orders", ("ratio", "orders_count"), ("country",), limit=5))
    assert [leaf.measure.name for leaf in resolved.finish.leaves] == ["revenue", "orders_count"]
    assert resolved.finish.outputs[0].ratio == ("revenue", "orders_count")
    assert resolved.finish.pushed_down
    assert not plan(Query("orders", ("buyers_about",))).finish.pushed_down


def test_an_unknown_name_in_a_filter_is_one_violation_among_others() -> None:
    query = Query("orders", ("revenue",), filter=Condition("nothing", Operator.IS_NULL))
    assert set(violations(query)) == {"filter.condition.member"}


def test_a_measure_of_the_many_side_may_be_grouped_by_it() -> None:
    assert plan(Query("orders", ("tag_count",), ("tag",))).main.leaves[0].name == "tag_count"


def test_row_policies_follow_the_principal_and_separate_fingerprints() -> None:
    query = Query("orders", ("revenue",))
    mine, theirs = plan(query), plan(query, Principal("bob", "other"))
    everything = plan(query, Principal("eve", "other", frozenset({"see_all"})))
    again = plan(query, Principal("mallory", "acme", frozenset({"see_all"})))
    assert [p.name for p in mine.main.policies] == ["own"]
    assert everything.main.policies == ()
    assert len({mine.fingerprint, theirs.fingerprint, everything.fingerprint}) == 3
    assert everything.fingerprint == again.fingerprint


def test_equal_ranges_have_equal_fingerprints_however_they_are_said() -> None:
    relative = Query(
        "orders", ("revenue",), time=TimeSelection(range=RelativeRange(1, Grain.YEAR), grain=Grain.MONTH)
    )
    absolute = replace(
        relative, time=TimeSelection(range=DateRange(date(2023, 1, 1), date(2024, 1, 1)), grain=Grain.MONTH)
    )
    assert plan(relative).fingerprint == plan(absolute).fingerprint
