"""One process answers; the others wait for it, and no longer than it lives."""

from __future__ import annotations

import asyncio

from broker.config.settings import CacheSettings
from tests.integration.cache.conftest import Open, answer
from tests.support.valkey import Valkey

KEY = "k" * 32
LONG = 60.0


async def test_one_has_the_turn_and_its_answer_is_there_when_it_ends(process: Open) -> None:
    one, other = await process(), await process()
    held = answer()
    async with one.turns.turn(KEY) as first:
        assert first.mine
        async with other.turns.turn(KEY) as second, other.turns.turn("x" * 32) as beside:
            assert not second.mine
            assert beside.mine
            waiting = asyncio.create_task(second.over(LONG))
            await second.over(0.01)  # no longer than the caller wants
            assert not waiting.done()
            one.answers.keep(held, 100.0)
    await waiting
    assert await other.answers.find(KEY, 5.0) == held
    async with other.turns.turn(KEY) as third:
        assert third.mine


async def test_a_turn_is_renewed_while_it_is_held_and_ends_with_its_process(
    process: Open, shared_valkey: Valkey, settings: CacheSettings
) -> None:
    one, other = await process(), await process()
    name = f"{settings.prefix}:t:{KEY}"
    with shared_valkey.client() as client:
        async with one.turns.turn(KEY) as first:
            assert first.mine
            async with other.turns.turn(KEY) as second:
                await second.over(2.0)  # longer than it lasts by itself
                assert client.exists(name)
        client.set(name, "of a process that died", px=50)
        async with other.turns.turn(KEY) as third:
            assert not third.mine
            await third.over(LONG)
        async with other.turns.turn(KEY) as fourth:
            assert fourth.mine


async def test_only_the_holder_ends_a_turn(
    process: Open, shared_valkey: Valkey, settings: CacheSettings
) -> None:
    one = await process()
    name = f"{settings.prefix}:t:{KEY}"
    with shared_valkey.client() as client:
        async with one.turns.turn(KEY) as first:
            assert first.mine
            client.set(name, "taken over", px=60_000)
        async with one.turns.turn("x" * 32):  # ends after the other in the same queue
            pass
        async with one.turns.turn("x" * 32) as again:
            await again.over(LONG)
        assert client.get(name) == b"taken over"


async def test_many_ask_at_once_and_one_answers(process: Open) -> None:
    processes = [await process() for _ in range(4)]
    answered: list[int] = []

    async def ask(place: int) -> None:
        cache = processes[place]
        while await cache.answers.find(KEY, 5.0) is None:
            async with cache.turns.turn(KEY) as turn:
                if not turn.mine:
                    await turn.over(LONG)
                    continue
                if await cache.answers.find(KEY, 5.0) is None:
                    answered.append(place)
                    await asyncio.sleep(0)
                    cache.answers.keep(answer(), 100.0)

    await asyncio.gather(*(ask(place) for place in range(4)))
    assert len(answered) == 1
