"""Answers out of other held answers: what they say of themselves, when they stand for a live one, and what is kept."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from broker.aggregation.executor import WorkerTaskError
from broker.domain.answer import (
    Answer,
    AnswerKind,
    DegradationReason,
    Exactness,
    Interval,
    LadderStep,
    Rung,
    Verdict,
)
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.held import Reach
from broker.domain.pool import PoolName
from broker.domain.query import Condition, Operator
from broker.domain.rollup import micros
from broker.domain.terms import AnswerPolicy, CacheMode, RollupMode
from broker.pipeline.contained import NOT_AGAIN
from tests.support.contained import (
    ALONE,
    ARROW,
    CONTEXT,
    HELD,
    MARCH,
    NOW,
    ROWS,
    Workers,
    World,
    asked,
    during,
    plan,
)
from tests.support.held import Changes


async def test_the_answer_names_what_it_was_made_from_and_is_held_itself() -> None:
    world = World()
    key = world.hold()
    world.clock.at += timedelta(seconds=5)
    answer = await world.fresh(asked(ALONE))
    assert answer is not None
    (part,) = answer.status.parts
    assert (answer.status.kind, answer.status.as_of) == (AnswerKind.CACHE_FRESH, NOW)
    assert (part.source_name, part.source_version, part.as_of) == (f"contained:{key}", "v1", NOW)
    (step,) = answer.status.ladder
    assert (step.rung, step.verdict, step.source_name) == (
        Rung.CACHE_FRESH,
        Verdict.ANSWERED,
        part.source_name,
    )
    assert answer.table.row_count == 3
    again = world.cached.near(asked(ALONE), CONTEXT)
    assert again is not None
    assert (again.table, again.status.as_of, again.status.parts) == (answer.table, NOW, (part,))


async def test_what_was_made_answers_in_its_turn() -> None:
    world = World()
    world.hold()
    await world.fresh(asked(ALONE))
    world.answers.own.pop(asked(HELD).key)
    answer = await world.fresh(asked(plan()))
    assert answer is not None
    assert answer.status.parts[0].source_name == f"contained:{asked(ALONE).key}"


async def test_either_format_is_made_of_the_other() -> None:
    world = World()
    world.hold()
    answer = await world.fresh(asked(HELD, format=ARROW))
    assert answer is not None
    assert (answer.table.format, answer.table.row_count) == (ARROW, len(ROWS))


@pytest.mark.parametrize(
    "policy",
    [
        AnswerPolicy(cache=CacheMode.BYPASS),
        AnswerPolicy(cache=CacheMode.REVALIDATE),
        AnswerPolicy(rollup=RollupMode.REQUIRE),
        AnswerPolicy(max_staleness=0.0),
        AnswerPolicy(max_staleness=2.0),
        AnswerPolicy(accepted_kinds=frozenset({AnswerKind.LIVE, AnswerKind.CACHE_STALE})),
    ],
    ids=["bypass", "revalidate", "rollups", "no age", "younger", "kinds"],
)
async def test_the_terms_of_the_caller_hold_for_what_it_is_made_from(policy: AnswerPolicy) -> None:
    world = World()
    world.hold()
    world.clock.at += timedelta(seconds=5)
    found = asked(ALONE, policy)
    (answer,) = await world.contained.look([found], [None], CONTEXT, PoolName.DASHBOARD)
    assert answer is None
    assert not world.workers.calls


@pytest.mark.parametrize(
    "status",
    [
        {"exactness": Exactness.PARTIAL},
        {"missing_intervals": (Interval(NOW, None),)},
        {"sealed_intervals": (Interval(NOW, None),)},
    ],
    ids=["partial", "missing", "sealed"],
)
async def test_nothing_is_made_of_what_is_not_complete(status: dict[str, Any]) -> None:
    world = World()
    world.hold(**status)
    assert await world.fresh(asked(ALONE)) is None


async def test_what_is_too_old_for_a_live_one_is_a_rung_below_it() -> None:
    world = World()
    key = world.hold()
    world.clock.at += timedelta(seconds=50)
    assert await world.fresh(asked(ALONE)) is None
    answer = await world.stale(asked(ALONE))
    assert isinstance(answer, Answer)
    assert (answer.status.kind, answer.status.staleness) == (AnswerKind.CACHE_STALE, 50.0)
    assert answer.status.parts[0].source_name == f"contained:{key}"
    only = await world.fresh(asked(plan("origin"), AnswerPolicy(cache=CacheMode.ONLY)))
    assert only is not None
    assert (only.status.kind, only.status.degraded) == (AnswerKind.CACHE_STALE, True)
    assert only.status.reasons == (DegradationReason.POLICY_CACHE_ONLY,)
    world.clock.at += timedelta(seconds=51)
    nothing = await world.stale(asked(plan("origin")))
    assert isinstance(nothing, LadderStep)
    assert (nothing.verdict, nothing.codes) == (Verdict.NOT_APPLICABLE, ("NOT_CONTAINED",))


async def test_what_one_caller_may_not_have_is_looked_for_again_on_other_terms() -> None:
    world = World()
    world.hold()
    world.clock.at += timedelta(seconds=50)
    assert await world.fresh(asked(ALONE)) is None
    assert await world.fresh(asked(ALONE, AnswerPolicy(cache=CacheMode.ONLY))) is not None


async def test_edges_that_were_moved_are_told_of_what_it_is_made_of() -> None:
    world = World()
    world.hold(during(datetime(2013, 1, 1, tzinfo=UTC)))
    source = world.contained.stale(asked(replace(during(MARCH), snapped=True)))
    assert source is not None
    status = source.held.status
    assert status.exactness is Exactness.SNAPPED
    assert status.effective_range == Interval(MARCH, MARCH + timedelta(days=31))


@pytest.mark.parametrize(
    ("failure", "verdict", "code"),
    [
        (BrokerError(ErrorReason.DEADLINE_EXCEEDED, "late"), Verdict.TIMED_OUT, "DEADLINE_EXCEEDED"),
        (BrokerError(ErrorReason.WORKER_LOST, "lost"), Verdict.FAILED, "WORKER_LOST"),
        (WorkerTaskError("broken"), Verdict.FAILED, "INTERNAL"),
    ],
    ids=["late", "lost", "broken"],
)
async def test_a_failure_leaves_the_question_to_the_next_source(
    failure: Exception, verdict: Verdict, code: str
) -> None:
    world = World(workers=Workers(failure))
    world.hold()
    assert await world.fresh(asked(ALONE)) is None
    step = await world.stale(asked(ALONE))
    assert isinstance(step, LadderStep)
    assert (step.rung, step.verdict, step.codes) == (Rung.CACHE_STALE, verdict, (code,))
    assert world.cached.near(asked(ALONE), CONTEXT) is None


async def test_whoever_asks_for_what_is_being_made_waits_for_it() -> None:
    world = World()
    world.hold()
    every = await asyncio.gather(*(world.fresh(asked(ALONE)) for _ in range(50)))
    assert len({answer.table for answer in every if answer is not None}) == 1
    assert None not in every
    assert world.workers.calls == 1


async def test_what_nothing_contains_is_looked_for_again_a_moment_later() -> None:
    world = World()
    assert await world.fresh(asked(ALONE)) is None
    world.hold()
    assert await world.fresh(asked(ALONE)) is None
    world.clock.seconds += NOT_AGAIN
    assert await world.fresh(asked(ALONE)) is not None


async def test_the_smallest_of_what_contains_it_is_read() -> None:
    world = World()
    world.hold()
    await world.fresh(asked(ALONE))
    one = Condition("carrier", Operator.EQ, ("AA",))
    answer = await world.fresh(asked(plan(filter=one)))
    assert answer is not None
    assert answer.status.parts[0].source_name == f"contained:{asked(ALONE).key}"
    assert answer.status.parts[0].row_count == 3


class Elsewhere(Changes):
    """Something has changed, but not in March."""

    def unchanged(self, reach: Reach, moment: str) -> float | None:
        """Where March alone was read, nothing has."""
        return self.age if reach.span("time_hour").lo >= micros(MARCH) else None


async def test_a_change_of_what_is_not_asked_for_leaves_the_rest_fresh() -> None:
    world = World(changes=Elsewhere())
    world.hold(during(datetime(2013, 1, 1, tzinfo=UTC)))
    world.clock.at += timedelta(seconds=50)
    assert await world.fresh(asked(during(datetime(2013, 2, 1, tzinfo=UTC)))) is None
    source = world.contained.stale(asked(during(MARCH)))
    assert source is not None
    assert source.fresh.kind is AnswerKind.CACHE_FRESH
    assert source.held.reach.span("time_hour").lo == micros(MARCH)
