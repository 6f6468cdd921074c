"""Times work in the database: how long it took, how busy the database was, and whether it was cut short."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Literal, Self

from broker.domain.errors import BrokerError, ErrorReason
from broker.policy.classify import Load, Run
from broker.ports.clock import Clock

CUT_SHORT = frozenset({ErrorReason.DEADLINE_EXCEEDED, ErrorReason.CANCELLED, ErrorReason.RESULT_TOO_LARGE})
SLOW_READER = 0.25
"""Work whose reader is waited for longer than this share of it tells of itself only that it takes longer."""


class Timer:
    """A context around the work. Time inside of :meth:`paused`, in which a reader is waited for, does not count.

    Work that was stopped by its deadline or its caller is told to ``cut_short`` at once, with the time that it had. The
    time of complete work is in ``run``, for whoever knows what it returned.
    """

    __slots__ = ("_before", "_clock", "_cut_short", "_load", "_started", "_waited", "run")

    def __init__(self, clock: Clock, load: Callable[[], Load], cut_short: Callable[[Run], None]) -> None:
        self._clock, self._load, self._cut_short = clock, load, cut_short
        self._started = self._waited = 0.0
        self._before = Load()
        self.run = Run(0.0)

    def __enter__(self) -> Self:
        self._started, self._before = self._clock.monotonic(), self._load()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[False]:
        seconds = max(0.0, self._clock.monotonic() - self._started - self._waited)
        self.run = Run(seconds, 0, 0, error is not None, self._before.beside(self._load()))
        if error is not None and stopped(error):
            self._cut_short(self.run)
        return False

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Somebody else is waited for."""
        since = self._clock.monotonic()
        try:
            yield
        finally:
            self._waited += self._clock.monotonic() - since

    @property
    def slowed(self) -> bool:
        """Whether a slow reader held the work up: the database goes on meanwhile, but only so far."""
        return self._waited > SLOW_READER * self.run.seconds


def stopped(error: BaseException | None) -> bool:
    """Whether an exception says that work was cut short: by time, or by the caller."""
    if isinstance(error, asyncio.CancelledError | GeneratorExit | TimeoutError):
        return True
    return isinstance(error, BrokerError) and error.reason in CUT_SHORT
