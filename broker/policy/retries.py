"""Whether to try a failed call once more: few attempts, random pauses, a budget, and never past the deadline.

A count of attempts alone multiplies the load by itself just when a backend is weakest. The budget bounds the sum: every
call pays a part of a token in, every retry takes a whole one out, and a small reserve per second lets rare calls retry
as well (Finagle's retry budget). So retries stay below ``ratio`` of the calls plus the reserve, whatever happens.
Pauses are drawn between 0 and a doubling ceiling (full jitter, M. Brooker, AWS Architecture Blog, 2015).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class RetrySettings:
    """``attempts`` counts the first; pauses are in seconds; ``reserve`` is tokens per second, ``tokens`` the most."""

    attempts: int = 3
    first_pause: float = 0.1
    longest_pause: float = 1.0
    ratio: float = 0.1
    reserve: float = 1.0
    tokens: float = 10.0


class Stop(StrEnum):
    """Why a call is not tried again."""

    ATTEMPTS = "attempts"
    DEADLINE = "deadline"
    BUDGET = "budget"


class RetryBudget:
    """The budget of one backend, full at first. ``random`` gives numbers in [0, 1)."""

    __slots__ = ("_at", "_random", "_settings", "_tokens")

    def __init__(self, settings: RetrySettings, random: Callable[[], float], now: float) -> None:
        self._settings, self._random = settings, random
        self._tokens = settings.tokens
        self._at = now

    def called(self) -> None:
        """A call is made for the first time."""
        if self._tokens < self._settings.tokens:
            self._tokens += self._settings.ratio

    def again(self, attempts: int, now: float, end: float) -> float | Stop:
        """The pause in seconds before one more attempt, or why there is none; ``attempts`` have failed.

        ``end`` is the deadline, on the clock of ``now``. A token is taken only when the attempt is granted.
        """
        s = self._settings
        if attempts >= s.attempts:
            return Stop.ATTEMPTS
        pause = self._random() * backoff(attempts, s.first_pause, s.longest_pause)
        if now + pause >= end:
            return Stop.DEADLINE
        self._tokens = min(s.tokens, self._tokens + s.reserve * max(0.0, now - self._at))
        self._at = now
        if self._tokens < 1.0:
            return Stop.BUDGET
        self._tokens -= 1.0
        return pause


def backoff(failures: int, first: float, longest: float) -> float:
    """The ceiling of the pause after so many failures: ``first``, doubled for each one more, up to ``longest``."""
    return min(longest, first * 2.0 ** min(max(failures - 1, 0), 60))
