"""A late event loop is not taken for a slow neighbour."""

from __future__ import annotations

import asyncio
import time

import pytest

from broker.adapters.patience import Patience


def busy(seconds: float) -> None:
    """Keeps the loop from running."""
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


async def replied(loops: int) -> str:
    """A reply that takes so many turns of the loop once it is here."""
    for _ in range(loops):
        await asyncio.sleep(0)
    return "reply"


async def test_what_came_while_the_loop_was_late_is_still_read() -> None:
    async with Patience(0.02, 60.0):
        reading = asyncio.create_task(replied(10))
        busy(0.2)
        assert await reading == "reply"


async def test_the_same_limit_of_the_library_would_have_passed() -> None:
    async def read() -> None:
        async with asyncio.timeout(0.02):
            reading = asyncio.create_task(replied(10))
            busy(0.2)
            await reading

    with pytest.raises(TimeoutError):
        await read()


async def test_who_never_replies_is_given_up() -> None:
    with pytest.raises(TimeoutError):
        async with Patience(0.02, 60.0):
            await asyncio.Event().wait()


async def test_patience_ends_however_late_the_loop_is() -> None:
    done = asyncio.Event()

    async def disturb() -> None:
        while not done.is_set():
            busy(0.05)
            await asyncio.sleep(0)

    disturbing = asyncio.create_task(disturb())
    with pytest.raises(TimeoutError):
        async with Patience(0.01, 0.2):
            await asyncio.Event().wait()
    done.set()
    await disturbing


async def test_a_cancelled_block_is_cancelled_and_leaves_no_timer() -> None:
    async def waiting() -> None:
        async with Patience(60.0, 60.0):
            await asyncio.Event().wait()

    task = asyncio.create_task(waiting())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
