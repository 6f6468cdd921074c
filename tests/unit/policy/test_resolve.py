"""What the resolver accepts, and the plan that comes out."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal

from broker.domain.principal import Principal
from broker.domain.query import (
    AllOf,
    Calculations,
    CompareTo,
    Condition,
    DateRange,
    Grain,
    Operator,
    Query,
    RelativeRange,
    RollingWindow,
    ShareOfTotal,
    TimeSelection,
    TopN,
)
from broker.domain.values import ColumnRole
from tests.support.orders import YEAR, plan


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
