"""The client's builders make requests that the server understands."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from broker.domain.answer import AnswerKind
from broker.domain.errors import Violation
from broker.domain.query import (
    AbsoluteRange,
    AllOf,
    AnyOf,
    Calculations,
    CompareTo,
    Condition,
    DateRange,
    Filter,
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
from broker.domain.terms import AnswerPolicy, CacheMode, Consistency, FallbackMode
from broker.transport.decode_filter import decode_filter
from broker.transport.decode_policy import NO_PATCH, decode_policy, merge_policy
from broker.transport.decode_query import decode_query, decode_sql
from querybroker import all_of, any_of, last, not_, policy, query, requests, sql, top
from querybroker.filters import Where, to_filter
from querybroker.v1 import query_pb2

UNKNOWN: Any = "runing"


def understood(message: query_pb2.Query) -> Query:
    found: list[Violation] = []
    decoded = decode_query(message, "query", found)
    assert found == []
    return decoded


def filtered(where: Where) -> Filter:
    found: list[Violation] = []
    decoded = decode_filter(to_filter(where), "filter", found)
    assert found == []
    return decoded


def test_a_query_with_everything() -> None:
    message = query(
        "flights",
        measures=["flights", "avg_delay"],
        dimensions="carrier",
        time=("2013-01-01", date(2014, 1, 1)),
        grain="month",
        zone="America/New_York",
        time_dimension="departure",
        gap_fill=True,
        where={"origin": ["JFK", "LGA"], "gate": None, "month": 3},
        having=("flights", ">=", 10),
        order_by=["-flights", "carrier"],
        limit=5,
        compare_to=(1, "year"),
        share={"flights": ["departure"]},
        rolling={"flights": 3},
        top_n=top(5, "carrier", by="flights", other=True),
    )
    assert understood(message) == Query(
        dataset="flights",
        measures=("flights", "avg_delay"),
        dimensions=("carrier",),
        time=TimeSelection(
            "departure",
            Grain.MONTH,
            "America/New_York",
            DateRange(date(2013, 1, 1), date(2014, 1, 1)),
            gap_fill=True,
        ),
        filter=AllOf(
            (
                Condition("origin", Operator.IN, ("JFK", "LGA")),
                Condition("gate", Operator.IS_NULL),
                Condition("month", Operator.EQ, (3,)),
            )
        ),
        having=Condition("flights", Operator.GE, (10,)),
        order=(OrderKey("flights", descending=True), OrderKey("carrier")),
        limit=5,
        calculations=Calculations(
            TopN(5, "carrier", "flights", other=True),
            CompareTo(1, Grain.YEAR),
            (ShareOfTotal("flights", ("departure",)),),
            (RollingWindow("flights", 3),),
        ),
    )


def test_ranges_of_instants_and_units() -> None:
    start, end = datetime(2013, 1, 1, tzinfo=UTC), datetime(2013, 1, 2, 3, 4, 5, 6, UTC)
    absolute = understood(query("f", time=(start, "2013-01-02T03:04:05.000006+00:00")))
    assert absolute.time == TimeSelection(range=AbsoluteRange(start, end))
    relative = understood(query("f", time=last(7, "day", include_current=True), grain="hour"))
    assert relative.time == TimeSelection(
        grain=Grain.HOUR, range=RelativeRange(7, Grain.DAY, include_current=True)
    )


@pytest.mark.parametrize(
    ("where", "tree"),
    [
        (("a", "is not null"), Condition("a", Operator.IS_NOT_NULL)),
        (("a", "not in", {1}), Condition("a", Operator.NOT_IN, (1,))),
        (("a", "between", (1.5, 2.5)), Condition("a", Operator.BETWEEN, (1.5, 2.5))),
        (("a", "starts with", "x%"), Condition("a", Operator.STARTS_WITH, ("x%",))),
        (("a", "=", True), Condition("a", Operator.EQ, (True,))),
        (("a", "<", Decimal("1E+2")), Condition("a", Operator.LT, (Decimal(100),))),
        (("a", ">", date(2013, 1, 1)), Condition("a", Operator.GT, (date(2013, 1, 1),))),
        ({}, AllOf(())),
        (
            [("a", "=", 1), {"b": "x"}],
            AllOf((Condition("a", Operator.EQ, (1,)), Condition("b", Operator.EQ, ("x",)))),
        ),
        (
            any_of(("a", "=", 1), not_({"b": 2})),
            AnyOf((Condition("a", Operator.EQ, (1,)), Not(Condition("b", Operator.EQ, (2,))))),
        ),
        (all_of(), AllOf(())),
    ],
)
def test_filters(where: Where, tree: Filter) -> None:
    assert filtered(where) == tree


@pytest.mark.parametrize(
    ("where", "error"),
    [
        (("a", "like", "x"), ValueError),
        ("a = 1", TypeError),
        (("a", "=", None), TypeError),
        (("a", "=", b"bytes"), TypeError),
        (("a", "=", datetime(2013, 1, 1)), ValueError),  # noqa: DTZ001 - what is refused
    ],
)
def test_what_is_no_filter_is_refused_before_it_is_sent(where: Where, error: type[Exception]) -> None:
    with pytest.raises(error):
        to_filter(where)


def test_a_range_of_a_date_and_an_instant_is_refused() -> None:
    with pytest.raises(TypeError, match="from date to date"):
        query("f", time=("2013-01-01", datetime(2013, 1, 2, tzinfo=UTC)))
    with pytest.raises(ValueError, match="is no grain"):
        query("f", grain="fortnight")


def test_a_text_is_no_range() -> None:
    with pytest.raises(TypeError, match=r"'2013' is no range; give \(start, end\)"):
        query("f", time="2013")  # type: ignore[arg-type] # what is refused


@pytest.mark.parametrize(
    ("ask", "error"),
    [
        (lambda: requests.dashboard_request({}, None, UNKNOWN, ""), "format='runing'.*columns, arrow"),
        (
            lambda: requests.explore_request(query("f"), None, UNKNOWN, 0, 0),
            "format='runing'.*columns, arrow",
        ),
        (
            lambda: requests.explain_request(query("f"), None, UNKNOWN),
            "kind='runing'.*dashboard, explore, job",
        ),
        (
            lambda: requests.list_request([UNKNOWN], "", all_owners=False, dead_lettered=False),
            "states='runing'.*queued, running",
        ),
    ],
)
def test_a_word_that_is_not_known_is_told_those_that_are(ask: Callable[[], object], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        ask()


def test_policies() -> None:
    found: list[Violation] = []
    message = policy(
        max_staleness=timedelta(minutes=1),
        accept=["live", "rollup"],
        fallback="fail",
        cache="bypass",
        consistency="snapshot",
        max_relative_error=0.02,
    )
    merged = merge_policy(decode_policy(message, "policy", found), NO_PATCH, AnswerPolicy())
    assert found == []
    assert merged == AnswerPolicy(
        max_staleness=60.0,
        accepted_kinds=frozenset({AnswerKind.LIVE, AnswerKind.ROLLUP}),
        fallback=FallbackMode.FAIL,
        cache=CacheMode.BYPASS,
        consistency=Consistency.SNAPSHOT,
        max_relative_error=0.02,
    )
    with pytest.raises(ValueError, match="use one of default, revalidate, bypass, only"):
        policy(cache="never")


def test_sql_with_parameters() -> None:
    found: list[Violation] = []
    decoded = decode_sql(sql("SELECT $1, $2", "x", 2), "sql", found)
    assert (decoded.parameters, found) == (("x", 2), [])
