"""The brown-out dial: before a queue is full, more and more of those whom an older answer serves are given one.

The idea is that of brownout control (Klein, Maggio, Årzén, Hernández-Rodriguez: Brownout: building more robust cloud
applications, 2014): optional work is left out in proportion to the load. Which questions go down is decided by a hash
of each, so that a dashboard does not flicker between live and old while the load stays as it is.
"""

from __future__ import annotations

import hashlib

BEGINS = 0.5
"""Expected wait over what may be waited, at which the first go down; at 1, where queues refuse, all do."""


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
