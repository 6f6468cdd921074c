"""One reading for all who ask the same thing at once, whoever of them goes away and whatever it ends with."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from broker.domain.answer import Answer, AnswerKind, AnswerPart, PartSource
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.held import Held, Reach
from broker.domain.principal import Criticality
from broker.domain.terms import AnswerPolicy, CacheMode, Consistency, RollupMode
from broker.pipeline.coalesced import DAMPED
from broker.pipeline.stage import Group, Outcome
from broker.policy.freshness import kept
from tests.support.answering import Source, answer, group, question
from tests.support.flying import flights, on_virtual_time, reading, rows
from tests.support.held import MemoryAnswers, SharedTurns
from tests.support.virtual_time import VirtualClock, run


@on_virtual_time
async def test_five_hundred_who_ask_at_once_are_one_reading() -> None:
    source, air = Source(), flights()
    found = await asyncio.gather(*(air.answer(group(), source) for _ in range(500)))
    assert len(source.asked) == 1
    assert {tuple(rows(each)) for each in found} == {(1,)}
    await air.answer(group(), source)
    assert len(source.asked) == 2, "what is over is not joined"
    assert air.count == 0


@on_virtual_time
async def test_a_panel_is_answered_by_a_dashboard_that_reads_it_and_not_the_other_way_round() -> None:
    source, air = Source(), flights()
    whole = asyncio.create_task(air.answer(group(question(0), question(1)), source))
    await asyncio.sleep(0.5)
    assert rows(await air.answer(group(question(1)), source)) == [2]
    assert rows(await whole) == [1, 2]
    one = asyncio.create_task(air.answer(group(question(0)), source))
    await asyncio.sleep(0.5)
    assert rows(await air.answer(group(question(0), question(1)), source)) == [1, 2]
    assert [len(each.questions) for each in source.asked] == [2, 1, 2], "panels are read from one snapshot"
    await one


@pytest.mark.parametrize(
    "apart",
    [
        {"consistency": Consistency.SNAPSHOT},
        {"policy": AnswerPolicy(max_staleness=0.0)},
        {"policy": AnswerPolicy(cache=CacheMode.BYPASS)},
        {"policy": AnswerPolicy(cache=CacheMode.REVALIDATE)},
        {"key": ""},
    ],
)
def test_whoever_wants_a_reading_of_his_own_has_it(apart: dict[str, object]) -> None:
    async def main() -> None:
        source, air = Source(), flights()
        policy = apart.get("policy", AnswerPolicy())
        consistency = apart.get("consistency", Consistency.BOUNDED)
        assert isinstance(policy, AnswerPolicy)
        assert isinstance(consistency, Consistency)
        one = question(0, policy)
        asked = replace(one, key="") if "key" in apart else one
        await asyncio.gather(*(air.answer(group(asked, consistency=consistency), source) for _ in range(3)))
        assert len(source.asked) == 3

    run(main())


@on_virtual_time
async def test_a_reading_goes_on_while_anybody_waits_and_is_cancelled_when_nobody_does() -> None:
    source, air = Source(), flights()
    leader = asyncio.create_task(air.answer(group(), source))
    await asyncio.sleep(0.2)
    followers = [asyncio.create_task(air.answer(group(), source)) for _ in range(2)]
    await asyncio.sleep(0.2)
    leader.cancel()
    followers[0].cancel()
    assert rows(await followers[1]) == [1]
    assert (len(source.asked), source.cancelled) == (1, 0)
    alone = asyncio.create_task(air.answer(group(), source))
    await asyncio.sleep(0.2)
    alone.cancel()
    await asyncio.gather(leader, followers[0], alone, return_exceptions=True)
    await asyncio.sleep(0)
    assert (source.cancelled, source.running, air.count) == (1, 0, 0)


@pytest.mark.parametrize("steps", range(12))
def test_nothing_is_left_of_a_call_that_is_cancelled_anywhere(steps: int) -> None:
    async def main() -> None:
        source, air = Source(0.0), flights(MemoryAnswers(), SharedTurns())
        calls = [asyncio.create_task(air.answer(group(), source)) for _ in range(2)]
        for _ in range(steps):
            await asyncio.sleep(0)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        for _ in range(6):
            await asyncio.sleep(0)
        assert (source.running, air.count) == (0, 0)
        assert rows(await air.answer(group(), source)) == [1], "the next one is not in anybody's way"

    run(main())


OWN = [
    ErrorReason.DEADLINE_EXCEEDED,
    ErrorReason.QUEUE_TIMEOUT,
    ErrorReason.TENANT_QUOTA,
    ErrorReason.OVERLOADED,
]


@pytest.mark.parametrize("reason", OWN)
def test_an_error_that_is_the_leaders_own_lets_a_follower_lead(reason: ErrorReason) -> None:
    async def main() -> None:
        source, air = Source(errors=[BrokerError(reason, "not you")]), flights()
        leader = asyncio.create_task(air.answer(group(tenant="globex", seconds=2.0), source))
        await asyncio.sleep(0.1)
        others = [asyncio.create_task(air.answer(group(), source)) for _ in range(5)]
        with pytest.raises(BrokerError):
            await leader
        assert [rows(await other) for other in others] == [[1]] * 5
        assert [each.context.principal.tenant for each in source.asked] == ["globex", "acme"]

    run(main())


@on_virtual_time
async def test_a_refusal_is_shared_with_those_who_have_no_better_claim() -> None:
    source, air = Source(errors=[BrokerError(ErrorReason.OVERLOADED, "full")] * 2), flights()
    leader = group(criticality=Criticality.CRITICAL)
    lower = group(criticality=Criticality.SHEDDABLE, seconds=5)
    higher = group(criticality=Criticality.CRITICAL_PLUS)
    found = await asyncio.gather(
        *(air.answer(each, source) for each in (leader, lower, leader, higher)), return_exceptions=True
    )
    assert all(isinstance(each, BrokerError) for each in found)
    assert [each.context.principal.criticality for each in source.asked] == [
        Criticality.CRITICAL, Criticality.CRITICAL_PLUS,
    ]  # fmt: skip


@on_virtual_time
async def test_certain_errors_are_damped_for_a_moment_and_others_are_not() -> None:
    source, air = Source(), flights()
    rejected = BrokerError(ErrorReason.STORE_REJECTED, "division by zero")

    async def rejects(asked: Group) -> Sequence[Outcome]:
        await source(asked)
        return [rejected]

    for _ in range(3):
        assert await air.answer(group(), rejects) == [rejected]
    assert len(source.asked) == 1
    await asyncio.sleep(DAMPED)
    assert await air.answer(group(), source) != [rejected]
    source.errors = [BrokerError(ErrorReason.STORE_UNAVAILABLE, "gone")]
    with pytest.raises(BrokerError):
        await air.answer(group(), source)
    assert rows(await air.answer(group(), source)) == [1]


@on_virtual_time
async def test_processes_that_share_a_cache_read_once() -> None:
    source, turns, shared = Source(), SharedTurns(), MemoryAnswers()
    answers = [MemoryAnswers(far=shared.far) for _ in range(3)]

    airs = [flights(each, turns) for each in answers]
    calls = [
        air.answer(group(question(0), question(1)), reading(source, own))
        for air, own in zip(airs, answers, strict=True)
        for _ in range(10)
    ]
    found = await asyncio.gather(*calls)
    assert len(source.asked) == 1
    assert {tuple(rows(each)) for each in found} == {(1, 2)}


@on_virtual_time
async def test_when_the_process_that_reads_dies_another_one_reads() -> None:
    source, turns, shared = Source(), SharedTurns(), MemoryAnswers()
    first, second = (flights(MemoryAnswers(far=shared.far), turns) for _ in range(2))
    dying = asyncio.create_task(first.answer(group(), source))
    await asyncio.sleep(0.5)
    waiting = asyncio.create_task(second.answer(group(), source))
    await asyncio.sleep(0.1)
    dying.cancel()
    assert rows(await waiting) == [1]
    assert len(source.asked) == 2
    await asyncio.gather(dying, return_exceptions=True)


@on_virtual_time
async def test_what_the_dead_one_had_read_long_before_is_no_answer() -> None:
    source, turns, shared = Source(), SharedTurns(), MemoryAnswers()
    first, second = (MemoryAnswers(far=shared.far) for _ in range(2))
    await flights(first, turns).answer(group(), reading(source, first))
    await asyncio.sleep(100.0)
    dying = asyncio.create_task(flights(first, turns).answer(group(), source))
    await asyncio.sleep(0.5)
    waiting = asyncio.create_task(flights(second, turns).answer(group(), reading(source, second)))
    await asyncio.sleep(0.1)
    dying.cancel()
    (found,) = await waiting
    assert isinstance(found, Answer)
    assert found.status.as_of == VirtualClock().now(), "it was read again"
    assert len(source.asked) == 3
    await asyncio.gather(dying, return_exceptions=True)


@on_virtual_time
async def test_what_somebody_else_read_meanwhile_on_other_terms_is_no_answer() -> None:
    source, turns, shared = Source(), SharedTurns(), MemoryAnswers()
    asked = group(question(0, AnswerPolicy(rollup=RollupMode.FORBID)))
    first, second = (flights(MemoryAnswers(far=shared.far), turns) for _ in range(2))
    dying = asyncio.create_task(first.answer(asked, source))
    await asyncio.sleep(0.5)
    waiting = asyncio.create_task(second.answer(asked, source))
    await asyncio.sleep(0.1)
    rolled = answer(AnswerKind.ROLLUP)
    shared.keep(Held(asked.questions[0].key, rolled.table, rolled.status, Reach("flights")), 60.0)
    dying.cancel()
    (found,) = await waiting
    assert isinstance(found, Answer)
    assert found.status.kind is AnswerKind.LIVE
    await asyncio.gather(dying, return_exceptions=True)


@on_virtual_time
async def test_what_another_process_read_meanwhile_is_told_as_it_was_read() -> None:
    source, turns, shared = Source(), SharedTurns(), MemoryAnswers()
    first, second = (MemoryAnswers(far=shared.far) for _ in range(2))
    elsewhere = asyncio.create_task(flights(first, turns).answer(group(), reading(source, first)))
    await asyncio.sleep(0.5)
    (found,) = await flights(second, turns).answer(group(), reading(source, second))
    (own,) = await elsewhere
    assert isinstance(found, Answer)
    assert isinstance(own, Answer)
    assert len(source.asked) == 1
    assert (found.status.kind, found.status.parts) == (own.status.kind, own.status.parts)


@on_virtual_time
async def test_what_another_process_read_from_a_replica_is_as_old_as_the_replica() -> None:
    turns, shared = SharedTurns(), MemoryAnswers()
    behind = answer()
    part = replace(behind.status.parts[0], replica_lag=5.0)

    async def read(asked: Group) -> Sequence[Outcome]:
        found = replace(behind, status=replace(behind.status, parts=(part,), staleness=5.0))
        await asyncio.sleep(1.0)
        shared.keep(Held(asked.questions[0].key, found.table, kept(found.status), Reach("flights")), 60.0)
        return [found]

    first, second = (flights(MemoryAnswers(far=shared.far), turns) for _ in range(2))
    elsewhere = asyncio.create_task(first.answer(group(), read))
    await asyncio.sleep(0.5)
    (found,) = await second.answer(group(), read)
    await elsewhere
    assert isinstance(found, Answer)
    assert found.status.ladder[-1].source_name == "flight"
    assert found.status.staleness >= 5.0


@pytest.mark.parametrize("name", ["contained:other", "live:primary"])
def test_what_was_read_long_ago_and_is_found_while_waiting_was_not_read_meanwhile(name: str) -> None:
    """It may have been made of an old answer, or a look at the shared tier had missed it."""

    async def main() -> None:
        source, turns, shared = Source(), SharedTurns(), MemoryAnswers()
        asked, late = group(), VirtualClock().now() - timedelta(seconds=100)
        dying = asyncio.create_task(flights(MemoryAnswers(far=shared.far), turns).answer(asked, source))
        await asyncio.sleep(0.5)
        own = MemoryAnswers(far=shared.far)
        waiting = asyncio.create_task(flights(own, turns).answer(asked, reading(source, own)))
        await asyncio.sleep(0.1)
        old = answer()
        status = replace(kept(old.status), as_of=late, parts=(AnswerPart(PartSource.CACHE, name, late),))
        shared.keep(Held(asked.questions[0].key, old.table, status, Reach("flights"), seconds=1.0), 60.0)
        dying.cancel()
        (found,) = await waiting
        assert isinstance(found, Answer)
        assert (found.status.kind, found.status.as_of) == (AnswerKind.LIVE, VirtualClock().now())
        await asyncio.gather(dying, return_exceptions=True)

    run(main())


@on_virtual_time
async def test_a_reading_that_began_longer_ago_than_the_caller_allows_is_not_joined() -> None:
    source, air = Source(), flights()
    asked = group(question(0, AnswerPolicy(max_staleness=0.3)))
    first = asyncio.create_task(air.answer(asked, source))
    await asyncio.sleep(0.2)
    second = asyncio.create_task(air.answer(asked, source))
    await asyncio.sleep(0.3)
    third = asyncio.create_task(air.answer(asked, source))
    await asyncio.sleep(0.2)
    fourth = asyncio.create_task(air.answer(asked, source))
    await asyncio.gather(first, second, third, fourth)
    assert len(source.asked) == 2, "the third reads anew, and the fourth joins it"
    assert air.count == 0


@on_virtual_time
async def test_who_looked_before_a_reading_ended_and_comes_after_it_has_its_answer() -> None:
    source, own = Source(), MemoryAnswers()
    air = flights(own, soft=60.0)
    await air.answer(group(), reading(source, own))
    (found,) = await air.answer(group(), reading(source, own))
    assert isinstance(found, Answer)
    assert found.status.kind is AnswerKind.CACHE_FRESH
    assert len(source.asked) == 1
    fresh = group(question(0, AnswerPolicy(cache=CacheMode.REVALIDATE)))
    await air.answer(fresh, reading(source, own))
    assert len(source.asked) == 2, "who asked for a reading has one"


@on_virtual_time
async def test_a_turn_that_ended_a_moment_ago_has_left_its_answer() -> None:
    source, turns, shared = Source(), SharedTurns(), MemoryAnswers()
    first, second = (MemoryAnswers(far=shared.far) for _ in range(2))
    await flights(first, turns, 60.0).answer(group(), reading(source, first))
    (found,) = await flights(second, turns, 60.0).answer(group(), reading(source, second))
    assert isinstance(found, Answer)
    assert found.status.kind is AnswerKind.CACHE_FRESH
    assert len(source.asked) == 1


@on_virtual_time
async def test_who_wants_a_reading_takes_one_of_another_process_that_is_no_older_than_the_call() -> None:
    for later, read in ((0.0, 1), (5.0, 2)):
        source, turns, shared = Source(), SharedTurns(), MemoryAnswers()
        first, second = (MemoryAnswers(far=shared.far) for _ in range(2))
        asked = group(question(0, AnswerPolicy(cache=CacheMode.REVALIDATE)))
        elsewhere = asyncio.create_task(flights(first, turns).answer(asked, reading(source, first)))
        await asyncio.sleep(0.5)
        context = replace(asked.context, received=VirtualClock().now() + timedelta(seconds=later - 1.0))
        await flights(second, turns).answer(replace(asked, context=context), reading(source, second))
        await elsewhere
        assert len(source.asked) == read


@on_virtual_time
async def test_closing_ends_what_is_under_way() -> None:
    source, air = Source(), flights()
    async with air.open():
        call = asyncio.create_task(air.answer(group(), source))
        await asyncio.sleep(0.5)
        assert source.running == 1
    assert (source.running, air.count) == (0, 0)
    await asyncio.gather(call, return_exceptions=True)
