"""Reading held answers again: each once, a few at a time, given up where there is no room, kept while all is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random

from broker.domain.answer import Answer, AnswerKind, AnswerStatus, Exactness, Table
from broker.domain.deadline import Deadline
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.held import Held, Reach
from broker.domain.model import Dataset
from broker.domain.plan import Finish, Plan, Scan
from broker.domain.principal import Criticality, Principal
from broker.domain.query import Query
from broker.domain.request import CallContext
from broker.domain.terms import AnswerPolicy, CacheMode, Consistency, FallbackMode
from broker.domain.values import ResultFormat
from broker.pipeline.cached import Asked
from broker.pipeline.revalidate import RefreshTerms, Revalidation
from broker.pipeline.stage import Outcome
from broker.telemetry.instruments import Telemetry
from tests.support.virtual_time import START, VirtualClock, run

DATASET = Dataset("orders", "public.orders", {}, {})
PLAN = Plan(Query("orders"), Scan(DATASET, (), ()), None, Finish((), (), (), ()), "p")
TABLE = Table((), 0, ResultFormat.COLUMNS, b"")
ANSWER = Answer(TABLE, AnswerStatus(AnswerKind.LIVE, Exactness.EXACT, START))
CONTEXT = CallContext(
    "r", Principal("ada", "acme"), Deadline(0.5), START, trace={"traceparent": "x"}, payload=7
)


def asked(key: str) -> Asked:
    policy = AnswerPolicy(cache=CacheMode.ONLY, accepted_kinds=frozenset({AnswerKind.CACHE_STALE}))
    return Asked(PLAN, policy, ResultFormat.COLUMNS, Consistency.ANY, key)


def held(key: str, seconds: float = 0.1) -> Held:
    return Held(key, TABLE, ANSWER.status, Reach("orders"), seconds=seconds)


@dataclass
class Source:
    """What is asked: answers after a while, or fails as a test says."""

    seconds: float = 0.1
    errors: Callable[[str], Exception | None] = lambda _key: None
    asked: list[tuple[str, float]] = field(default_factory=list)
    contexts: list[CallContext] = field(default_factory=list)
    questions: list[Asked] = field(default_factory=list)
    running: int = 0
    most: int = 0

    async def __call__(self, asked: Asked, context: CallContext) -> Sequence[Outcome]:
        self.asked.append((asked.key, asyncio.get_running_loop().time()))
        self.contexts.append(context)
        self.questions.append(asked)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self.running -= 1
        error = self.errors(asked.key)
        if isinstance(error, BrokerError) and error.reason is ErrorReason.STORE_UNAVAILABLE:
            return [error]
        if error is not None:
            raise error
        return [ANSWER]

    @property
    def keys(self) -> list[str]:
        return [key for key, _ in self.asked]


@asynccontextmanager
async def running(source: Source, seats: int = 8, **terms: float) -> AsyncIterator[Revalidation]:
    made = Revalidation(
        lambda: seats,
        VirtualClock(),
        Random(1),
        Telemetry.off(),
        RefreshTerms(**terms),  # type: ignore[arg-type] # numbers by name
    )
    task = asyncio.create_task(made.run(source))
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def wish(made: Revalidation, *keys: str) -> None:
    for key in keys:
        assert made.refresh(asked(key), held(key), CONTEXT)


def test_each_key_is_read_once_and_a_few_at_a_time() -> None:
    async def main() -> Source:
        source = Source()
        async with running(source) as made:
            keys = [f"k{i}" for i in range(40)]
            wish(made, *keys, *keys)
            assert made.waiting == 40
            await asyncio.sleep(0.06)
            wish(made, *source.keys)  # under way already
            await asyncio.sleep(60)
            assert made.waiting == 0
        return source

    source = run(main())
    assert sorted(source.keys) == sorted(f"k{i}" for i in range(40))
    assert source.most == 2, "a quarter of eight seats"
    assert len({at for _, at in source.asked}) == 40, "never two at the same instant"


def test_it_is_a_call_of_its_own_of_the_least_importance() -> None:
    async def main() -> Source:
        source = Source()
        async with running(source, deadline=3.0, patience=5.0) as made:
            made.refresh(asked("slow"), held("slow", 2.0), CONTEXT)
            await asyncio.sleep(5)
        return source

    source = run(main())
    (context,), (question,) = source.contexts, source.questions
    assert context.principal == Principal("ada", "acme", criticality=Criticality.SHEDDABLE)
    assert context.request_id != CONTEXT.request_id
    assert (context.trace, context.payload, context.deadline.at) == ({}, 0, 10.0)
    assert question.policy.cache is CacheMode.REVALIDATE
    assert question.policy.fallback is FallbackMode.FAIL
    assert AnswerKind.LIVE in question.policy.accepted_kinds
    assert question.consistency is Consistency.BOUNDED


def test_what_is_refused_is_given_up_and_slows_down() -> None:
    async def main() -> Source:
        source = Source(errors=lambda _: BrokerError(ErrorReason.OVERLOADED, "no room", retry_after=1.0))
        async with running(source, pause=1.0, longest=4.0) as made:
            wish(made, *(f"k{i}" for i in range(10)))
            await asyncio.sleep(20)
            assert 0 < made.waiting < 10
        return source

    source = run(main())
    assert len(set(source.keys)) == len(source.keys)
    gaps = [later - earlier for (_, earlier), (_, later) in pairwise(source.asked)]
    assert gaps[-1] >= 2.0, "half of the longest"


def test_while_the_database_is_away_wishes_are_kept_and_then_the_last_asked_are_first() -> None:
    async def main() -> tuple[list[str], int, float]:
        away = True
        source = Source(errors=lambda _: BrokerError(ErrorReason.STORE_UNAVAILABLE, "away") if away else None)
        async with running(source, seats=16) as made:
            wish(made, *(f"k{i}" for i in range(20)))
            await asyncio.sleep(30)
            assert len(source.asked) < 60, "it is not asked all the time"
            wish(made, "k3", "k5")
            source.asked.clear()
            away = False
            back = asyncio.get_running_loop().time()
            await asyncio.sleep(10)
            return source.keys, source.most, source.asked[-1][1] - back

    keys, most, seconds = run(main())
    assert keys.index("k5") < keys.index("k3") < 4
    assert set(keys) == {f"k{i}" for i in range(20)}
    assert most == 4
    assert seconds < 4


def test_errors_and_what_never_ends_stop_nothing() -> None:
    async def main() -> Source:
        source = Source(errors=lambda key: ValueError("a bug") if key == "bad" else None)
        async with running(source, seats=1, deadline=2.0, patience=1.0) as made:
            wish(made, "bad")
            await asyncio.sleep(1)
            source.seconds = 1e9
            wish(made, "endless")
            await asyncio.sleep(5)
            source.seconds = 0.1
            wish(made, "good")
            await asyncio.sleep(5)
        return source

    assert run(main()).keys == ["bad", "endless", "good"]


def test_wishes_are_bounded_in_number_and_age() -> None:
    async def main() -> Source:
        source = Source(seconds=10.0)
        async with running(source, seats=1, waiting=5, keep=25.0, deadline=100.0) as made:
            await asyncio.sleep(0)
            wish(made, *(f"k{i}" for i in range(9)))
            assert made.waiting == 5
            await asyncio.sleep(100)
        return source

    assert run(main()).keys == ["k8", "k7", "k6"]
