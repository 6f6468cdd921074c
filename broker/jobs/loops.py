"""Loops of a worker: something again and again, sooner after a hint, and on through the loss of the database."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random

from broker.domain.errors import BrokerError, ErrorReason

logger = logging.getLogger(__name__)


class Shared:
    """A lock that any number may share, or one may have alone. Whoever wants it alone keeps others from entering."""

    def __init__(self) -> None:
        self._door = asyncio.Lock()
        self._inside = 0
        self._empty = asyncio.Event()
        self._empty.set()

    @asynccontextmanager
    async def shared(self) -> AsyncIterator[None]:
        """Inside, perhaps with others."""
        async with self._door:
            self._inside += 1
            self._empty.clear()
        try:
            yield
        finally:
            self._inside -= 1
            if not self._inside:
                self._empty.set()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Inside, and nobody else is."""
        async with self._door:
            await self._empty.wait()
            yield


@dataclass(slots=True)
class Failures:
    """Failures in a row, of which not every one is worth a line in the log."""

    count: int = 0
    _last: str = ""

    def notable(self, error: Exception) -> bool:
        """Counts it; whether it is of another kind than the last one, or the 1st, 2nd, 4th, 8th and so on."""
        self.count += 1
        before, self._last = self._last, f"{type(error).__name__}: {error}"
        return self._last != before or self.count & (self.count - 1) == 0


async def pause(seconds: float, rng: Random, at_once: asyncio.Event | None = None) -> None:
    """Waits for the time, varied by a quarter so that workers do not march in step, or for the event; clears it."""
    varied = rng.uniform(0.75, 1.25) * seconds
    if at_once is None:
        await asyncio.sleep(varied)
        return
    waiting = asyncio.ensure_future(at_once.wait())
    try:
        await asyncio.wait({waiting}, timeout=varied)
    finally:
        waiting.cancel()
        at_once.clear()


async def repeat(
    name: str,
    seconds: float,
    rng: Random,
    action: Callable[[], Awaitable[bool | None]],
    at_once: asyncio.Event | None = None,
) -> None:
    """Does it for ever, with pauses except where it says that there is more to do.

    An error is logged when it begins and when it is over, not at every turn. No error ends the loop: not that of a
    database that is away, nor a bug.
    """
    trouble: object = None
    while True:
        again = False
        try:
            again = bool(await action())
            if trouble is not None:
                logger.info("%s works again", name)
            trouble = None
        except BrokerError as error:
            if error.reason is not trouble:
                level = logging.WARNING if error.reason is ErrorReason.STORE_UNAVAILABLE else logging.ERROR
                logger.log(level, "%s will go on trying: %s", name, error)
            trouble = error.reason
        except Exception as error:  # a bug, which must not take the attempts under way with it
            if type(error) is not trouble:
                logger.exception("%s failed and will go on trying", name)
            trouble = type(error)
        if again:
            await asyncio.sleep(0)  # what it has just begun may be over already
        else:
            await pause(seconds, rng, at_once)


async def end(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancels tasks and waits for them."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
