"""What a backend and the machine say about themselves: needs no baseline, and outranks what is inferred from speed."""

from __future__ import annotations

from broker.policy.admission.values import Pressure

FRESH = 5.0
"""Seconds for which news of this kind holds."""
STOP, RESUME = 0.90, 0.85
"""Share of memory in use above which nothing is admitted, and below which it is again."""
BUSY = 0.95
"""Share of processors in use at which more seats can do nothing."""
LOCKED, LOCKED_HARD = 0.25, 0.5
"""Shares of executing backends that wait for locks: from the first on more seats make it worse, from the second on the
limit falls whatever the speed."""
FETCHING = 0.75
"""Share of executing backends that wait for the disk from which it is the bottleneck."""
FEWEST = 4
"""Fewer executing backends make no shares."""


class Contention:
    """The latest news of one backend."""

    def __init__(self) -> None:
        self._news = Pressure()
        self._at = -FRESH
        self.stopped = False

    def hear(self, news: Pressure, now: float) -> None:
        """News, all of it at once: what it leaves open is not known."""
        self._news = news
        self._at = now
        memory = self._news.memory
        if memory is not None:
            self.stopped = memory > (RESUME if self.stopped else STOP)

    def _current(self, now: float) -> Pressure:
        return self._news if now - self._at <= FRESH else Pressure()

    def expire(self, now: float) -> None:
        """Without news of late, nothing is known and nothing is stopped."""
        if now - self._at > FRESH:
            self.stopped = False

    def seen(self, now: float) -> bool:
        """Whether queries compete for something, by direct evidence."""
        news = self._current(now)
        return (
            (news.cpu is not None and news.cpu >= BUSY)
            or _share(news.lock_waiting, news.active) >= LOCKED
            or _share(news.io_waiting, news.active) >= FETCHING
        )

    def convoy(self, now: float) -> bool:
        """Whether most of what runs waits for locks."""
        news = self._current(now)
        return _share(news.lock_waiting, news.active) >= LOCKED_HARD

    def crowded(self, seats: float, now: float) -> bool:
        """Whether others than the broker keep the backend busy: more executes than so many seats."""
        active = self._current(now).active
        return active is not None and active > seats


def _share(part: int | None, whole: int | None) -> float:
    return part / whole if part is not None and whole is not None and whole >= FEWEST else 0.0
