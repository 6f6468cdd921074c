"""What has been seen of questions with one cost fingerprint: times without contention, sizes of answers."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator

from broker.domain.estimate import Estimate
from broker.policy.calibration import NORMAL, Guess
from broker.policy.sketch import Sketch

FORGET = 3600.0
"""Seconds after which knowledge that nothing confirms counts half in refusals: what is too slow is tried again."""
LEAN_CENTRE, LEAN_SPREAD = 0.5, 2.0
"""Runs that the model counts for beside a history, in the middle and in the spread."""
SPREAD = 0.2
"""Spread of the logarithm of seconds between runs of one fingerprint, where too few have been seen."""
LEAST_SPREAD = 0.03
OWN = 0.7
"""What an estimate for the very literals counts beside the history of the fingerprint."""


class History:
    """The runs of one cost fingerprint.

    ``ceiling`` is the shortest run that others slowed down, infinite when the time is known better: the question takes
    no longer than that by itself. ``estimate`` is the planner's, kept so that it is asked for once. ``offset`` holds by
    what factor runs took longer than the model made of the planner's estimate for their own literals.
    """

    __slots__ = ("at", "bytes", "ceiling", "estimate", "last", "offset", "rows", "samples", "seconds")

    def __init__(self, at: float) -> None:
        self.at = at
        self.seconds, self.rows, self.bytes, self.offset = Sketch(), Sketch(), Sketch(), Sketch()
        self.samples = 0
        self.last = 0.0
        self.ceiling = math.inf
        self.estimate: Estimate | None = None

    @property
    def known(self) -> bool:
        """Whether there is anything to tell of its time."""
        return self.seconds.total > 0.0

    @property
    def size(self) -> tuple[int, int]:
        """Rows and bytes to expect."""
        return round(self.rows.quantile(0.5)), round(self.bytes.quantile(0.5))

    def add(self, seconds: float, rows: int, size: int, now: float) -> None:
        """A complete run that nothing slowed down."""
        self.seconds.add(seconds)
        self.add_size(rows, size)
        self.samples += 1
        self.last, self.at, self.ceiling = seconds, now, math.inf

    def add_size(self, rows: int, size: int) -> None:
        """What a complete run returned."""
        self.rows.add(max(rows, 0.5))
        self.bytes.add(max(size, 0.5))

    def add_cut_short(self, seconds: float, now: float) -> None:
        """A run that was stopped: it would have taken at least so long."""
        self.seconds.add_above(seconds)
        self.at = now
        self.last = max(self.last, seconds)

    def add_contended(self, seconds: float, now: float) -> None:
        """A run that others slowed down: by itself it would have taken at most so long."""
        self.at = now
        if self.known:
            self.seconds.add_below(seconds)
        else:
            self.ceiling = min(self.ceiling, seconds)

    def guess(self, model: Guess | None, *, own: bool = False, trust: float = 1.0) -> Guess:
        """Where the next run will lie.

        ``model`` is what the planner's estimate says: for the very literals of this question if it is the question's
        ``own``, else for those of an earlier one. Of few runs it says more than they do. An estimate of its own tells
        the literals of one fingerprint apart; corrected by the usual offset it counts more than the history. A model
        that has learned little counts less, by its ``trust`` from 0 to 1.

        The model counts for fewer runs in the middle than in the spread, so that a run that was stopped, which moves
        quantiles of the history up only, moves every quantile of the guess up only.
        """
        n = float(self.samples)
        low, middle, high = (math.log(self.seconds.quantile(q)) for q in (0.1, 0.5, 0.9))
        centre = middle
        if model is not None:
            lean, said = LEAN_CENTRE * trust, model.centre
            alone = n / (n + lean) if n else 0.0
            if own and self.offset.total > 0.0:
                usual = math.log(self.offset.quantile(0.5))
                said += usual * self.offset.total / (self.offset.total + LEAN_CENTRE)
                alone *= 1.0 - OWN * trust
            centre = alone * middle + (1.0 - alone) * said
            if not self.samples:  # all that is known is that it takes longer
                centre = max(centre, middle)
        known = n / (n + LEAN_SPREAD)
        left = known * (middle - low) / NORMAL + (1.0 - known) * SPREAD
        right = known * (high - middle) / NORMAL + (1.0 - known) * SPREAD
        return Guess(centre, max(left, LEAST_SPREAD), max(right, LEAST_SPREAD))

    def fading(self, now: float) -> float:
        """What this knowledge counts when work is to be refused for it, 1 when fresh."""
        return float(0.5 ** (max(0.0, now - self.at) / FORGET))

    def merge(self, other: History) -> None:
        """Adds what another process has seen of the same questions."""
        newer = other if other.at > self.at else self
        for name in ("seconds", "rows", "bytes", "offset"):
            getattr(self, name).merge(getattr(other, name))
        self.samples += other.samples
        self.ceiling = math.inf if self.samples else min(self.ceiling, other.ceiling)
        self.at, self.last = newer.at, newer.last
        self.estimate = newer.estimate or self.estimate


class Histories:
    """Histories by cost fingerprint; the ones used longest ago are forgotten beyond ``capacity``."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._entries: OrderedDict[str, History] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[tuple[str, History]]:
        """All entries, the one used longest ago first."""
        return iter(list(self._entries.items()))

    def find(self, fingerprint: str) -> History | None:
        """The history of a fingerprint, or None."""
        entry = self._entries.get(fingerprint)
        if entry is not None:
            self._entries.move_to_end(fingerprint)
        return entry

    def open(self, fingerprint: str, now: float) -> History:
        """The history of a fingerprint, a new one when there is none."""
        entry = self.find(fingerprint)
        if entry is None:
            entry = self._entries[fingerprint] = History(now)
            if len(self._entries) > self._capacity:
                self._entries.popitem(last=False)
        return entry
