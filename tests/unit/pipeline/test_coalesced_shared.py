"""Brokers that share a tier take turns: what one of them reads is the answer to who waits for it in another."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from broker.domain.answer import Answer, AnswerKind, AnswerPart, PartSource
from broker.domain.held import Held, Reach
from broker.domain.terms import AnswerPolicy, CacheMode, RollupMode
from broker.pipeline.stage import Group, Outcome
from broker.policy.freshness import kept
from tests.support.answering import Source, answer, group, question
from tests.support.flying import flights, on_virtual_time, reading, rows
from tests.support.held import MemoryAnswers, SharedTurns
from tests.support.virtual_time import VirtualClock, run


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
