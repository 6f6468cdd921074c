"""The brown-out dial: before a queue is full, more and more of those whom an older answer serves are given one.

The idea is that of brownout control (Klein, Maggio, Årzén, Hernández-Rodriguez: Brownout: building more robust cloud
applications, 2014): optional work is left out in proportion to the load. Which questions go down is decided by a hash
of each, so that a dashboard does not flicker between live and old while the load stays as it is.

An expected wait alone says too little. It has in it what is left of the work that runs, so where a question takes about
as long as it may wait, it is near the budget whenever all seats are in use, though nobody waits. And a burst makes a
queue that is gone before anybody is late. What has to be relieved is a queue that stands: one that is never seen empty
for a while (Nichols, Jacobson: Controlling queue delay, 2012, tell good queues from bad ones in the same way). Beyond
the budget there is nothing to judge: who expects to wait that long is refused, whether a queue stands or not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable

BEGINS = 0.5
"""Expected wait over what may be waited, at which the first go down; at 1, where queues refuse, all do."""


STANDS = 0.5
"""Seconds for which a queue has to be seen with somebody in it before it counts."""


class Standing:
    """Which queues stand, from what is seen of them by those who come. Instants are seconds of one clock."""

    def __init__(self) -> None:
        self._seen: dict[Hashable, tuple[float, float]] = {}

    def stands(self, queue: Hashable, length: int, now: float) -> bool:
        """Takes in how many wait in a queue now; whether somebody has for :data:`STANDS` seconds, whenever it was seen.

        What was not seen for as long is not known, and begins anew.
        """
        if length <= 0:
            self._seen.pop(queue, None)
            return False
        since, last = self._seen.get(queue, (now, now))
        if now - last > STANDS:
            since = now
        self._seen[queue] = since, now
        return now - since >= STANDS


def dial(strain: float) -> float:
    """Which share of the eligible goes down, from 0 to 1; ``strain`` is expected wait over wait budget."""
    return min(1.0, max(0.0, (strain - BEGINS) / (1.0 - BEGINS)))


def cohort(key: str) -> float:
    """Where a question stands among all, from 0 to 1, the same in every process and at all times."""
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64


def goes_down(key: str, strain: float) -> bool:
    """Whether a question is among those that go down."""
    share = dial(strain)
    return share > 0.0 and cohort(key) < share
