"""What must hold between answers, whatever the data: no oracle is needed to see that these go wrong."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from google.type.date_pb2 import Date

from querybroker.v1 import query_pb2 as q
from querybroker.v1 import query_service_pb2 as s
from tests.oracle.ask import Asker
from tests.oracle.check import Drawing, Question
from tests.oracle.compare import unlike
from tests.oracle.decode import Actual
from tests.oracle.generate import QuerySpace
from tests.oracle.values import value

COUNTS = ["flights", "departures", "miles", "kilometres"]


@pytest.fixture(scope="module")
def questions(spaces: Sequence[QuerySpace], seed: int) -> list[Question]:
    """Random queries that give the same answer twice: quantile sketches are made with random bits."""
    drawn = Drawing(spaces, seed + 2).take(110)
    return [d for d in drawn if not any(m in {"median_delay", "p95_delay"} for m in d.query.measures)][:60]


async def answer(asker: Asker, query: q.Query) -> Actual:
    found = await asker.explore(query)
    assert isinstance(found, Actual), found
    return found


def condition(member: str, operator: str, *values: object) -> q.Filter:
    return q.Filter(
        condition=q.Condition(
            member=member,
            operator=q.FilterOperator.Value(f"FILTER_OPERATOR_{operator}"),
            values=[value(v) for v in values],
        )
    )


def year_of_2013(grain: str, zone: str) -> q.TimeSelection:
    return q.TimeSelection(
        grain=q.TimeGrain.Value(f"TIME_GRAIN_{grain}"),
        zone=zone,
        dates=q.DateRange(
            start_date=Date(year=2013, month=1, day=1), end_date=Date(year=2014, month=1, day=1)
        ),
    )


@pytest.mark.parametrize(
    "zone", ["UTC", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Chatham"]
)
async def test_the_buckets_of_a_range_add_up_to_the_range(asker: Asker, zone: str) -> None:
    totals = set()
    for grain in ("UNSPECIFIED", "HOUR", "DAY", "WEEK", "MONTH", "QUARTER", "YEAR"):
        selection = year_of_2013("UNSPECIFIED" if grain == "UNSPECIFIED" else grain, zone)
        found = await answer(asker, q.Query(dataset="flights", measures=COUNTS, time=selection))
        first = len(found.columns) - len(COUNTS)
        totals.add(tuple(sum(row[i] for row in found.rows) for i in range(first, len(found.columns))))  # type: ignore[misc] # numbers
    assert len(totals) == 1


@pytest.mark.parametrize(
    "part",
    [
        condition("manufacturer", "EQ", "BOEING"),
        condition("manufacturer", "NOT_IN", "BOEING", "AIRBUS"),
        condition("plane_year", "BETWEEN", 1990, 2000),
        condition("dest_name", "CONTAINS", "Intl"),
        condition("visibility", "LT", 9.5),
        condition("dest_latitude", "GE", 40),
        condition("raining", "EQ", True),
    ],
    ids=lambda part: part.condition.member,
)
async def test_a_condition_its_negation_and_the_unknown_rest_add_up(asker: Asker, part: q.Filter) -> None:
    unknown = condition(part.condition.member, "IS_NULL")
    parts = [part, q.Filter(not_filter=part), unknown]
    alone = [await answer(asker, q.Query(dataset="flights", measures=COUNTS, filter=p)) for p in parts]
    whole = await answer(asker, q.Query(dataset="flights", measures=COUNTS))
    assert all(found.rows[0][0] for found in alone)
    for i, total in enumerate(whole.rows[0]):
        assert sum(found.rows[0][i] for found in alone) == total  # type: ignore[misc] # numbers


def turned(tree: q.Filter) -> q.Filter:
    """The same filter with children in reverse order, and every condition negated twice."""
    match tree.WhichOneof("node"):
        case "all_of":
            return q.Filter(all_of=q.FilterGroup(filters=[turned(f) for f in reversed(tree.all_of.filters)]))
        case "any_of":
            return q.Filter(any_of=q.FilterGroup(filters=[turned(f) for f in reversed(tree.any_of.filters)]))
        case "not_filter":
            return q.Filter(not_filter=turned(tree.not_filter))
        case _:
            return q.Filter(not_filter=q.Filter(not_filter=tree))


async def test_the_order_of_conditions_does_not_matter(asker: Asker, questions: list[Question]) -> None:
    filtered = [question.query for question in questions if question.query.HasField("filter")]
    assert len(filtered) > 10
    other = []
    for query in filtered:
        other.append(q.Query())
        other[-1].CopyFrom(query)
        other[-1].filter.CopyFrom(turned(query.filter))
    for query, one, two in zip(
        filtered, await asker.dashboard(filtered), await asker.dashboard(other), strict=True
    ):
        assert unlike(one, two) is None, f"{query}\n{unlike(one, two)}"


async def test_both_formats_and_both_calls_give_the_same_table(
    asker: Asker, questions: list[Question]
) -> None:
    queries = [question.query for question in questions]
    columns = await asker.dashboard(queries, s.RESULT_FORMAT_COLUMNS)
    arrow = await asker.dashboard(queries, s.RESULT_FORMAT_ARROW)
    for query, one, two in zip(queries, columns, arrow, strict=True):
        streamed = await asker.explore(query, s.RESULT_FORMAT_COLUMNS)
        in_arrow = await asker.explore(query, s.RESULT_FORMAT_ARROW)
        for other in (two, streamed, in_arrow):
            assert unlike(one, other) is None, f"{query}\n{unlike(one, other)}"


async def test_a_panel_says_the_same_alone_and_among_others(asker: Asker, questions: list[Question]) -> None:
    for i in range(0, 30, 10):
        queries = [question.query for question in questions[i : i + 10]]
        together = await asker.dashboard(queries)
        for query, one in zip(queries, together, strict=True):
            (alone,) = await asker.dashboard([query])
            assert unlike(one, alone) is None, f"{query}\n{unlike(one, alone)}"


async def test_a_limit_cuts_the_rows_and_changes_none(asker: Asker, questions: list[Question]) -> None:
    queries = [question.query for question in questions if question.query.limit]
    whole = []
    for query in queries:
        whole.append(q.Query())
        whole[-1].CopyFrom(query)
        whole[-1].limit = 0
    for query, cut, all_ in zip(
        queries, await asker.dashboard(queries), await asker.dashboard(whole), strict=True
    ):
        assert isinstance(all_, Actual), all_
        expected = Actual(all_.columns, all_.rows[: query.limit])
        assert unlike(cut, expected) is None, f"{query}\n{unlike(cut, expected)}"


async def test_the_other_row_holds_what_the_kept_values_leave(asker: Asker) -> None:
    query = q.Query(dataset="flights", measures=COUNTS, dimensions=["manufacturer"])
    query.calculations.top_n.CopyFrom(q.TopN(count=3, dimension="manufacturer", by="flights", other=True))
    query.calculations.shares.add(measure="flights")
    found = await answer(asker, query)
    whole = await answer(asker, q.Query(dataset="flights", measures=COUNTS))
    assert len(found.rows) == 4
    assert [sum(row[1 + i] for row in found.rows) for i in range(len(COUNTS))] == list(whole.rows[0])  # type: ignore[misc] # numbers
    assert sum(row[-1] for row in found.rows) == pytest.approx(1)  # type: ignore[misc] # numbers
