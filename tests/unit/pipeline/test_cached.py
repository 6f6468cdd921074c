"""What is kept, under which key, and who gets it instead of a live answer."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest

from broker.domain.answer import (
    Answer,
    AnswerKind,
    AnswerPart,
    AnswerStatus,
    Batch,
    Cost,
    DegradationReason,
    Exactness,
    Guarantee,
    PartSource,
    Table,
)
from broker.domain.deadline import Deadline
from broker.domain.held import Held
from broker.domain.principal import Principal
from broker.domain.query import Query
from broker.domain.request import CallContext, ExploreEvent, ExploreHeader, RequestKind
from broker.domain.terms import ORDINARY_KINDS, AnswerPolicy, CacheMode, Consistency, EdgeMode, RollupMode
from broker.domain.values import ResultFormat
from broker.pipeline.cached import Asked, Cached, asked_of, key_of
from broker.pipeline.keeping import keeping, keeping_stream
from broker.pipeline.stage import Group, Outcome, Question
from broker.pipeline.whole import events_of
from broker.policy.classify import Classifier, Subject
from broker.policy.freshness import Ages
from broker.policy.resolve import resolve_query
from broker.telemetry.instruments import Telemetry
from tests.support.datasets import flights
from tests.support.held import Changes, MemoryAnswers

NOW = datetime(2024, 1, 1, tzinfo=UTC)
CONTEXT = CallContext("r", Principal("ada", "acme"), Deadline(10.0), NOW)
PLAN = resolve_query(Query("flights", measures=("flights",)), flights(), CONTEXT.principal, NOW)
CLASSIFIED = Classifier().classify(Subject(RequestKind.DASHBOARD, PLAN.fingerprint), 0.0)
KEY = key_of(PLAN, AnswerPolicy(), ResultFormat.COLUMNS)


@dataclass
class Clock:
    at: datetime = NOW

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return 0.0


@dataclass
class World:
    """A cache and a source whose answers it keeps."""

    answers: MemoryAnswers = field(default_factory=MemoryAnswers)
    changes: Changes = field(default_factory=Changes)
    clock: Clock = field(default_factory=Clock)
    ages: Ages = field(default_factory=lambda: Ages(soft=10.0, hard=100.0))
    refreshed: list[Asked] = field(default_factory=list)

    @property
    def cached(self) -> Cached:
        def refresh(asked: Asked, _held: Held, _context: CallContext) -> bool:
            self.refreshed.append(asked)
            return True

        return Cached(
            self.answers,
            self.changes,
            self.clock,
            lambda _: self.ages,
            lambda: 1.0,
            Telemetry.off(),
            1000,
            refresh,
        )

    async def read(self, policy: AnswerPolicy | None = None, outcome: Outcome | None = None) -> None:
        """A question is read, not from the cache."""
        policy = policy or AnswerPolicy()

        async def source(_group: Group) -> Sequence[Outcome]:
            return [outcome or answer()]

        key = key_of(PLAN, policy, ResultFormat.COLUMNS)
        question = Question("", PLAN, policy, ResultFormat.COLUMNS, CLASSIFIED, key=key)
        await keeping(self.cached)(source)(Group(CONTEXT, RequestKind.DASHBOARD, (question,)))

    async def look(
        self, policy: AnswerPolicy | None = None, consistency: Consistency = Consistency.BOUNDED
    ) -> Answer | None:
        asked = asked_of(PLAN, policy or AnswerPolicy(), ResultFormat.COLUMNS, consistency)
        (found,) = await self.cached.look([asked], CONTEXT)
        return found

    def passed(self, seconds: float) -> None:
        self.clock.at += timedelta(seconds=seconds)


def answer(
    kind: AnswerKind = AnswerKind.LIVE,
    exactness: Exactness = Exactness.EXACT,
    size: int = 10,
    lag: float | None = None,
) -> Answer:
    source = PartSource.LIVE if kind is AnswerKind.LIVE else PartSource.ROLLUP
    part = AnswerPart(source, "primary" if source is PartSource.LIVE else "by_day", NOW, replica_lag=lag)
    status = AnswerStatus(kind, exactness, NOW, parts=(part,), actual=Cost(0.5), answer_version="v")
    return Answer(Table((), 1, ResultFormat.COLUMNS, bytes(size)), status)


async def test_an_answer_that_nothing_has_changed_since_is_fresh_however_old_it_is() -> None:
    world = World(ages=Ages(soft=0.0, hard=100.0))
    await world.read()
    world.passed(90)
    found = await world.look()
    assert found is not None
    status = found.status
    assert (status.kind, status.degraded, status.guarantee) == (
        AnswerKind.CACHE_FRESH, False, Guarantee.BOUNDED_STALENESS,
    )  # fmt: skip
    assert status.guarantee_bound == status.staleness == pytest.approx(0.1)
    assert status.parts[0].source is PartSource.CACHE
    assert status.parts[0].as_of == NOW, "a part keeps the instant at which it was read"
    world.changes.seen += 1
    assert await world.look() is None, "something has changed, and there is no soft age"
    world.passed(11)
    world.changes.seen -= 1
    assert await world.look() is None, "older than the hard age"


async def test_within_the_soft_age_a_changed_answer_is_given_while_a_newer_one_is_read() -> None:
    world = World()
    await world.read()
    world.changes.seen += 1
    world.passed(5)
    found = await world.look()
    assert found is not None
    status = found.status
    assert (status.kind, status.degraded, status.degradation_level) == (AnswerKind.CACHE_STALE, False, 1)
    assert status.reasons == (DegradationReason.REVALIDATING,)
    assert status.refresh_expected == world.clock.at + timedelta(seconds=0.5)
    assert [each.key for each in world.refreshed] == [KEY]
    world.passed(6)
    assert await world.look() is None


@pytest.mark.parametrize(
    ("policy", "taken"),
    [
        (AnswerPolicy(), True),
        (AnswerPolicy(cache=CacheMode.ONLY), True),
        (AnswerPolicy(cache=CacheMode.REVALIDATE), False),
        (AnswerPolicy(cache=CacheMode.BYPASS), False),
        (AnswerPolicy(max_staleness=0.0), False),
        (AnswerPolicy(max_staleness=5.0), True),
        (AnswerPolicy(accepted_kinds=frozenset({AnswerKind.LIVE})), False),
        (AnswerPolicy(accepted_kinds=ORDINARY_KINDS - {AnswerKind.CACHE_FRESH}), False),
        (AnswerPolicy(accepted_kinds=frozenset({AnswerKind.CACHE_FRESH})), True),
        (AnswerPolicy(accepted_kinds=frozenset({AnswerKind.CACHE_FRESH, AnswerKind.ROLLUP})), False),
        (AnswerPolicy(rollup=RollupMode.FORBID), True),
        (AnswerPolicy(rollup=RollupMode.REQUIRE), False),
    ],
)
async def test_the_callers_terms_decide_what_is_taken(policy: AnswerPolicy, taken: bool) -> None:
    world = World()
    await world.read()
    world.passed(1)
    assert (await world.look(policy) is not None) is taken
    assert (await world.look(policy, Consistency.SNAPSHOT)) is None


async def test_an_answer_of_rollups_is_for_those_who_do_not_forbid_them() -> None:
    world = World()
    await world.read(outcome=answer(AnswerKind.ROLLUP))
    assert world.answers.kept[0].reach.rollups == ("by_day",)
    assert await world.look(AnswerPolicy(rollup=RollupMode.FORBID)) is None
    assert await world.look(AnswerPolicy(rollup=RollupMode.REQUIRE)) is not None


async def test_whoever_takes_nothing_but_the_cache_has_old_answers_with_the_reason() -> None:
    world = World()
    await world.read()
    world.changes.seen += 1
    world.passed(50)
    assert await world.look() is None
    found = await world.look(AnswerPolicy(cache=CacheMode.ONLY))
    assert found is not None
    assert found.status.reasons == (DegradationReason.POLICY_CACHE_ONLY,)
    assert (found.status.degraded, found.status.degradation_level, found.status.staleness) == (True, 2, 50.0)
    assert await world.look(AnswerPolicy(cache=CacheMode.ONLY, max_staleness=49.0)) is None


@pytest.mark.parametrize(
    ("policy", "outcome", "kept"),
    [
        (AnswerPolicy(), answer(), True),
        (AnswerPolicy(cache=CacheMode.REVALIDATE), answer(), True),
        (AnswerPolicy(cache=CacheMode.BYPASS), answer(), False),
        (AnswerPolicy(), answer(exactness=Exactness.PARTIAL), False),
        (AnswerPolicy(), answer(exactness=Exactness.SNAPPED), True),
        (AnswerPolicy(), answer(AnswerKind.ESTIMATE, Exactness.ESTIMATED), False),
        (AnswerPolicy(), answer(AnswerKind.ROLLUP_STALE), False),
        (AnswerPolicy(), answer(size=1000), True),
        (AnswerPolicy(), answer(size=1001), False),
    ],
)
async def test_only_complete_answers_that_were_read_here_are_kept(
    policy: AnswerPolicy, outcome: Answer, kept: bool
) -> None:
    world = World()
    await world.read(policy, outcome)
    assert bool(world.answers.kept) is kept


async def test_what_a_replica_that_lags_has_said_goes_by_its_age() -> None:
    world = World()
    await world.read(outcome=answer(lag=2.0))
    assert world.answers.kept[0].moment == ""
    world.passed(7)
    found = await world.look()
    assert found is not None
    assert found.status.staleness == 9.0, "the age and the lag"
    world.passed(2)
    assert await world.look() is None


async def test_another_process_has_it() -> None:
    world, other = World(), World()
    await other.read()
    world.answers.far = other.answers.far
    found = await world.look()
    assert found is not None
    assert found.table == answer().table


def test_the_key_holds_all_that_shows_in_the_answer() -> None:
    other = resolve_query(
        Query("flights", measures=("flights",)), replace(flights(), version="2"), CONTEXT.principal, NOW
    )
    keys = {
        KEY,
        key_of(PLAN, AnswerPolicy(edge=EdgeMode.SNAP), ResultFormat.COLUMNS),
        key_of(PLAN, AnswerPolicy(), ResultFormat.ARROW),
        key_of(other, AnswerPolicy(), ResultFormat.COLUMNS),
    }
    assert len(keys) == 4
    assert key_of(PLAN, AnswerPolicy(max_staleness=3.0), ResultFormat.COLUMNS) == KEY


@pytest.mark.parametrize(("batches", "kept"), [(1, True), (2, False), (0, False)])
async def test_a_stream_is_kept_if_it_is_one_batch(batches: int, kept: bool) -> None:
    world = World()
    whole = replace(answer().status, kind=AnswerKind.LIVE)
    sent = [Batch(i, 1, b"\x10\x01") for i in range(batches)]

    async def source(_group: Group) -> AsyncGenerator[ExploreEvent, None]:
        yield ExploreHeader(PLAN.columns, NOW)
        for batch in sent:
            yield batch
        yield whole

    question = Question("", PLAN, AnswerPolicy(), ResultFormat.COLUMNS, CLASSIFIED, key=KEY)
    group = Group(CONTEXT, RequestKind.EXPLORE, (question,))
    events = [event async for event in keeping_stream(world.cached)(source)(group)]
    assert len(events) == 2 + batches
    assert bool(world.answers.kept) is kept
    if kept:
        found = await world.look()
        assert found is not None
        header, batch, status = events_of(found)
        assert (header.columns, batch) == (PLAN.columns, sent[0])
        assert status.kind is AnswerKind.CACHE_FRESH
