"""Questions that should cost the same have the same cost fingerprint, others have not."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from broker.domain.model import RowPolicy
from broker.domain.plan import Plan
from broker.domain.principal import Principal
from broker.domain.query import (
    AbsoluteRange,
    AllOf,
    Condition,
    Grain,
    Operator,
    OrderKey,
    Query,
    TimeSelection,
)
from broker.policy.cost_key import cost_fingerprint, octave, sql_cost_fingerprint
from broker.policy.resolve import resolve_query
from tests.support.datasets import flights

NOW = datetime(2024, 1, 1, tzinfo=UTC)
ADA = Principal("ada", "acme")


def days(start: int, count: float) -> TimeSelection:
    first = datetime(2023, 1, 1, tzinfo=UTC) + timedelta(days=start)
    return TimeSelection(grain=Grain.DAY, range=AbsoluteRange(first, first + timedelta(days=count)))


BASE = Query("flights", measures=("flights", "distance"), dimensions=("carrier", "origin"), time=days(0, 30))


def plan_of(query: Query, principal: Principal = ADA) -> Plan:
    return resolve_query(query, flights(), principal, NOW)


def key(query: Query) -> str:
    return cost_fingerprint(plan_of(query))


def where(*values: str, operator: Operator = Operator.IN) -> Condition:
    return Condition("carrier", operator, values)


SAME = {
    "another range of the same length": replace(BASE, time=days(90, 30)),
    "a range that is a little longer": replace(BASE, time=days(0, 31)),
    "another order of the names": replace(
        BASE, measures=("distance", "flights"), dimensions=("origin", "carrier")
    ),
}
OTHER = {
    "a range three times as long": replace(BASE, time=days(0, 90)),
    "another grain": replace(BASE, time=TimeSelection(grain=Grain.HOUR, range=days(0, 30).range)),
    "no time": replace(BASE, time=None),
    "another measure": replace(BASE, measures=("flights",)),
    "another dimension": replace(BASE, dimensions=("carrier",)),
    "a limit": replace(BASE, limit=10),
    "an order": replace(BASE, order=(OrderKey("distance"),)),
    "a condition": replace(BASE, filter=where("AA")),
}


@pytest.mark.parametrize("query", SAME.values(), ids=SAME)
def test_the_same_cost(query: Query) -> None:
    assert key(query) == key(BASE)
    assert plan_of(query).fingerprint != plan_of(BASE).fingerprint, "answers are not shared"


@pytest.mark.parametrize("query", OTHER.values(), ids=OTHER)
def test_another_cost(query: Query) -> None:
    assert key(query) != key(BASE)


def test_literals_count_by_their_number() -> None:
    two, other = replace(BASE, filter=where("AA", "UA")), replace(BASE, filter=where("B6", "DL"))
    many = replace(BASE, filter=where(*(f"A{i}" for i in range(20))))
    assert key(two) == key(other)
    assert key(two) != key(many)
    assert key(replace(BASE, filter=where("AA", operator=Operator.EQ))) != key(
        replace(BASE, filter=where("AA"))
    )


def test_the_order_of_conditions_does_not_matter() -> None:
    one, two = where("AA"), Condition("origin", Operator.EQ, ("JFK",))
    assert key(replace(BASE, filter=AllOf((one, two)))) == key(replace(BASE, filter=AllOf((two, one))))


def test_where_row_policies_apply_every_tenant_is_a_case_of_its_own() -> None:
    eve = Principal("eve", "other")
    assert cost_fingerprint(plan_of(BASE, eve)) == key(BASE)
    policy = RowPolicy("own", "flights.carrier = {tenant}", ("flights",))
    dataset = replace(flights(), row_policies=(policy,))
    keys = {cost_fingerprint(resolve_query(BASE, dataset, who, NOW)) for who in (ADA, eve)}
    assert len(keys) == 2


def test_sql_is_told_apart_by_its_text_without_literals() -> None:
    text = "SELECT a, count(*) FROM t1 WHERE b IN ('x', 'y') AND c > {} AND d = '{}' GROUP BY a"
    one = sql_cost_fingerprint(text.format(1.5, "it''s"), "acme")
    assert one == sql_cost_fingerprint(text.format("20e3", "no"), "acme")
    assert one != sql_cost_fingerprint(text.format(1.5, "x"), "other")
    assert one != sql_cost_fingerprint(text.format(1.5, "x").replace("t1", "t2"), "acme")
    longer = text.replace("'y'", ", ".join(["'y'"] * 9))
    assert one != sql_cost_fingerprint(longer.format(1.5, "x"), "acme")


def test_octaves() -> None:
    assert [octave(n) for n in (0, 1, 2, 3, 5, 10, 11, 1000)] == [-1, 1, 2, 2, 3, 3, 4, 10]
    assert octave(30 * 86400, 2) == octave(31 * 86400, 2) != octave(45 * 86400, 2)
