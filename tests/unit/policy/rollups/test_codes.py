"""One pair for each code of the rules: what is rejected by that code alone, and its neighbour that is accepted."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from broker.domain.plan import Scan
from broker.domain.query import AllOf, Grain, Operator
from broker.domain.rollup import ALWAYS, Coverage, Rejection, Rollup, Rule, Storage, Tracking
from broker.domain.terms import Consistency
from broker.policy.rollups.candidates import Candidates
from broker.policy.rollups.costs import Costs
from broker.policy.rollups.cover import cover
from tests.support.rollup_scans import (
    OWN_TENANT,
    ROLLUP,
    UNSAYABLE,
    covered,
    dataset,
    day,
    failed,
    is_,
    scan,
    segment,
    span,
)

FULL = covered(segment(1, day(1), day(10)), segment(2, day(10), day(20)))
SEALED = covered(segment(1, day(1), day(10), sealed=True), segment(2, day(10), day(20)))
HOURLY = replace(ROLLUP, grains=(Grain.HOUR,))
BERLIN = is_("city", Operator.EQ, "Berlin")
IN_BERLIN = replace(ROLLUP, filter=BERLIN)
TAGGED = replace(ROLLUP, dimensions=("tag",), measures=("rides", "longest"))
LONGEST = replace(TAGGED, measures=("longest",))
FOREIGN = replace(ROLLUP, storage=Storage.EXTERNAL, tracking=Tracking.CHANGE_TOKEN)
APPENDED = replace(ROLLUP, tracking=Tracking.APPEND_ONLY)


@dataclass(frozen=True)
class Ask:
    """A question and what there is to answer it."""

    scan: Scan
    rollup: Rollup = ROLLUP
    coverage: Coverage = FULL
    consistency: Consistency = Consistency.BOUNDED
    lateness: float | None = None
    live: bool = True
    live_seconds: float = 10.0


def rejected(ask: Ask) -> tuple[Rejection, ...]:
    """Why the rollup takes no part, by the rules and then by the cover; nothing when it does."""
    asked = replace(ask.scan, dataset=dataset(ask.rollup))
    checked = Candidates(asked.dataset).check(asked, ask.consistency)
    found = cover(
        asked, checked.accepted, {"r": ask.coverage}, Costs.predicted(ask.live_seconds),
        lateness_allowed=ask.lateness, live=ask.live, excluded=checked.rejected,
    )  # fmt: skip
    assert bool(found.rollups) is not bool(found.rejected)
    return tuple(found.rejected)


PAIRS: dict[Rule, tuple[Ask, Ask]] = {
    Rule.DEF: (Ask(scan(), coverage=replace(FULL, unusable=Rule.DEF)), Ask(scan())),
    Rule.JOIN: (Ask(scan(by=("tag",), measures=("longest",)), TAGGED),
                Ask(scan(by=("tag",), measures=("longest",)), LONGEST)),
    Rule.KEYS: (Ask(scan(by=("seats",))), Ask(scan(by=("city",)))),
    Rule.FILT: (Ask(scan(), IN_BERLIN), Ask(scan(where=BERLIN), IN_BERLIN)),
    Rule.SEC: (Ask(scan(policies=(UNSAYABLE,))), Ask(scan(policies=(OWN_TENANT,)))),
    Rule.TIME: (Ask(scan(time="billed")), Ask(scan(time="at"))),
    Rule.GRAIN: (Ask(scan(grain=Grain.FIFTEEN_MINUTES), HOURLY), Ask(scan(grain=Grain.HOUR), HOURLY)),
    Rule.TZ: (Ask(scan(grain=Grain.DAY, zone="Asia/Kathmandu"), HOURLY),
              Ask(scan(grain=Grain.DAY, zone="Asia/Tokyo"), HOURLY)),
    Rule.EDGE: (Ask(scan(bounds=(day(1, 0, 7), day(1, 0, 29)))), Ask(scan(bounds=(day(1, 0, 7), day(1, 0, 30))))),
    Rule.ALG: (Ask(scan(measures=("longest",))), Ask(scan(measures=("fare",)))),
    Rule.NULL: (Ask(scan(time="", bounds=None), live=False),
                Ask(scan(time="", bounds=None, where=AllOf((
                    is_("at", Operator.GE, day(1)), is_("at", Operator.LT, day(20))))), live=False)),
    Rule.COVER: (Ask(scan(bounds=(day(20), day(25)))), Ask(scan(bounds=(day(19), day(25))))),
    Rule.LOG: (Ask(scan(), coverage=replace(FULL, dirty=(ALWAYS,))),
               Ask(scan(), coverage=replace(FULL, dirty=(span(day(1), day(19)),)))),
    Rule.SEAL: (Ask(scan(bounds=(day(2, 0, 7), day(15))), coverage=SEALED),
                Ask(scan(bounds=(day(2), day(15, 0, 7))), coverage=SEALED)),
    Rule.XSTORE: (Ask(scan(measures=("fare",)), FOREIGN, consistency=Consistency.SNAPSHOT),
                  Ask(scan(measures=("fare",)), FOREIGN)),
    Rule.NOTRIG: (Ask(scan(), APPENDED, consistency=Consistency.SNAPSHOT), Ask(scan(), APPENDED)),
    Rule.STALE: (Ask(scan(), coverage=replace(FULL, lateness=60.0), lateness=59.0),
                 Ask(scan(), coverage=replace(FULL, lateness=60.0), lateness=60.0)),
    Rule.QUARANTINE: (Ask(scan(), coverage=replace(FULL, unusable=Rule.QUARANTINE)), Ask(scan())),
    Rule.COST: (Ask(scan(), live_seconds=0.0005), Ask(scan(), live_seconds=5.0)),
}  # fmt: skip


def test_every_code_has_a_pair() -> None:
    assert set(PAIRS) == set(Rule)


@pytest.mark.parametrize("rule", PAIRS)
def test_a_question_is_rejected_by_the_code_alone_and_its_neighbour_accepted(rule: Rule) -> None:
    wrong, right = PAIRS[rule]
    assert [(each.rollup, each.rules) for each in rejected(wrong)] == [("r", (rule,))]
    assert rejected(right) == ()


@pytest.mark.parametrize("consistency", [Consistency.BOUNDED, Consistency.SNAPSHOT])
def test_questions_that_differ_in_one_thing_are_told_apart(consistency: Consistency) -> None:
    """Whatever was asked, and remembered, before."""
    known = dataset(ROLLUP, replace(APPENDED, name="a"), replace(TAGGED, name="t"))
    asked = [
        scan(),
        scan(time="billed"),
        scan(time="billed", bounds=None),
        scan(time="", bounds=None),
        scan(by=("tag",), measures=("longest",)),
        scan(by=("tag",)),
        scan(measures=("longest",)),
        scan(policies=(OWN_TENANT,)),
        scan(policies=(UNSAYABLE,)),
    ]
    candidates = Candidates(known)
    for other in (Consistency.BOUNDED, Consistency.SNAPSHOT):
        for each in asked:
            candidates.check(each, other)
    for each in asked:
        assert (
            candidates.check(each, consistency).accepted
            == Candidates(known).check(each, consistency).accepted
        )


@pytest.mark.parametrize("measure", ["riders", "all_riders"])
def test_one_measure_that_does_not_merge_is_enough(measure: str) -> None:
    table = replace(ROLLUP, storage=Storage.TABLE, measures=("rides", measure))
    assert failed(scan(measures=("rides", measure)), table) == {Rule.ALG}
    assert failed(scan(measures=("rides",)), table) == set()


@pytest.mark.parametrize(
    "second",
    [
        replace(IN_BERLIN, name="s", time="billed", grains=(Grain.DAY,)),
        replace(ROLLUP, name="s", filter=is_("kind", Operator.EQ, "bus")),
        replace(HOURLY, name="s"),
    ],
    ids=["another time", "another filter", "another base"],
)
def test_a_rollup_is_judged_by_its_values_when_those_before_it_fell_by_their_shape(second: Rollup) -> None:
    first = replace(IN_BERLIN, dimensions=())
    asked = (
        scan(bounds=(day(1, 0, 15), day(1, 0, 45)))
        if second.base is Grain.HOUR
        else scan(time="", bounds=None)
    )
    known = dataset(first, second)
    assert Candidates(known).check(asked).accepted == ()
    assert Candidates(dataset(second)).check(asked).accepted == ()
