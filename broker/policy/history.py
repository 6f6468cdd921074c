"""What has been seen of a question: how long its last runs took and what they returned."""

from __future__ import annotations

from collections import OrderedDict, deque
from statistics import median

from broker.policy.admission.values import Quantiles

SAMPLES = 16
FORGET = 600.0
"""Seconds after which an unconfirmed time counts half: work refused for being too slow is tried again some day."""


class History:
    """The last runs of one question."""

    __slots__ = ("_bytes", "_rows", "_seconds", "at")

    def __init__(self, at: float) -> None:
        self.at = at
        self._seconds: deque[float] = deque(maxlen=SAMPLES)
        self._rows = self._bytes = 0

    @property
    def samples(self) -> int:
        """How many runs are remembered."""
        return len(self._seconds)

    @property
    def last(self) -> float:
        """Seconds of the newest run."""
        return self._seconds[-1]

    @property
    def size(self) -> tuple[int, int]:
        """Rows and bytes of the newest complete run."""
        return self._rows, self._bytes

    def add(self, seconds: float, rows: int, size: int, now: float) -> None:
        """A complete run."""
        self._seconds.append(seconds)
        self._rows, self._bytes, self.at = rows, size, now

    def add_cut_short(self, seconds: float, now: float) -> None:
        """A run that was cut short: it tells something only if it was already longer than usual."""
        if not self._seconds or seconds > median(self._seconds):
            self._seconds.append(seconds)
            self.at = now

    def quantiles(self, now: float) -> Quantiles:
        """Times to expect: the fastest run seen (fading when old), the median, and the slowest seen."""
        middle = median(self._seconds)
        spread = 2.0 if len(self._seconds) < 4 else 1.0  # few runs say little about the next one
        fading = 0.5 ** (max(0.0, now - self.at) / FORGET)
        return Quantiles(min(self._seconds) / spread * fading, middle, max(self._seconds) * spread)


class Histories:
    """Histories by fingerprint; the ones used longest ago are forgotten."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._entries: OrderedDict[str, History] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, fingerprint: str) -> History | None:
        """The history of a question, or None."""
        entry = self._entries.get(fingerprint)
        if entry is not None:
            self._entries.move_to_end(fingerprint)
        return entry

    def open(self, fingerprint: str, now: float) -> History:
        """The history of a question, a new one when there is none."""
        entry = self.find(fingerprint)
        if entry is None:
            entry = self._entries[fingerprint] = History(now)
            if len(self._entries) > self._capacity:
                self._entries.popitem(last=False)
        return entry
