"""What the resolver refuses, and that it names everything at once."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime

import pytest

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
    RollingWindow,
    ShareOfTotal,
    TimeSelection,
    TopN,
)
from tests.support.orders import NOW, YEAR, violations


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
                ("revenue",),
                time=YEAR,
                calculations=Calculations(compare_to=CompareTo(2024, Grain.YEAR)),
            ),
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


def test_an_unknown_name_in_a_filter_is_one_violation_among_others() -> None:
    query = Query("orders", ("revenue",), filter=Condition("nothing", Operator.IS_NULL))
    assert set(violations(query)) == {"filter.condition.member"}
