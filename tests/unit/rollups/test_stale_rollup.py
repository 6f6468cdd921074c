"""Stale rollups: local files answer without the database, and say as of when, and what they lack."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from broker.domain.answer import (
    AnswerKind,
    DegradationReason,
    Exactness,
    Guarantee,
    Interval,
    Rung,
    Verdict,
)
from broker.domain.deadline import Deadline
from broker.domain.query import OrderKey
from broker.domain.rollup import Rule, Segment, Span
from broker.domain.terms import AnswerPolicy, EdgeMode, PartialMode, RollupMode
from tests.support.rollup_scans import day
from tests.support.segments import FakeSegments
from tests.unit.rollups.local_files import (
    ALICE,
    BY_CITY,
    FACTS,
    QUARTER,
    SECOND,
    World,
    asked,
    rows,
    segment,
    truth,
)


async def test_it_answers_what_was_true_at_the_last_look_and_says_so(
    world: World, old: Segment, new: Segment, soon: Callable[[], Deadline]
) -> None:
    await world.mirror.ensure(BY_CITY, [old, new], soon())
    world.learn(old, new)
    answer = await world.ask(asked())
    assert rows(answer) == truth(day(1), day(20))
    status = answer.status
    assert (status.kind, status.exactness) == (AnswerKind.ROLLUP_STALE, Exactness.EXACT)
    assert (status.as_of, status.staleness) == (world.ago(10), 10.0)
    assert (status.guarantee, status.guarantee_bound) == (Guarantee.BOUNDED_STALENESS, 10.0)
    assert (status.reasons, status.missing_intervals) == ((), ())
    assert [(part.source_name, part.interval) for part in status.parts] == [
        ("by_city", Interval(day(1), day(20)))
    ]


async def test_what_had_changed_by_then_is_as_old_as_its_segment(
    world: World, old: Segment, new: Segment, soon: Callable[[], Deadline]
) -> None:
    await world.mirror.ensure(BY_CITY, [old, new], soon())
    world.learn(old, new, dirty=(Span(SECOND.lo, SECOND.lo + QUARTER),))
    status = (await world.ask(asked())).status
    assert (status.as_of, status.staleness) == (new.as_of, 60.0)
    assert status.reasons == (DegradationReason.ROLLUP_DIRTY,)
    assert (await world.ask(asked(end=day(10)))).status.as_of == world.ago(10)
    assert rows(await world.ask(asked(), max_staleness=60.0)) == truth(day(1), day(20))
    step = await world.ask(asked(), max_staleness=59.0)
    assert (step.rung, step.verdict, step.codes) == (Rung.ROLLUP_STALE, Verdict.REFUSED, ("STALE",))


async def test_edges_are_moved_or_left_out_only_for_those_who_accept_it(
    world: World, old: Segment, new: Segment, soon: Callable[[], Deadline]
) -> None:
    await world.mirror.ensure(BY_CITY, [old, new], soon())
    world.learn(old, new)
    start, end = day(2, 10, 7), day(12, 3, 20)
    step = await world.ask(asked(start, end))
    assert (step.verdict, step.codes) == (Verdict.NOT_APPLICABLE, ("COVER",))
    moved = await world.ask(asked(start, end), edge=EdgeMode.SNAP)
    assert rows(moved) == truth(day(2, 10), day(12, 3, 30))
    assert moved.status.exactness is Exactness.SNAPPED
    assert moved.status.effective_range == Interval(day(2, 10), day(12, 3, 30))
    less = await world.ask(asked(start, end), partial=PartialMode.ALLOW)
    assert rows(less) == truth(day(2, 10, 15), day(12, 3, 15))
    assert less.status.exactness is Exactness.PARTIAL
    assert less.status.missing_intervals == (Interval(start, day(2, 10, 15)), Interval(day(12, 3, 15), end))
    assert DegradationReason.ROLLUP_NOT_BUILT in less.status.reasons


async def test_a_partition_that_is_not_here_is_missing(
    world: World, old: Segment, new: Segment, soon: Callable[[], Deadline]
) -> None:
    await world.mirror.ensure(BY_CITY, [old], soon())
    world.learn(old, new)
    assert (await world.ask(asked())).verdict is Verdict.NOT_APPLICABLE
    less = await world.ask(asked(), partial=PartialMode.ALLOW)
    assert rows(less) == truth(day(1), day(10))
    assert less.status.missing_intervals == (Interval(day(10), day(20)),)
    assert rows(await world.ask(asked(end=day(9)))) == truth(day(1), day(9))


async def test_the_version_before_answers_while_the_next_one_is_not_here(
    world: World, store: FakeSegments, old: Segment, new: Segment, soon: Callable[[], Deadline]
) -> None:
    await world.mirror.ensure(BY_CITY, [old, new], soon())
    world.learn(old, new, age=30.0)
    changed = {key: count + 1 for key, count in FACTS.items()}
    later = segment(store, 3, SECOND, changed, world.ago(5), version=2)
    world.learn(old, later, age=1.0)
    answer = await world.ask(asked())
    assert rows(answer) == truth(day(1), day(20))
    assert (answer.status.as_of, answer.status.reasons) == (new.as_of, (DegradationReason.ROLLUP_DIRTY,))
    await world.mirror.ensure(BY_CITY, [later], soon())
    answer = await world.ask(asked(day(10)))
    assert rows(answer) == truth(day(10), day(20), changed)
    assert answer.status.as_of == world.ago(1)


@pytest.mark.parametrize("rule", [Rule.QUARANTINE, Rule.DEF])
async def test_what_may_not_be_used_never_answers(
    world: World, old: Segment, new: Segment, soon: Callable[[], Deadline], rule: Rule
) -> None:
    await world.mirror.ensure(BY_CITY, [old, new], soon())
    world.learn(old, new)
    world.learn(unusable=rule)
    step = await world.ask(asked(), partial=PartialMode.ALLOW)
    assert (step.verdict, step.codes) == (Verdict.NOT_APPLICABLE, (rule.value,))


async def test_row_policies_filters_order_and_limit_hold_as_ever(
    world: World, old: Segment, new: Segment, soon: Callable[[], Deadline]
) -> None:
    await world.mirror.ensure(BY_CITY, [old, new], soon())
    world.learn(old, new)
    assert rows(await world.ask(asked(order=(OrderKey("rides", descending=True),)), ALICE)) == truth(
        day(1), day(20), tenant="acme"
    )
    paris = await world.ask(asked(order=(OrderKey("city", descending=True),), limit=1), ALICE)
    assert rows(paris) == {"Paris": truth(day(1), day(20), tenant="acme")["Paris"]}
    other = replace(asked(), dimensions=("seats",))
    step = await world.ask(other)
    assert (step.verdict, step.codes) == (Verdict.NOT_APPLICABLE, ("KEYS",))


def test_who_forbids_it_is_not_answered(world: World) -> None:
    assert world.rung.allowed(AnswerPolicy())
    assert not world.rung.allowed(AnswerPolicy(rollup=RollupMode.FORBID))
    assert not world.rung.allowed(AnswerPolicy(accepted_kinds=frozenset({AnswerKind.LIVE})))


async def test_nothing_is_known_before_the_first_look(world: World) -> None:
    assert (await world.ask(asked())).codes == ("COVER",)
