"""A cache whose answers contain others, with the kernels in this process."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from broker.aggregation import tasks
from broker.domain.answer import (
    Answer,
    AnswerKind,
    AnswerStatus,
    Exactness,
    LadderStep,
    Table,
)
from broker.domain.deadline import Deadline
from broker.domain.plan import Finish, Plan, Rows, ScanResult
from broker.domain.pool import PoolName
from broker.domain.principal import Principal
from broker.domain.query import AbsoluteRange, Grain, Query, TimeSelection
from broker.domain.request import CallContext, RequestKind
from broker.domain.terms import AnswerPolicy, Consistency
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
    seconds: float = 0.0

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.seconds


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
        await asyncio.sleep(0)
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
