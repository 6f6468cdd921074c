"""How far an attempt was, kept for the attempt after it."""

from __future__ import annotations

from typing import Protocol

from broker.domain.job import Job


class Checkpoints(Protocol):
    """Bytes kept with a job while it is not finished. Every method raises BrokerError STORE_UNAVAILABLE."""

    async def save(self, job: Job, data: bytes) -> bool:
        """Keeps the bytes in place of those before; False when the attempt is stale, which changes nothing."""
        ...

    async def load(self, job: Job) -> bytes:
        """What the attempts before saved last; empty when none did."""
        ...
