"""The event loop: how it is made, and how far it lags behind its timers.

The lag is what every request on the loop waits for because of somebody else's work; it should stay below a few
milliseconds however much data moves.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import uvloop

from broker.ports.clock import Clock
from broker.telemetry.instruments import Telemetry

T = TypeVar("T")
INTERVAL = 0.1
WINDOW = 10.0


def run(main: Coroutine[Any, Any, T]) -> T:
    """Runs a program's coroutine to its end on a new uvloop."""
    return uvloop.run(main)


class LagMonitor:
    """Asks for a timer every ``interval`` seconds and notes by how much it came too late.

    Keeps the samples of the last ``window`` seconds. A loop that is stuck takes no samples, but the first one after it
    holds the whole delay.
    """

    def __init__(
        self, clock: Clock, telemetry: Telemetry, *, interval: float = INTERVAL, window: float = WINDOW
    ) -> None:
        self._clock = clock
        self._telemetry = telemetry
        self._interval = interval
        self._samples: deque[float] = deque(maxlen=max(1, round(window / interval)))
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._listeners: list[Callable[[float], None]] = []

    def listen(self, listener: Callable[[float], None]) -> Callable[[], None]:
        """Tells a listener of every sample, in seconds, until the returned function is called."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def start(self) -> None:
        """Begins on the running loop."""
        self._due = self._clock.monotonic() + self._interval
        self._timer = asyncio.get_running_loop().call_later(self._interval, self._sample)

    def stop(self) -> None:
        """Ends; starting again is allowed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def restart(self) -> None:
        """Begins anew: what was late before, as everything is while a process starts, is forgotten."""
        self.stop()
        self._samples.clear()
        self.start()

    def _sample(self) -> None:
        lag = max(0.0, self._clock.monotonic() - self._due)
        self._samples.append(lag)
        self._telemetry.loop_lag(lag)
        self.start()
        for listener in self._listeners:
            listener(lag)

    def percentile(self, percent: float) -> float:
        """The lag in seconds that ``percent`` of the samples do not exceed; 0 without samples."""
        if not self._samples:
            return 0.0
        ordered = sorted(self._samples)
        return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]

    @property
    def p99(self) -> float:
        """The ninety-ninth percentile in seconds."""
        return self.percentile(99)
