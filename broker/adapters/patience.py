"""A time limit that the event loop's own lateness does not use up.

When the loop is late, a reply that has been here for long and the timer that waits for it come due in the same turn,
and the timer wins: so a busy process would take every neighbour for slow. A timer that fires late therefore gives the
whole time again, for the loop to see what has come in, though not for ever.
"""

from __future__ import annotations

import asyncio
from types import TracebackType

LATE = 0.25
"""A timer that fires later than due by this share of its time was not let run."""


class Patience:
    """Raises TimeoutError when the block takes more than ``seconds`` of a loop that runs, or ``most`` in any case."""

    __slots__ = ("_due", "_end", "_limit", "_loop", "_seconds", "_timer")

    def __init__(self, seconds: float, most: float) -> None:
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._end = self._loop.time() + most
        self._limit = asyncio.timeout(None)

    async def __aenter__(self) -> None:
        await self._limit.__aenter__()
        self._arm()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        await self._limit.__aexit__(kind, error, trace)

    def _arm(self) -> None:
        self._due = self._loop.time() + self._seconds
        self._timer = self._loop.call_at(self._due, self._check)

    def _check(self) -> None:
        now = self._loop.time()
        if now - self._due > LATE * self._seconds and now < self._end:
            self._arm()
        else:
            self._limit.reschedule(now)
