"""Answers in a tier that processes share, with everything that may be wrong with it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from broker.config.settings import CacheSettings
from broker.domain.rollup import Span
from tests.integration.cache.conftest import Open, answer, found
from tests.support.valkey import Valkey

KEY = "k" * 32


async def test_what_one_process_keeps_another_finds(process: Open) -> None:
    one, other = await process(), await process()
    held = answer(rollups=("daily",), span=Span(-5, 5))
    one.answers.keep(held, 100.0)
    assert one.answers.near(KEY) is held
    assert other.answers.near(KEY) is None
    assert await found(other) == held
    assert other.answers.near(KEY) == held
    memory, shared = other.answers.states()
    assert (memory.entry_count, memory.hit_count, memory.miss_count) == (1, 1, 1)
    assert (shared.name, shared.hit_count, shared.available) == ("shared", 1, True)


async def test_an_older_answer_never_replaces_a_newer_one(process: Open) -> None:
    one, other, third = await process(), await process(), await process()
    newer, older = answer(age=1.0), answer(age=50.0)
    one.answers.keep(newer, 100.0)
    assert await found(other) == newer
    other.answers.keep(older, 100.0)
    third.answers.keep(older, 100.0)
    mark = answer("m" * 32)
    third.answers.keep(mark, 100.0)
    assert await found(one, mark.key) == mark  # what was written before it has been
    assert other.answers.near(KEY) == newer
    assert await third.answers.find(KEY, 5.0) == newer


@pytest.mark.parametrize(
    "harm",
    [
        lambda good: good[:-1],
        lambda good: good[:40],
        lambda good: b"",
        lambda good: b"QBA0" + good[4:],
        lambda good: good[:20] + b"00000000" + good[28:],
        lambda good: good[:-1] + bytes([good[-1] ^ 1]),
        lambda good: good[:4] + b"0" * 16 + good[20:],
        lambda good: b"\x80\x04pickle?" + good,
    ],
    ids=["truncated", "head only", "empty", "version", "layout", "one bit", "moved in time", "foreign"],
)
async def test_an_entry_that_is_not_right_is_a_miss_and_deleted(
    harm: Callable[[bytes], bytes], process: Open, shared_valkey: Valkey, settings: CacheSettings
) -> None:
    one, other = await process(), await process()
    one.answers.keep(answer(), 100.0)
    assert (await found(other)).key == KEY
    name = f"{settings.prefix}:a:{KEY}"
    with shared_valkey.client() as client:
        good = client.get(name)
        assert isinstance(good, bytes)
        client.set(name, harm(good))
        third = await process()
        assert await third.answers.find(KEY, 5.0) is None
        third.answers.keep(answer("m" * 32), 100.0)
        await found(other, "m" * 32)
        assert client.get(name) is None
    assert third.answers.states()[-1].available
