"""One reading for all who ask the same thing at once, whoever of them goes away and whatever it ends with."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from broker.domain.answer import Answer, AnswerKind
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.principal import Criticality
from broker.domain.terms import AnswerPolicy, CacheMode, Consistency
from broker.pipeline.coalesced import DAMPED
from broker.pipeline.stage import Group, Outcome
from tests.support.answering import Source, group, question
from tests.support.flying import flights, on_virtual_time, reading, rows
from tests.support.held import MemoryAnswers, SharedTurns
from tests.support.virtual_time import run


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
async def test_closing_ends_what_is_under_way() -> None:
    source, air = Source(), flights()
    async with air.open():
        call = asyncio.create_task(air.answer(group(), source))
        await asyncio.sleep(0.5)
        assert source.running == 1
    assert (source.running, air.count) == (0, 0)
    await asyncio.gather(call, return_exceptions=True)
