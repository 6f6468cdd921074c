"""Down the ladder: when, how far, how long it may take, and what the answer says of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass

import pytest

from broker.domain.answer import (
    Answer,
    AnswerKind,
    AnswerStatus,
    Batch,
    DegradationReason,
    LadderStep,
    Rung,
    Verdict,
)
from broker.domain.deadline import Deadline
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.request import ExploreEvent, ExploreHeader, RequestKind
from broker.domain.terms import AnswerPolicy, CacheMode, Consistency, FallbackMode
from broker.pipeline.degraded import Degrading, degraded, degraded_stream
from broker.pipeline.ladder import LEAST_RESERVE, Ladder, LowerRung
from broker.pipeline.stage import Group, Outcome, Question
from broker.policy.brownout import cohort, dial
from broker.telemetry.instruments import Telemetry
from tests.support.answering import Source, answer, group, question
from tests.support.virtual_time import VirtualClock, run

KINDS = {
    Rung.CACHE_STALE: AnswerKind.CACHE_STALE,
    Rung.ROLLUP_STALE: AnswerKind.ROLLUP_STALE,
    Rung.ESTIMATE: AnswerKind.ESTIMATE,
}
ALL = AnswerPolicy(accepted_kinds=frozenset(AnswerKind))


@dataclass
class Below:
    """A rung that answers after so many seconds, or does not."""

    rung: Rung = Rung.CACHE_STALE
    seconds: float = 0.0
    step: LadderStep | None = None
    staleness: float = 3.0
    asked: int = 0

    def allowed(self, policy: AnswerPolicy) -> bool:
        return policy.cache is CacheMode.DEFAULT and KINDS[self.rung] in policy.accepted_kinds

    async def answer(self, question: Question, group: Group, deadline: Deadline) -> Answer | LadderStep:
        self.asked += 1
        await asyncio.sleep(self.seconds)
        assert deadline.at < group.context.deadline.at
        assert question in group.questions
        return self.step or answer(KINDS[self.rung], self.staleness)


def degrading(*rungs: LowerRung, strain: float = 0.0, down: BrokerError | None = None) -> Degrading:
    ladder = Ladder(rungs or (Below(),), VirtualClock(), Telemetry.off())
    return Degrading(ladder, lambda *_: strain, lambda _: down)


def overloaded(factor: str = "wait_budget") -> BrokerError:
    metadata = {"limiting_factor": factor, "waited_seconds": "0.250"}
    return BrokerError(ErrorReason.OVERLOADED, "full", retry_after=2.0, metadata=metadata)


async def outcome(
    source: Callable[[Group], object], ladder: Degrading, asked: Group | None = None
) -> Outcome:
    (found,) = await degraded(ladder)(source)(asked or group())  # type: ignore[arg-type] # a handler
    return found


def walk(found: Answer) -> list[tuple[str, str]]:
    return [(step.rung.value, step.verdict.value) for step in found.status.ladder]


def test_a_refusal_becomes_an_older_answer_that_says_everything() -> None:
    async def main() -> None:
        found = await outcome(Source(errors=[overloaded()]), degrading())
        assert isinstance(found, Answer)
        status = found.status
        assert (status.kind, status.degraded, status.degradation_level) == (AnswerKind.CACHE_STALE, True, 2)
        assert status.reasons == (DegradationReason.OVERLOAD_POOL_FULL,)
        told = status.limiting_factor, status.queue_duration, status.retry_after
        assert told == ("wait_budget", 0.25, 2.0)
        assert walk(found) == [
            ("cache_fresh", "not_applicable"),
            ("rollup", "not_applicable"),
            ("live", "refused"),
            ("cache_stale", "answered"),
        ]
        live = status.ladder[2]
        assert (live.codes, live.duration) == (("OVERLOADED", "wait_budget"), 1.0)

    run(main())


def test_the_walk_goes_on_to_the_first_rung_that_has_an_answer() -> None:
    async def main() -> None:
        none = LadderStep(Rung.CACHE_STALE, Verdict.NOT_APPLICABLE, codes=("NOT_HELD",))
        rungs = [Below(step=none), Below(Rung.ROLLUP_STALE, seconds=0.2), Below(Rung.ESTIMATE)]
        found = await outcome(Source(errors=[overloaded()]), degrading(*rungs), group(question(0, ALL)))
        assert isinstance(found, Answer)
        assert found.status.degradation_level == 3
        tried = [("cache_stale", "not_applicable"), ("rollup_stale", "answered")]
        assert walk(found)[2:] == [("live", "refused"), *tried]
        assert found.status.ladder[3].codes == ("NOT_HELD",)
        assert found.status.ladder[4].duration == pytest.approx(0.2)
        assert rungs[2].asked == 0

    run(main())


@pytest.mark.parametrize(
    ("policy", "consistency"),
    [
        (AnswerPolicy(fallback=FallbackMode.FAIL), Consistency.BOUNDED),
        (AnswerPolicy(cache=CacheMode.BYPASS), Consistency.BOUNDED),
        (AnswerPolicy(accepted_kinds=frozenset({AnswerKind.LIVE})), Consistency.BOUNDED),
        (AnswerPolicy(max_staleness=2.9), Consistency.BOUNDED),
        (AnswerPolicy(), Consistency.SNAPSHOT),
    ],
)
def test_the_caller_may_forbid_it(policy: AnswerPolicy, consistency: Consistency) -> None:
    async def main() -> None:
        source, asked = Source(errors=[overloaded()]), group(question(0, policy), consistency=consistency)
        try:
            found = await outcome(source, degrading(), asked)
        except BrokerError as error:
            found = error
        assert isinstance(found, BrokerError)
        assert found.reason is ErrorReason.OVERLOADED

    run(main())


def test_a_reserve_of_the_deadline_is_kept_for_it() -> None:
    async def main() -> None:
        source, loop = Source(seconds=60.0), asyncio.get_running_loop()
        found = await outcome(source, degrading(), group(seconds=2.0))
        assert isinstance(found, Answer)
        assert found.status.reasons == (DegradationReason.DEADLINE_EXPIRED_UPSTREAM,)
        assert ("live", "timed_out") in walk(found)
        assert loop.time() == pytest.approx(2.0 - LEAST_RESERVE * 2 / 3)
        assert source.asked[0].context.deadline.at == pytest.approx(2.0 - LEAST_RESERVE)
        assert source.cancelled == 1

    run(main())


def test_the_reserve_grows_with_what_the_rungs_take_up_to_a_bound() -> None:
    async def main() -> None:
        ladder = degrading(Below(seconds=0.04))
        for _ in range(2):
            await outcome(Source(errors=[overloaded()]), ladder)
        assert ladder.ladder.reserve.seconds(10.0) == pytest.approx(0.06)
        ladder.ladder.reserve.took(Rung.ROLLUP_STALE, 5.0)
        assert ladder.ladder.reserve.seconds(10.0) == 0.08
        assert ladder.ladder.reserve.seconds(0.1) == 0.025, "and no more than a part of what is left"

    run(main())


def test_a_rung_that_takes_too_long_is_left_and_the_error_stands() -> None:
    async def main() -> None:
        found = await outcome(
            Source(errors=[overloaded()]), degrading(Below(seconds=60.0)), group(seconds=3.0)
        )
        assert isinstance(found, BrokerError)
        assert found.reason is ErrorReason.OVERLOADED
        assert asyncio.get_running_loop().time() < 3.0

    run(main())


def test_panels_go_down_one_by_one() -> None:
    async def main() -> None:
        async def partly(asked: Group) -> Sequence[Outcome]:
            return [
                answer(),
                BrokerError(ErrorReason.WORKER_LOST, "lost"),
                BrokerError(ErrorReason.STORE_REJECTED, ""),
            ]

        asked = group(question(0), question(1), question(2))
        found = await degraded(degrading())(partly)(asked)
        kinds = [each.status.kind if isinstance(each, Answer) else each.reason for each in found]
        assert kinds == [AnswerKind.LIVE, AnswerKind.CACHE_STALE, ErrorReason.STORE_REJECTED]
        assert isinstance(found[1], Answer)
        assert found[1].status.reasons == (DegradationReason.WORKER_LOST,)

    run(main())


def test_while_the_database_is_known_to_be_down_nobody_asks_it() -> None:
    async def main() -> None:
        down = BrokerError(
            ErrorReason.STORE_UNAVAILABLE, "gone", retry_after=1.0, metadata={"breaker": "open"}
        )
        source = Source()
        found = await outcome(source, degrading(down=down))
        assert isinstance(found, Answer)
        assert (source.asked, found.status.reasons) == ([], (DegradationReason.CIRCUIT_OPEN,))
        none = LadderStep(Rung.CACHE_STALE, Verdict.NOT_APPLICABLE)
        assert await outcome(source, degrading(Below(step=none), down=down)) is down
        await outcome(
            source, degrading(down=down), group(question(0, AnswerPolicy(fallback=FallbackMode.FAIL)))
        )
        assert len(source.asked) == 1, "who may not fall back asks, and hears it from there"

    run(main())


def test_the_dial_moves_dashboards_down_before_queues_are_full() -> None:
    async def main() -> None:
        source, asked = Source(0.0), [question(i) for i in range(4)]
        for strain, expected in ((0.5, 0), (0.75, None), (1.0, 4)):
            source.asked.clear()
            outcomes = await degraded(degrading(strain=strain))(source)(group(*asked))
            old = [o for o in outcomes if isinstance(o, Answer) and o.status.kind is AnswerKind.CACHE_STALE]
            share = sum(cohort(q.key) < dial(strain) for q in asked)
            assert len(old) == (share if expected is None else expected)
            assert all(o.status.reasons == (DegradationReason.BROWNOUT,) for o in old)
            assert sum(len(g.questions) for g in source.asked) == 4 - len(old)
        none = LadderStep(Rung.CACHE_STALE, Verdict.NOT_APPLICABLE)
        spared = await outcome(source, degrading(Below(step=none), strain=1.0))
        assert isinstance(spared, Answer)
        assert spared.status.kind is AnswerKind.LIVE, "what has no older answer is read"
        explored = await outcome(source, degrading(strain=1.0), group(kind=RequestKind.EXPLORE))
        assert isinstance(explored, Answer)
        assert explored.status.kind is AnswerKind.LIVE

    run(main())


def test_whoever_wants_an_estimate_has_it_and_is_not_told_that_it_is_less() -> None:
    async def main() -> None:
        policy = AnswerPolicy(accepted_kinds=frozenset({AnswerKind.ESTIMATE}))
        source = Source()
        found = await outcome(
            source, degrading(Below(Rung.ESTIMATE, staleness=0.0)), group(question(0, policy))
        )
        assert isinstance(found, Answer)
        assert (found.status.kind, found.status.degraded, source.asked) == (AnswerKind.ESTIMATE, False, [])

    run(main())


@pytest.mark.parametrize("batches", [0, 1])
def test_a_stream_falls_before_its_first_byte_and_not_after(batches: int) -> None:
    async def main() -> None:
        plan = question().plan

        async def source(asked: Group) -> AsyncGenerator[ExploreEvent, None]:
            await asyncio.sleep(0.1)
            for i in range(batches):
                yield ExploreHeader(plan.columns, VirtualClock().now())
                yield Batch(i, 1, b"")
            raise overloaded()

        ladder = Ladder((Below(),), VirtualClock(), Telemetry.off())
        events = degraded_stream(Degrading(ladder))(source)(group(kind=RequestKind.EXPLORE))
        first = [type(await anext(events)).__name__ for _ in range(2)]
        assert first == ["ExploreHeader", "Batch"]
        if batches:
            with pytest.raises(BrokerError) as raised:
                await anext(events)
            assert raised.value.reason is ErrorReason.OVERLOADED
        else:
            (last,) = [event async for event in events]
            assert isinstance(last, AnswerStatus)
            assert last.kind is AnswerKind.CACHE_STALE

    run(main())


@pytest.mark.parametrize("steps", range(8))
def test_nothing_is_left_of_a_walk_that_is_cancelled_anywhere(steps: int) -> None:
    async def main() -> None:
        source = Source(0.0, errors=[overloaded()])
        asked = group(question(0), question(1))
        handler = degraded(degrading(Below(seconds=0.0)))(source)
        call = asyncio.ensure_future(handler(asked))
        for _ in range(steps):
            await asyncio.sleep(0)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        assert source.running == 0

    run(main())
