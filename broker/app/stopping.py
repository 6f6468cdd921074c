"""Stopping a program from outside of it."""

from __future__ import annotations

import asyncio

from broker.runtime.lifecycle import Program, Stop


class Order(asyncio.Event):
    """An order to stop; ``grace`` is the time in seconds that running calls get, None for the configured one."""

    grace: float | None = None


async def until(event: asyncio.Event, program: Program, stop: Stop) -> None:
    """Stops the program when the event is set, and ends with the program."""
    waits = {asyncio.create_task(event.wait()), asyncio.create_task(stop.wait())}
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for task in waits:
        task.cancel()
    program.stop()
