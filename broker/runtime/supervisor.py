"""Keeps a number of equal processes running: starts them, replaces those that die, ends them together.

A child that ends in order without having been told to was drained by an operator, which is meant for the program as
a whole: the others drain too. One that dies takes down only the calls that it was serving; it is started again, after
pauses that grow while it goes on dying. As long as not all have served for the first time, dying means that the
program cannot start.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from broker.ports.clock import Clock
from broker.runtime.child import Said

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 10.0
"""Seconds before a child that died is started again, doubled each time it dies young."""
STEADY = 30.0
"""Seconds after which a child that dies is taken to have died of something new."""
_LOG = logging.getLogger(__name__)


class Supervised(Protocol):
    """A child, as :class:`broker.runtime.child.Child`."""

    @property
    def ended(self) -> asyncio.Future[int]:
        """Its exit code, negative after a signal."""
        ...

    async def says(self) -> Said | None:
        """The next thing it says, None at the end."""
        ...

    def drain(self, grace: float | None) -> None:
        """Has it stop in order."""
        ...

    def signal(self, number: signal.Signals) -> None:
        """Sends it a signal."""
        ...


class Supervisor:
    """Runs ``count`` children, each made by ``start`` from its index.

    ``ready`` is called once, when all serve for the first time, with what they said of themselves.
    """

    def __init__(
        self,
        start: Callable[[int], Awaitable[Supervised]],
        count: int,
        clock: Clock,
        ready: Callable[[Sequence[Said]], None],
    ) -> None:
        self._start = start
        self._count = count
        self._clock = clock
        self._tell = ready
        self._children: dict[int, Supervised] = {}
        self._infos: dict[int, Said] = {}
        self._stop = asyncio.Event()
        self._grace: float | None = None
        self._orders = 0
        self._served = False

    async def run(self) -> int:
        """Runs until all have ended in order; the exit code is that of the worst of them."""
        keeping = [
            asyncio.create_task(self._keep(index), name=f"process {index}") for index in range(self._count)
        ]
        try:
            codes = await asyncio.gather(*keeping)
        except BaseException:
            for task in keeping:
                task.cancel()
            await asyncio.gather(*keeping, return_exceptions=True)
            raise
        return max(code if code >= 0 else 128 - code for code in codes)

    def stop(self, grace: float | None = None) -> None:
        """Drains all; a second call ends at once what still runs, a third one kills."""
        self._orders += 1
        self._stop.set()
        self._grace = grace
        for child in self._children.values():
            if self._orders == 1:
                child.drain(grace)
            else:
                child.signal(signal.SIGTERM if self._orders == 2 else signal.SIGKILL)

    async def _keep(self, index: int) -> int:
        failures = 0
        while True:
            began = self._clock.monotonic()
            code, served = await self._live(index)
            if self._stop.is_set():
                return code
            if code == 0 or not self._served:
                self._order(f"process {index} has ended" if code == 0 else f"process {index} cannot start")
                return code
            young = self._clock.monotonic() - began < STEADY or not served
            failures = failures + 1 if young else 1
            pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** (failures - 1))
            _LOG.error("process %d %s; starting it again in %.1f s", index, _how(code), pause)
            try:
                async with asyncio.timeout(pause):
                    await self._stop.wait()
                return 0
            except TimeoutError:
                continue

    async def _live(self, index: int) -> tuple[int, bool]:
        """One life of a child: its exit code, and whether it has served."""
        try:
            child = await self._start(index)
        except OSError as error:
            _LOG.error("process %d cannot be started: %s", index, error)
            return 1, False
        self._children[index] = child
        if self._stop.is_set():
            child.drain(self._grace)
        listening = asyncio.create_task(self._listen(index, child))
        try:
            code = await asyncio.shield(child.ended)
            return code, await listening
        finally:
            listening.cancel()
            del self._children[index]
            if not child.ended.done():  # the parent fails: nothing is left behind
                child.signal(signal.SIGKILL)

    async def _listen(self, index: int, child: Supervised) -> bool:
        info = await child.says()
        if info is None:
            return False
        self._infos[index] = info
        if len(self._infos) == self._count and not self._served:
            self._served = True
            self._tell([self._infos[i] for i in range(self._count)])
        elif self._served:
            _LOG.info("process %d serves again", index)
        while (said := await child.says()) is not None:
            if "draining" in said and not self._stop.is_set():
                grace = said["draining"]
                del self._children[index]  # it does so already
                self._order(
                    f"process {index} was asked to drain", float(str(grace)) if grace is not None else None
                )
                self._children[index] = child
        return True

    def _order(self, why: str, grace: float | None = None) -> None:
        if not self._stop.is_set():
            _LOG.info("%s: stopping the others", why)
            self.stop(grace)


def _how(code: int) -> str:
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
