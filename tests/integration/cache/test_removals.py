"""What is removed is removed everywhere, and nothing else is."""

from __future__ import annotations

import asyncio

from broker.config.settings import CacheSettings
from broker.domain.held import Selection
from broker.domain.rollup import Span
from tests.integration.cache.conftest import Open, answer, found, gone
from tests.support.valkey import Valkey


async def test_a_removal_by_rollup_and_interval_reaches_other_processes(process: Open) -> None:
    one, other = await process(), await process()
    kept = {
        "1" * 32: answer("1" * 32, rollups=("daily",), span=Span(0, 10)),
        "2" * 32: answer("2" * 32, rollups=("daily",), span=Span(10, 20)),
        "3" * 32: answer("3" * 32, rollups=("hourly",), span=Span(0, 10)),
        "4" * 32: answer("4" * 32, dataset="weather", rollups=("daily",), span=Span(0, 10)),
        "5" * 32: answer("5" * 32, rollups=("daily",)),
    }
    for key, held in kept.items():
        one.answers.keep(held, 100.0)
        await found(other, key)
    third = await process()
    assert await third.answers.remove(Selection("flights", "daily", Span(5, 10))) == 2  # from the tier alone
    await gone(other, "1" * 32)
    await gone(one, "5" * 32)
    for cache in (one, other, third):
        left = {key for key in kept if await cache.answers.find(key, 5.0) is not None}
        assert left == {"2" * 32, "3" * 32, "4" * 32}


async def test_many_removals_become_one_of_everything(
    process: Open, shared_valkey: Valkey, settings: CacheSettings
) -> None:
    one, other = await process(), await process()
    one.answers.keep(answer(dataset="weather"), 100.0)
    await found(other)
    removing = (one.answers.remove(Selection("flights", span=Span(n, n + 1))) for n in range(300))
    await asyncio.gather(*removing)
    await gone(one)
    await gone(other)
    with shared_valkey.client() as client:
        assert client.zcard(f"{settings.prefix}:removals") in range(1, 257)


async def test_a_removal_that_cannot_be_read_takes_everything(
    process: Open, shared_valkey: Valkey, settings: CacheSettings
) -> None:
    one, other = await process(), await process()
    one.answers.keep(answer(), 100.0)
    await found(other)
    with shared_valkey.client() as client:
        client.zadd(f"{settings.prefix}:removals", {b"\xff{": 4e15})
        client.set(f"{settings.prefix}:epoch", "another")
    await gone(one)
    await gone(other)
