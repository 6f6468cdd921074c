"""What a held answer contains, rule by rule, and for every rule what must be refused."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from broker.domain.answer import Table
from broker.domain.plan import HeldBlock, Plan
from broker.domain.principal import Principal
from broker.domain.query import (
    AbsoluteRange,
    AllOf,
    Calculations,
    CompareTo,
    Grain,
)
from broker.domain.rollup import Span, micros
from broker.domain.timegrid import build
from broker.domain.values import ResultFormat
from broker.policy.containment import Asking, Way, content_of, may_hold, way
from tests.support.containment_cases import CONTAINED, REFUSED
from tests.support.containment_plans import BIG, HELD, LATER, MARCH, VANS, dataset, during, plan
from tests.support.rollup_scans import OWN_TENANT, day


def found(held: Plan, asked: Plan, rows: int = 100) -> Way | None:
    """How the question is answered from an answer of so many rows."""
    table = Table(held.columns, rows, ResultFormat.COLUMNS, b"")
    content, asking = content_of(held), Asking(asked)
    answered = way(asking, content, table, build)
    assert answered is None or may_hold(asking, content, held.columns)
    return answered


def block(answered: Way | None, scan: int = 0) -> HeldBlock:
    assert answered is not None
    (only,) = answered.results[scan].grouped
    assert isinstance(only, HeldBlock)
    return only


@pytest.mark.parametrize(("held", "asked"), CONTAINED.values(), ids=CONTAINED)
def test_what_is_contained(held: Plan, asked: Plan) -> None:
    assert found(held, asked) is not None


@pytest.mark.parametrize(("held", "asked"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused(held: Plan, asked: Plan) -> None:
    assert found(held, asked) is None


def test_rows_are_taken_by_their_time_and_what_is_left_of_the_filter() -> None:
    held = plan("rides", by=("city", "kind"), where=BIG)
    answered = found(
        held, plan("rides", by=("kind",), where=AllOf((BIG, VANS, LATER)), time=during(*MARCH, Grain.MONTH))
    )
    taken = block(answered)
    assert taken.filter == VANS
    assert taken.span == Span(micros(day(10)), micros(day(31)))
    assert taken.keys == (("kind", "k0"),)
    assert taken.states == (("rides.n", "rides"),)
    assert (taken.bucket, taken.begin) == ("at", micros(day(1)))


def test_a_policy_for_everybody_alike_keeps_readers_apart_and_no_policy_does_not() -> None:
    bob = Principal("bob", "acme")
    assert found(HELD, plan("rides", who=bob)) is not None
    own = dataset(OWN_TENANT)
    assert found(plan("rides", own=own), plan("rides", own=own, who=bob)) is None
    assert found(plan("rides", own=own), plan("rides", own=own, by=())) is not None


def test_a_comparison_is_read_from_the_same_table() -> None:
    compared = Calculations(compare_to=CompareTo(1, Grain.WEEK))
    answered = found(HELD, plan("rides", time=during(day(10), day(20)), calculations=compared))
    assert block(answered, 1).span == Span(micros(day(3)), micros(day(13)))


def grids() -> Iterator[tuple[Grain, str]]:
    for grain in (Grain.FIFTEEN_MINUTES, Grain.HOUR, Grain.DAY, Grain.WEEK, Grain.MONTH):
        for zone in ("UTC", "Europe/Berlin", "Asia/Kathmandu", "Australia/Lord_Howe"):
            yield grain, zone


@pytest.mark.parametrize(("grain", "zone"), list(grids()))
def test_no_bucket_is_ever_cut(grain: Grain, zone: str) -> None:
    """Against the plain definition: every begin of a bucket that is asked for is one that is held."""
    first, last = datetime(2024, 3, 20, 5, tzinfo=UTC), datetime(2024, 4, 12, 9, tzinfo=UTC)
    fine = build(AbsoluteRange(first, last), grain, zone)
    held = plan("rides", by=(), time=during(first, last, grain, zone))
    cuts = {first, *fine.starts[1:], last}
    seen = set()
    for coarse, other in grids():
        for start in (
            first,
            first + timedelta(hours=19),
            first + timedelta(hours=19, minutes=7),
            *build(AbsoluteRange(first, last), coarse, other).starts[1:3],
        ):
            end = last if start == first else build(AbsoluteRange(start, last), coarse, other).starts[-1]
            if start >= end:
                continue
            wanted = build(AbsoluteRange(start, end), coarse, other)
            right = {start, *wanted.starts[1:], end} <= cuts
            asked = plan("rides", by=(), time=during(start, end, coarse, other))
            assert (found(held, asked) is not None) == right, (coarse, other, start, end)
            seen.add(right)
    assert seen == {True, False}
