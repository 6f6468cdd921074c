"""Routes: what is sealed and is not known to be, and edges that are moved before they are judged."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise

import pytest

from broker.domain.plan import Plan
from broker.domain.query import AbsoluteRange, Condition, Grain, Operator, Query, TimeSelection
from broker.domain.rollup import FAR_FUTURE, FAR_PAST, Piece, Rollup, Rule, Span, micros
from broker.domain.terms import AnswerPolicy, Consistency, EdgeMode, PartialMode
from broker.pipeline.routes import Route, Router
from broker.pipeline.sealed import covers_of
from broker.policy.resolve import resolve_query
from tests.support.rollup_scans import ALICE, ROLLUP, covered, dataset, day, segment, span

OLD = replace(ROLLUP, name="old", dimensions=("kind", "tenant"))
DAILY = replace(ROLLUP, name="daily", grains=(Grain.DAY,))
RIDES = dataset(ROLLUP, OLD)
LAST = datetime.max.replace(tzinfo=UTC)
SEALED = span(day(1), day(10))


def plan(start: datetime, end: datetime, *rollups: Rollup, grain: Grain | None = None) -> Plan:
    asked = TimeSelection(range=AbsoluteRange(start, end), grain=grain)
    found = resolve_query(
        Query("rides", ("rides",), ("city",), time=asked), dataset(*rollups), ALICE, day(30)
    )
    return replace(found, main=replace(found.main, policies=()))


def router(*rollups: Rollup) -> Router:
    return Router(_Model({"rides": dataset(*rollups)}))  # type: ignore[arg-type] # only the datasets are read


def condition(operator: Operator, at: datetime) -> Condition:
    return Condition("at", operator, (at,))


def routed(asked: Condition) -> Route:
    found = resolve_query(Query("rides", ("rides",), filter=asked), dataset(ROLLUP), ALICE, day(30))
    found = replace(found, main=replace(found.main, policies=()))
    return router(ROLLUP).route(found, AnswerPolicy(), Consistency.BOUNDED, 10.0)


class _Model:
    def __init__(self, datasets: object) -> None:
        self.datasets = datasets


@pytest.mark.parametrize("partial", PartialMode)
def test_segments_are_not_trusted_where_another_rollup_is_sealed(partial: PartialMode) -> None:
    """They may have been built after the rows were deleted, though the sealed one cannot answer this."""
    policy = AnswerPolicy(partial=partial)
    route = router(ROLLUP, OLD).route(plan(day(1), day(20), ROLLUP, OLD), policy, Consistency.BOUNDED, 10.0)
    assert [rollup.name for rollup in route.rollups] == ["r"]
    coverage = {"r": covered(segment(1, day(1), day(20)))}
    (trusted,) = covers_of(route, policy, coverage, {})
    assert trusted.pieces == (Piece("r", (span(day(1), day(20)),)),)
    (cover,) = covers_of(route, policy, coverage, {"at": (SEALED,)})
    if partial is PartialMode.FORBID:
        assert cover.pieces == ()
        assert {each.rollup: each.rules for each in cover.rejected}["r"] == (Rule.SEAL,)
    else:
        assert cover.live == (span(day(1), day(20)),)


@pytest.mark.parametrize("time", ["at", "due"])
def test_segments_are_not_trusted_where_what_is_sealed_is_along_another_time(time: str) -> None:
    """Or along the same one; the sealed rollup itself is no candidate."""
    route = routed(condition(Operator.LT, day(15)))
    coverage = {"r": covered(segment(1, day(1), day(20)))}
    (trusted,) = covers_of(route, AnswerPolicy(), coverage, {})
    assert trusted.rollups
    (cover,) = covers_of(route, AnswerPolicy(), coverage, {time: (SEALED,)})
    assert cover.pieces == ()


@pytest.mark.parametrize(
    ("asked", "read"),
    [
        (condition(Operator.GE, day(3)), Span(micros(day(3)), FAR_FUTURE)),
        (condition(Operator.LT, day(3)), Span(FAR_PAST, micros(day(3)))),
        (condition(Operator.GE, LAST), Span(micros(LAST), FAR_FUTURE)),
    ],
)
def test_a_filter_with_one_end_leaves_out_no_row_at_the_other(asked: Condition, read: Span) -> None:
    """Rows that are valid until the year 9999, or for ever, are read from the tables."""
    (scan,) = routed(asked).scans
    assert (scan.scan.bounds, scan.asked.span if scan.asked else None) == (None, read)
    (cover,) = covers_of(routed(asked), AnswerPolicy(), {"r": covered(segment(1, day(1), day(20)))}, {})
    spans = sorted(each for piece in cover.pieces for each in piece.spans)
    assert (spans[0].lo, spans[-1].hi) == read
    assert all(before.hi == after.lo for before, after in pairwise(spans))


@pytest.mark.parametrize("operator", [Operator.EQ, Operator.LE, Operator.GT])
def test_what_would_end_after_the_calendar_is_read_from_the_tables(operator: Operator) -> None:
    assert routed(condition(operator, LAST)).rollups == ()


def test_a_rollup_of_the_route_is_found_by_its_name() -> None:
    route: Route = router(ROLLUP, OLD).route(
        plan(day(1), day(20), ROLLUP, OLD), AnswerPolicy(), Consistency.BOUNDED, 10.0
    )
    assert route.rollup("r") is route.scans[0].scan.dataset.rollups["r"]


@pytest.mark.parametrize(
    ("rollups", "asked", "expected"),
    [
        ((ROLLUP,), (day(2, 10, 3), day(2, 10, 7)), (day(2, 10), day(2, 10, 15))),
        ((DAILY,), (day(2, 10), day(2, 12)), (day(2), day(3))),
        ((DAILY, ROLLUP), (day(2, 10), day(2, 12, 1)), (day(2, 10), day(2, 12, 15))),
    ],
)
def test_a_range_inside_one_bucket_is_moved_to_its_ends(
    rollups: tuple[Rollup, ...], asked: tuple[datetime, datetime], expected: tuple[datetime, datetime]
) -> None:
    policy = AnswerPolicy(edge=EdgeMode.SNAP)
    found = router(*rollups).snapped(plan(*asked, *rollups), policy, Consistency.BOUNDED)
    assert found.main.bounds == AbsoluteRange(*expected)
    assert found.snapped
    assert router(*rollups).route(found, policy, Consistency.BOUNDED, 10.0).rollups


def test_edges_are_not_moved_for_a_rollup_that_cannot_answer() -> None:
    policy = AnswerPolicy(edge=EdgeMode.SNAP)
    asked = plan(day(2, 10), day(2, 12), DAILY, grain=Grain.HOUR)
    assert router(DAILY).snapped(asked, policy, Consistency.BOUNDED) is asked


def test_edges_are_not_moved_so_far_that_there_are_too_many_buckets() -> None:
    """A minute of the answer is less than the year of a bucket, which holds more minutes than an answer may have."""
    yearly = replace(ROLLUP, name="yearly", grains=(Grain.YEAR,), partition=Grain.YEAR)
    asked = plan(day(2, 10), day(2, 12), yearly, grain=Grain.MINUTE)
    assert router(yearly).snapped(asked, AnswerPolicy(edge=EdgeMode.SNAP), Consistency.BOUNDED) is asked
