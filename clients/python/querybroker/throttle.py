"""Rejects calls before they are sent, once a broker refuses so many that more of them would only burden it further.

A refusal costs a broker as much as an answer, so a client that goes on asking keeps a full broker full. Each client
therefore remembers what it asked of late and what was refused, and rejects a part of its own calls itself: adaptive
throttling of the book Site Reliability Engineering (chapter 21, "Handling Overload"), with K = 1.5.

A call counts when it is sent, and as accepted until it is refused: refusals come within milliseconds, while an answer
may take minutes, and calls under way are no sign of overload. Two things bound how long a broker that has recovered
is spared for nothing: a call goes out at least every second, and a run of accepted calls clears the memory.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from querybroker.errors import QueryBrokerError

_SLICES = 24
_RUNTIMES = 128
_NOT_REFUSALS = frozenset({"DRAINING", "WORKER_LOST"})
"""Reasons of the status UNAVAILABLE that tell nothing of load: a replica that stops, a process that died."""


@dataclass(frozen=True, slots=True)
class ThrottleSettings:
    """Times in seconds.

    Of calls beyond ``factor`` times those that were accepted in the window, the excess is rejected, at most the share
    ``most``, and only when the window has ``least`` calls. The window is ``window``, or twice the runtime that all but
    one in a hundred calls stay below, if that is longer. A call goes out at least every ``interval``; after ``run``
    accepted calls without a refusal between them everything is forgotten.
    """

    factor: float = 1.5
    window: float = 120.0
    least: int = 20
    most: float = 0.95
    interval: float = 1.0
    run: int = 5


@dataclass(frozen=True, slots=True)
class Throttled:
    """A call that is not sent: calls and refusals of the window, and the share of calls that is rejected."""

    sent: int
    refused: int
    window: float
    share: float


class Throttle:
    """The memory of one client, or of several that ask the same broker for the same tenant. For any thread."""

    def __init__(
        self,
        settings: ThrottleSettings | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._settings = settings or ThrottleSettings()
        self._clock, self._chance = clock, chance
        self._lock = threading.Lock()
        self._slices: deque[_Slice] = deque()
        self._window = self._settings.window
        self._calls = self._refused = self._run = self._answers = 0
        self._sent = float("-inf")
        self._runtimes: deque[float] = deque(maxlen=_RUNTIMES)

    def ask(self) -> Sent | Throttled:
        """Leave to send one call, whose end is to be told; or none."""
        with self._lock:
            now = self._clock()
            s = self._current(now)
            share = self._share()
            self._calls += 1
            s.calls += 1
            if share > 0.0 and now - self._sent < self._settings.interval and self._chance() < share:
                # It counts as refused: the broker has not accepted it.
                self._refused += 1
                s.refused += 1
                return Throttled(self._calls, self._refused, self._window, share)
            self._sent = now
            return Sent(self, s, now)

    def _share(self) -> float:
        s = self._settings
        if self._calls < s.least:
            return 0.0
        excess = self._calls - s.factor * (self._calls - self._refused)
        return min(s.most, max(0.0, excess / (self._calls + 1)))

    def _ended(self, slice_: _Slice, began: float, *, refused: bool) -> None:
        with self._lock:
            now = self._clock()
            if refused:
                self._run = 0
                slice_.refused += 1
                self._refused += slice_.kept
                return
            self._learn(now - began)
            self._run += 1
            if self._run >= self._settings.run and self._refused:
                self._forget()

    def _learn(self, seconds: float) -> None:
        self._runtimes.append(seconds)
        self._answers += 1
        if self._answers % 16 == 0 and len(self._runtimes) >= self._settings.least:
            longest = sorted(self._runtimes)[int(0.99 * (len(self._runtimes) - 1))]
            self._window = max(self._settings.window, 2.0 * longest)

    def _current(self, now: float) -> _Slice:
        while self._slices and self._slices[0].at <= now - self._window:
            old = self._slices.popleft()
            old.kept = 0
            self._calls -= old.calls
            self._refused -= old.refused
        if not self._slices or now - self._slices[-1].at >= self._window / _SLICES:
            self._slices.append(_Slice(now))
        return self._slices[-1]

    def _forget(self) -> None:
        for old in self._slices:
            old.kept = 0
        self._slices.clear()
        self._calls = self._refused = self._run = 0


class _Slice:
    """Calls of a part of the window, and how many of them were refused; ``kept`` is 1 while it is part of the sums."""

    __slots__ = ("at", "calls", "kept", "refused")

    def __init__(self, at: float) -> None:
        self.at = at
        self.calls = self.refused = 0
        self.kept = 1


class Sent:
    """A call under way. Only the first thing that is told of it counts."""

    __slots__ = ("_began", "_slice", "_throttle")

    def __init__(self, throttle: Throttle, slice_: _Slice, began: float) -> None:
        self._throttle: Throttle | None = throttle
        self._slice, self._began = slice_, began

    def accepted(self) -> None:
        """Something of an answer has arrived."""
        self._end(refused=False)

    def failed(self, error: QueryBrokerError) -> None:
        """The call ended with an error: a refusal, or an answer as good as any other."""
        self._end(refused=is_refusal(error))

    def _end(self, *, refused: bool) -> None:
        throttle, self._throttle = self._throttle, None
        if throttle is not None:
            throttle._ended(self._slice, self._began, refused=refused)  # noqa: SLF001 - they are one thing


def is_refusal(error: QueryBrokerError) -> bool:
    """Whether the broker refused for load, or could not be reached."""
    if error.code == "UNAVAILABLE":
        return error.reason not in _NOT_REFUSALS
    return error.reason == "TENANT_QUOTA"


def chosen(given: bool | Throttle) -> Throttle | None:
    """What a client's option stands for."""
    if isinstance(given, Throttle):
        return given
    return Throttle() if given else None
