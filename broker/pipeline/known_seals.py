"""What is sealed as far as the last looks tell, for answers that would spend a round trip to ask their own snapshot.

What a look has found holds for a few seconds, counted from before it; then the snapshot is asked until there is another
look. Whoever seals waits for longer than that before rows may be deleted. So no answer rests on tables that have lost
rows without its broker knowing of the seal, however long it was queued and whatever keeps the broker from looking.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from broker.domain.model import Dataset
from broker.domain.rollup import Coverage
from broker.policy.rollups.seals import Seals, seals_of

KNOWN_SECONDS = 3.0
"""For how long what a look has found holds."""
SETTLE_SECONDS = 2 * KNOWN_SECONDS
"""After this every broker knows of a seal; the rest is for a statement that is on its way."""

Known = Callable[[Dataset], Seals | None]
"""The spans, by time dimension, whose rows the tables may no longer have; None while the snapshot has to be asked."""


def nobody_knows(_: Dataset) -> Seals | None:
    """The snapshot has to be asked."""
    return None


class KnownSeals:
    """What the last looks have found; ``now`` is a clock that never goes back, in seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._found: dict[str, tuple[Seals, float]] = {}

    def learn(self, dataset: Dataset, coverage: Iterable[Coverage], since: float) -> None:
        """Takes what was found of all of the dataset's rollups by a look that was begun at ``since``."""
        self._found[dataset.name] = seals_of(dataset, coverage), since + KNOWN_SECONDS

    def __call__(self, dataset: Dataset) -> Seals | None:
        """What still holds."""
        if not dataset.rollups:
            return {}
        seals, until = self._found.get(dataset.name, ({}, -math.inf))
        return seals if self._now() < until else None

    def last(self, dataset: Dataset) -> Seals | None:
        """What was found last, be it long ago: while the database is away, nothing else tells of it."""
        return self._found.get(dataset.name, (None, 0.0))[0] if dataset.rollups else {}
