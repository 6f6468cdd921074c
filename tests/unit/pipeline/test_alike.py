"""Plans and predictions that are made of others are those that would have been made by themselves."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from random import Random

import pytest

from broker.domain.deadline import Deadline
from broker.domain.errors import BrokerError
from broker.domain.model import Dataset
from broker.domain.plan import Plan
from broker.domain.principal import Principal
from broker.domain.query import (
    AbsoluteRange,
    AllOf,
    Calculations,
    Condition,
    Filter,
    Grain,
    Operator,
    Query,
    RollingWindow,
    TimeSelection,
)
from broker.domain.request import CallContext, RequestKind
from broker.domain.rollup import Rollup, Rule, Storage
from broker.domain.terms import AnswerPolicy, Consistency, EdgeMode
from broker.pipeline.alike import Plans
from broker.pipeline.foretold import HOLDS, Foretold, Prospect
from broker.pipeline.grids import GridCache
from broker.pipeline.routes import Router
from broker.policy.classify import Classifier, Subject
from broker.policy.resolve import resolve_query
from tests.support.rollup_scans import ALICE, OWN_TENANT, ROLLUP, covered, dataset, day, segment, span

TABLE = replace(ROLLUP, storage=Storage.TABLE, measures=("rides", "fare"))
RIDES = replace(dataset(TABLE), row_policies=())
POLICY = AnswerPolicy()
FIRST, LAST = day(1), day(25)
ZONES = ("UTC", "Europe/Berlin", "Asia/Kathmandu")


def query(start: datetime, end: datetime, *texts: str, **others: object) -> Query:
    named = ("city", "kind")[: len(texts)]
    parts = tuple(Condition(name, Operator.EQ, (text,)) for name, text in zip(named, texts, strict=True))
    node: Filter | None = AllOf(parts) if len(parts) > 1 else parts[0] if parts else None
    time = TimeSelection(grain=Grain.DAY, range=AbsoluteRange(start, end))
    made = Query("rides", ("rides", "fare"), (), time, node)
    return replace(made, **others)  # type: ignore[arg-type] # fields of a query


def plan_of(plans: Plans, asked: Query, own: Dataset = RIDES, principal: Principal = ALICE) -> Plan:
    """As the planner makes it."""
    found = plans.make(b"shape", asked, own, principal, GridCache())
    return found or plans.keep(b"shape", resolve_query(asked, own, principal, day(30)))


@pytest.mark.parametrize("texts", [0, 1, 2])
@pytest.mark.parametrize("policies", [(), (OWN_TENANT,)])
def test_a_plan_that_is_alike_is_the_same_plan(texts: int, policies: tuple[object, ...]) -> None:
    own, random = replace(RIDES, row_policies=policies), Random(7)  # type: ignore[arg-type] # what it is
    for zone in ZONES:
        for grain in (None, Grain.HOUR, Grain.DAY):
            plans = Plans()
            for number in range(3):
                start = day(1) + timedelta(minutes=random.randrange(20_000), microseconds=random.randrange(2))
                end = start + timedelta(minutes=1 + random.randrange(90_000))
                words = [random.choice(["a", "", "'x'", "\\", "ü\n", "T1", "\x1f"]) for _ in range(texts)]
                asked = query(start, end, *words)
                assert asked.time is not None
                asked = replace(asked, time=replace(asked.time, zone=zone, grain=grain))
                found = plan_of(plans, asked, own)
                assert found == resolve_query(asked, own, ALICE, day(30))
                assert found.shape is not None
                assert number == 0 or plans.make(b"shape", asked, own, ALICE, GridCache()) is not None


def test_what_is_wrong_with_another_is_left_to_be_told() -> None:
    plans = Plans()
    plan_of(plans, query(day(1), day(2)))
    asked = query(day(1), day(2))
    assert asked.time is not None
    endless = replace(asked.time, range=AbsoluteRange(day(1).replace(year=1000), day(1).replace(year=9000)))
    assert plans.make(b"shape", replace(asked, time=endless), RIDES, ALICE, GridCache()) is None
    with pytest.raises(BrokerError):
        plan_of(plans, replace(asked, time=endless))


def test_a_plan_is_of_one_principal_and_one_dataset() -> None:
    plans, asked = Plans(), query(day(1), day(2))
    plan_of(plans, asked)
    assert plans.make(b"shape", asked, RIDES, replace(ALICE, grants=frozenset({"*"})), GridCache()) is None
    assert plans.make(b"shape", asked, RIDES, replace(ALICE, name="bob"), GridCache()) is None
    assert plans.make(b"shape", asked, replace(RIDES), ALICE, GridCache()) is None
    assert plans.make(b"other", asked, RIDES, ALICE, GridCache()) is None
    assert plans.make(b"shape", asked, RIDES, replace(ALICE), GridCache()) is not None


def test_of_a_plan_with_more_to_it_no_others_are_made() -> None:
    rolling = Calculations(rolling=(RollingWindow("rides", 2),))
    for asked in (
        query(day(1), day(9), calculations=rolling),
        query(day(1), day(9), filter=Condition("city", Operator.NE, ("x",))),
        query(day(1), day(9), time=TimeSelection("billed", Grain.DAY, range=AbsoluteRange(day(1), day(9)))),
    ):
        plans = Plans()
        assert plan_of(plans, asked).shape is None
        assert plans.make(b"shape", asked, RIDES, ALICE, GridCache()) is None


class _Clock:
    at = 0.0

    def monotonic(self) -> float:
        return self.at


class _Model:
    def __init__(self, own: Dataset) -> None:
        self.datasets = {own.name: own}


class Place:
    """What is foretold of questions about one dataset."""

    def __init__(self, *rollups: Rollup) -> None:
        self.own = replace(dataset(*rollups), row_policies=())
        self.clock, self.plans = _Clock(), Plans()
        self.router = Router(_Model(self.own))  # type: ignore[arg-type] # only the datasets are read
        self.foretold = Foretold(self.router, self.clock)  # type: ignore[arg-type] # only this clock is read
        self.context = CallContext("r", ALICE, Deadline(30.0), day(30))
        self.look()

    def look(self, **changes: object) -> None:
        found = covered(segment(1, FIRST, LAST))
        seen = [replace(found, rollup=name, **changes) for name in self.own.rollups]  # type: ignore[arg-type] # fields
        self.router.learn(self.own, seen, day(30))

    def prospect(self, asked: Query, policy: AnswerPolicy = POLICY) -> Prospect:
        """What is found out without looking at others."""
        plan = plan_of(self.plans, asked, self.own)
        subject = Subject(RequestKind.DASHBOARD, "f", expected=0.001)
        classified = Classifier().classify(subject, 0.0)
        route = self.router.route(plan, policy, Consistency.BOUNDED, 10.0)
        return Prospect(plan, classified, route, None)

    def again(self, asked: Query, policy: AnswerPolicy = POLICY) -> Prospect | None:
        plan = plan_of(self.plans, asked, self.own)
        return self.foretold.again(self.context, plan, policy, Consistency.BOUNDED)

    def keep(self, asked: Query, policy: AnswerPolicy = POLICY) -> Prospect:
        found = self.prospect(asked, policy)
        self.foretold.keep(self.context, found, policy, Consistency.BOUNDED)
        return found


OTHER = replace(TABLE, name="other", dimensions=("kind", "tenant"))
FILTERED = replace(TABLE, filter=Condition("city", Operator.EQ, ("a",)))


@pytest.mark.parametrize("rollups", [(TABLE,), (TABLE, OTHER), (FILTERED,)])
def test_the_route_is_that_of_the_question_itself(rollups: tuple[Rollup, ...]) -> None:
    place = Place(*rollups)
    first = place.keep(query(day(2), day(9), "a", "b"))
    for asked in (query(day(3), day(10), "a", "c"), query(day(17), day(24, 1, 15), "a", "")):
        found, expected = place.again(asked), place.prospect(asked)
        assert found is not None
        assert found.route is not None
        assert expected.route is not None
        assert found.plan == expected.plan
        assert found.classified is first.classified
        (own,), (wanted,) = found.route.scans, expected.route.scans
        assert (own.scan, own.rollups, own.filters) == (wanted.scan, wanted.rollups, wanted.filters)
        assert list(own.rejected) == list(wanted.rejected)
        assert [each.pieces for each in found.route.expected] == [
            each.pieces for each in expected.route.expected
        ]
        assert found.route.known is expected.route.known
        covers = [route.cover(route.known, {}) for route in (found.route, expected.route)]
        assert covers[0] == covers[1], "what it asks of rollups is found out where that is needed"
        assert (found.route.require, found.route.lateness) == (
            expected.route.require,
            expected.route.lateness,
        )


@pytest.mark.parametrize(
    "asked",
    [
        query(day(2), day(9, 0, 7), "a", "b"),  # ends inside of a bucket
        query(day(20), day(27), "a", "b"),  # beyond what is covered
        query(day(2), day(20), "a", "b"),  # of another size
    ],
)
def test_a_question_that_might_be_read_otherwise_is_not_foretold(asked: Query) -> None:
    place = Place(TABLE)
    place.keep(query(day(2), day(9), "a", "b"))
    assert place.again(asked) is None


def test_a_rollup_that_holds_other_rows_is_not_foretold() -> None:
    place = Place(FILTERED)
    place.keep(query(day(2), day(9), "a", "b"))
    assert place.again(query(day(2), day(9), "z", "b")) is None


def test_a_prediction_holds_for_a_moment_and_while_nothing_is_seen() -> None:
    place, asked = Place(TABLE), query(day(2), day(9), "a", "b")
    place.keep(asked)
    assert place.again(asked) is not None
    place.clock.at = HOLDS
    assert place.again(asked) is None
    place.keep(asked)
    assert place.again(asked) is not None
    place.look()
    assert place.again(asked) is None


@pytest.mark.parametrize(
    "change",
    [
        {"dirty": (span(day(4), day(5)),)},
        {"unusable": Rule.QUARANTINE, "segments": ()},
        {"sealed": (span(day(4), day(5)),)},
        {"lateness": 60.0},
    ],
)
def test_what_was_seen_last_decides(change: dict[str, object]) -> None:
    place, asked = Place(TABLE), query(day(2), day(9), "a", "b")
    place.keep(asked)
    known = place.router.known(place.own)
    place.look(**change)
    seen = place.router.known(place.own)
    assert isinstance(known, dict)
    assert seen is not None
    known.update(seen)  # as if it were the same look
    place.router._known[place.own.name] = known
    assert place.again(asked) is None


def test_other_terms_are_other_questions() -> None:
    place, asked = Place(TABLE), query(day(2), day(9), "a", "b")
    place.keep(asked)
    assert place.again(asked, replace(POLICY, max_staleness=1.0)) is None
    place.keep(asked, replace(POLICY, edge=EdgeMode.SNAP))
    assert place.again(asked, replace(POLICY, edge=EdgeMode.SNAP)) is None
    place.context = replace(place.context, deadline=Deadline(1e-9))
    assert place.again(asked) is None
