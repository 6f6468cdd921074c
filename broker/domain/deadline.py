"""A deadline is an instant on the monotonic clock; every wait and every statement derives its limit from it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Deadline:
    """The instant ``at`` (seconds of the monotonic clock) by which the caller stops listening."""

    at: float

    @classmethod
    def after(cls, seconds: float, now: float) -> Deadline:
        """The deadline ``seconds`` from ``now``."""
        return cls(now + seconds)

    def remaining(self, now: float) -> float:
        """Seconds left, never negative."""
        return max(0.0, self.at - now)

    def expired(self, now: float) -> bool:
        """Whether nothing is left."""
        return now >= self.at

    def minus(self, reserve: float) -> Deadline:
        """An earlier deadline that keeps ``reserve`` seconds for what comes after."""
        return Deadline(self.at - reserve)

    def capped(self, seconds: float, now: float) -> Deadline:
        """This deadline, but at most ``seconds`` from ``now``."""
        return Deadline(min(self.at, now + seconds))
