"""Shuffle sharding: where a tenant waits when there are too many for a queue each.

Every tenant is dealt the same hand of shared queues each time and joins the one with least work. A tenant shares its
whole hand with a heavy one in about one of five thousand million cases (128 queues, hands of 6).
Source: the API server of Kubernetes (KEP 1040), whose hands are dealt without replacement from a hash, as here.
"""

from __future__ import annotations

import hashlib

QUEUES, HAND = 128, 6
EXACT_TENANTS = 4096
"""Tenants that wait in a queue of their own."""


def hand(tenant: str) -> list[str]:
    """The names of the shared queues that a tenant may wait in, all different."""
    value = int.from_bytes(hashlib.blake2s(tenant.encode(), digest_size=8).digest(), "big")
    cards = list(range(QUEUES))
    dealt: list[str] = []
    for _ in range(HAND):
        value, index = divmod(value, len(cards))
        dealt.append(f"shared/{cards.pop(index)}")
    return dealt
