"""Answers out of other held answers: what they say of themselves, when they stand for a live one, and what is kept."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from broker.aggregation import tasks
from broker.aggregation.executor import WorkerTaskError
from broker.domain.answer import (
    Answer,
    AnswerKind,
    AnswerStatus,
    Exactness,
    Interval,
    LadderStep,
    Rung,
    Table,
    Verdict,
)
from broker.domain.deadline import Deadline
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.held import Reach
from broker.domain.plan import Finish, Plan, Rows, ScanResult
from broker.domain.pool import PoolName
from broker.domain.principal import Principal
from broker.domain.query import AbsoluteRange, Condition, Grain, Operator, Query, TimeSelection
from broker.domain.request import CallContext, RequestKind
from broker.domain.rollup import micros
from broker.domain.terms import AnswerPolicy, CacheMode, Consistency, RollupMode
from broker.domain.timegrid import build
from broker.domain.values import Column, DataType, ResultFormat
from broker.pipeline.cached import Asked, Cached, asked_of
from broker.pipeline.contained import Contained, StaleContained
from broker.pipeline.stage import Group, Question
from broker.policy.classify import Classifier, Subject
from broker.policy.containment import content_of
from broker.policy.freshness import Ages
from broker.policy.resolve import resolve_query
from broker.telemetry.instruments import Telemetry
from tests.support.datasets import flights
from tests.support.held import Changes, MemoryAnswers

NOW = datetime(2024, 1, 1, tzinfo=UTC)
CONTEXT = CallContext("r", Principal("ada", "acme"), Deadline(10.0), NOW)
COLUMNS, ARROW = ResultFormat.COLUMNS, ResultFormat.ARROW


def plan(*by: str, **more: object) -> Plan:
    query = Query("flights", measures=("flights",), dimensions=by, **more)  # type: ignore[arg-type] # as it says
    return resolve_query(query, flights(), CONTEXT.principal, NOW)


HELD = plan("carrier", "origin")
ALONE = plan("carrier")
STATES = (
    Column("k0", DataType.STRING),
    Column("k1", DataType.STRING),
    Column("flights.n", DataType.INT64),
)
ROWS = (("AA", "EWR", 1), ("AA", "JFK", 2), ("UA", "EWR", 3), (None, "EWR", 4))


MARCH = datetime(2013, 3, 1, tzinfo=UTC)


def during(first: datetime) -> Plan:
    """By carrier and day, up to the end of March."""
    days = AbsoluteRange(first, MARCH + timedelta(days=31))
    return plan("carrier", time=TimeSelection("time_hour", Grain.DAY, range=days))


def table() -> Table:
    finish = replace(HELD.finish, pushed_down=False)
    (made,) = tasks.table((ScanResult((Rows(STATES, ROWS),)),), finish, COLUMNS)
    return Table(HELD.columns, made.row_count, COLUMNS, made.data)


@dataclass
class Clock:
    at: datetime = NOW

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return 0.0


@dataclass
class Workers:
    """Kernels in this process."""

    failure: Exception | None = None
    calls: int = 0

    async def table(
        self,
        _pool: PoolName,
        results: tuple[ScanResult, ...],
        finish: Finish,
        encoding: ResultFormat,
        _deadline: Deadline,
    ) -> Table:
        self.calls += 1
        if self.failure is not None:
            raise self.failure
        (made,) = tasks.table(results, finish, encoding)
        return Table(finish.columns, made.row_count, encoding, made.data)


@dataclass
class World:
    answers: MemoryAnswers = field(default_factory=MemoryAnswers)
    changes: Changes = field(default_factory=lambda: Changes(tracked=False))
    clock: Clock = field(default_factory=Clock)
    workers: Workers = field(default_factory=Workers)

    def __post_init__(self) -> None:
        self.cached = Cached(
            self.answers, self.changes, self.clock, lambda _: Ages(10.0, 100.0), lambda: 1.0, Telemetry.off(), 10_000,
            content=content_of,
        )  # fmt: skip
        self.contained = Contained(self.cached, self.workers, build)  # type: ignore[arg-type] # the rest is not asked for

    def hold(self, plan: Plan = HELD, **status: object) -> str:
        """The answer is held as if it had just been read; its key."""
        found = asked(plan)
        question = self.question(found)
        read = AnswerStatus(AnswerKind.LIVE, Exactness.EXACT, NOW, answer_version="v1")
        read = replace(read, **status)  # type: ignore[arg-type] # as it says
        self.cached.keep(question, Answer(table(), read), self.cached.moment(question))
        return found.key

    def question(self, found: Asked) -> Question:
        classified = Classifier().classify(Subject(RequestKind.DASHBOARD, "f"), 0.0)
        return Question("p", found.plan, found.policy, found.format, classified, key=found.key)

    async def fresh(self, found: Asked) -> Answer | None:
        return await self.contained.answer(found, CONTEXT, PoolName.DASHBOARD)

    async def stale(self, found: Asked) -> Answer | LadderStep:
        question = self.question(found)
        group = Group(CONTEXT, RequestKind.DASHBOARD, (question,))
        return await StaleContained(self.contained).answer(question, group, CONTEXT.deadline)


def asked(plan: Plan, policy: AnswerPolicy | None = None, format: ResultFormat = COLUMNS) -> Asked:
    return asked_of(plan, policy or AnswerPolicy(), format, Consistency.BOUNDED)


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
    assert only.status.kind is AnswerKind.CACHE_STALE
    world.clock.at += timedelta(seconds=51)
    nothing = await world.stale(asked(plan("origin")))
    assert isinstance(nothing, LadderStep)
    assert (nothing.verdict, nothing.codes) == (Verdict.NOT_APPLICABLE, ("NOT_CONTAINED",))


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
