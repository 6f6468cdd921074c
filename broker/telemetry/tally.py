"""Counts that are too many to be told one by one: added up here, and told when somebody collects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import Lock

Key = tuple[str, ...]


class Tally:
    """Adds up by key on one thread; :meth:`flush`, on any thread, passes on what has come since the last time.

    A counter of OpenTelemetry takes ten microseconds for each addition, a tally a tenth of one.
    """

    __slots__ = ("_lock", "_told", "_totals", "_write")

    def __init__(self, write: Callable[[Key, int], object]) -> None:
        self._write = write
        self._totals: dict[Key, int] = {}
        self._told: dict[Key, int] = {}
        self._lock = Lock()

    def add(self, key: Key, count: int = 1) -> None:
        """So many more."""
        self._totals[key] = self._totals.get(key, 0) + count

    def reach(self, totals: Mapping[Key, int]) -> None:
        """Takes totals that somebody else adds up, and passes on what is new."""
        self._totals.update(totals)
        self.flush()

    def flush(self) -> tuple[()]:
        """Passes on what is new. It returns nothing in a way that fits a source of gauges, which is asked in time."""
        with self._lock:
            for key, total in list(self._totals.items()):
                told = self._told.get(key, 0)
                if total > told:
                    self._told[key] = total
                    self._write(key, total - told)
        return ()
