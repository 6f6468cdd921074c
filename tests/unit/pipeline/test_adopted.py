"""Explorations with a deadline: what the caller is given, and what a job gets of what was read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from broker.domain.answer import AnswerKind, AnswerStatus, Batch, Cost, CostClass, Exactness
from broker.domain.deadline import Deadline
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.plan import Block, CsvBlock
from broker.domain.pool import PoolName
from broker.domain.principal import Principal
from broker.domain.query import Query
from broker.domain.request import Basis, CallContext, Classification, ExploreEvent, ExploreHeader, RequestKind
from broker.domain.terms import AnswerPolicy
from broker.domain.values import ResultFormat
from broker.domain.work import ExportWork, JobAsk
from broker.pipeline.adopted import Adoptable, adopting
from broker.pipeline.flow import Flow
from broker.pipeline.stage import Group, Question, StreamHandler
from broker.policy.admission.values import Quantiles
from broker.policy.classify import Classified
from broker.policy.resolve import resolve_query
from tests.support.datasets import flights

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ADA = Principal("ada", "acme", frozenset({"*"}))
ASK = JobAsk(ExportWork(Query("flights")), AnswerPolicy(), "", b"", "")
PLAN = resolve_query(Query("flights", ("flights",), ("origin",)), flights(), ADA, NOW)
STATUS = AnswerStatus(AnswerKind.LIVE, Exactness.EXACT, NOW)


@dataclass
class Hands:
    """A clock that stands still but where a test moves it, and jobs that are made at once."""

    at: float = 100.0
    refuses: bool = False
    seconds: float = 3600.0
    work: Adoptable | None = None
    made: list[str] = field(default_factory=list)

    def monotonic(self) -> float:
        return self.at

    def now(self) -> datetime:
        return NOW

    def prepare(self) -> None:
        self.made.append("prepared")

    async def adopt(self, context: CallContext, ask: JobAsk, work: Adoptable) -> str | None:
        assert context.deadline.at == 110.0
        if self.refuses:
            return None
        self.made.append("adopted")
        self.work = work
        work.flow.taken.set()
        return "tenants/acme/jobs/a"

    async def submit(self, context: CallContext, ask: JobAsk) -> str:
        self.made.append("submitted")
        return "tenants/acme/jobs/s"


def group(job: JobAsk | None = ASK) -> Group:
    classified = Classified(
        Classification(CostClass.EXPLORATION, PoolName.EXPLORATION, Basis.REQUEST), Cost(), Quantiles()
    )
    question = Question("", PLAN, AnswerPolicy(), ResultFormat.ARROW, classified)
    return Group(CallContext("r", ADA, Deadline(110.0), NOW), RequestKind.EXPLORE, (question,), job=job)


@dataclass
class Database:
    """Gives blocks as the test lets it, and says how it ended."""

    blocks: int = 6
    gate: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    error: BrokerError | None = None
    ended: list[str] = field(default_factory=list)
    begins: bool = True

    async def read(self) -> AsyncGenerator[Block, None]:
        try:
            for number in range(self.blocks):
                await self.gate.acquire()
                yield CsvBlock((), b"%d" % number)
            if self.error is not None:
                raise self.error
            self.ended.append("read")
        except (asyncio.CancelledError, GeneratorExit):
            self.ended.append("stopped")
            raise

    def handler(self) -> StreamHandler:
        async def handle(group: Group) -> AsyncGenerator[ExploreEvent, None]:
            blocks = self.read()
            if group.flow is not None:
                assert group.context.deadline.at >= 3700.0
                if not self.begins:
                    await asyncio.Event().wait()
                group.flow.begin(NOW, None)
                blocks = group.flow.kept(blocks)
            headed = False
            async for block in blocks:
                assert isinstance(block, CsvBlock)
                if not headed:
                    yield ExploreHeader((), NOW)
                    headed = True
                yield Batch(0, 1, block.data)
            yield STATUS

        return handle


async def collected(work: Adoptable) -> list[bytes]:
    return [block.data async for block in work.flow.blocks() if isinstance(block, CsvBlock)]


async def test_who_asked_for_no_job_is_not_touched() -> None:
    hands, database = Hands(), Database(blocks=2)
    database.gate = asyncio.Semaphore(2)
    events = [e async for e in adopting(hands, hands)(database.handler())(group(None))]
    assert ([type(e) for e in events], hands.made) == ([ExploreHeader, Batch, Batch, AnswerStatus], [])


async def test_what_ends_in_time_is_an_answer() -> None:
    hands, database = Hands(), Database(blocks=2)
    database.gate = asyncio.Semaphore(2)
    events = [e async for e in adopting(hands, hands)(database.handler())(group())]
    assert events[-1] == STATUS
    assert ([type(e) for e in events[:-1]], hands.made) == ([ExploreHeader, Batch, Batch], ["prepared"])


async def test_a_job_gets_all_that_was_read_and_all_that_follows() -> None:
    hands, database = Hands(), Database()
    events = adopting(hands, hands)(database.handler())(group())
    for _ in range(2):
        database.gate.release()
    seen = [await anext(events) for _ in range(3)]
    assert [e.encoded for e in seen[1:] if isinstance(e, Batch)] == [b"0", b"1"]
    hands.at = 109.95
    status = await anext(events)
    assert isinstance(status, AnswerStatus)
    assert (status.job, status.exactness, status.degraded) == ("tenants/acme/jobs/a", Exactness.PARTIAL, True)
    with pytest.raises(StopAsyncIteration):
        await anext(events)
    assert hands.work is not None
    for _ in range(4):
        database.gate.release()
    assert await collected(hands.work) == [b"0", b"1", b"2", b"3", b"4", b"5"]
    await hands.work.stop()
    assert database.ended == ["read"]


async def test_a_job_learns_what_the_reading_ended_with() -> None:
    error = BrokerError(ErrorReason.STORE_UNAVAILABLE, "gone")
    hands, database = Hands(), Database(blocks=2, error=error)
    events = adopting(hands, hands)(database.handler())(group())
    database.gate.release()
    await anext(events)
    hands.at = 109.95
    assert isinstance([e async for e in events][-1], AnswerStatus)
    assert hands.work is not None
    database.gate.release()
    with pytest.raises(BrokerError, match="gone"):
        await collected(hands.work)
    await hands.work.stop()


@pytest.mark.parametrize(("begins", "refuses"), [(False, False), (True, True)])
async def test_work_that_cannot_be_adopted_is_submitted_and_ends_here(*, begins: bool, refuses: bool) -> None:
    hands, database = Hands(refuses=refuses), Database(begins=begins)
    events = adopting(hands, hands)(database.handler())(group())
    if begins:
        database.gate.release()
        await anext(events)
    hands.at = 109.95
    rest = [e async for e in events]
    assert isinstance(rest[-1], AnswerStatus)
    assert (rest[-1].job, hands.made) == ("tenants/acme/jobs/s", ["prepared", "submitted"])
    assert database.ended == (["stopped"] if begins else [])


async def test_a_stream_too_long_to_be_kept_is_answered_in_time_and_else_begun_anew() -> None:
    hands, database = Hands(), Database()
    database.gate = asyncio.Semaphore(6)
    events = [e async for e in adopting(hands, hands, kept_bytes=0)(database.handler())(group())]
    assert [e.encoded for e in events if isinstance(e, Batch)] == [b"%d" % i for i in range(6)]
    late, database = Hands(), Database()
    stream = adopting(late, late, kept_bytes=0)(database.handler())(group())
    for _ in range(3):
        database.gate.release()
    for _ in range(4):
        await anext(stream)
    late.at = 109.95
    rest = [e async for e in stream]
    assert isinstance(rest[-1], AnswerStatus)
    assert (rest[-1].job, late.made) == ("tenants/acme/jobs/s", ["prepared", "submitted"])
    assert database.ended == ["stopped"]


async def test_what_a_job_is_about_to_take_is_kept_however_long_it_gets() -> None:
    flow, database = Flow(most=0), Database(blocks=3)
    blocks = flow.kept(database.read())
    database.gate.release()
    await anext(blocks)
    assert await flow.keep()
    for _ in range(2):
        database.gate.release()
    assert [block async for block in blocks] == [CsvBlock((), b"1"), CsvBlock((), b"2")]
    flow.end(None)
    assert [block async for block in flow.blocks()] == [CsvBlock((), b"%d" % i) for i in range(3)]
    flow.close()


async def test_a_caller_who_goes_away_ends_the_work() -> None:
    hands, database = Hands(), Database()
    events = adopting(hands, hands)(database.handler())(group())
    database.gate.release()
    await anext(events)
    await events.aclose()
    assert (database.ended, hands.made) == (["stopped"], ["prepared"])


async def test_errors_before_the_deadline_are_the_callers() -> None:
    hands, database = Hands(), Database(blocks=1, error=BrokerError(ErrorReason.OVERLOADED, "full"))
    database.gate.release()
    with pytest.raises(BrokerError, match="full"):
        [e async for e in adopting(hands, hands)(database.handler())(group())]
    assert hands.made == ["prepared"]
