"""Where learned state outlives a process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from broker.domain.learned import Learned


class LearnedStore(Protocol):
    """Keeps the states of all processes that read one database. Every method raises BrokerError when it cannot."""

    async def load(self, version: int) -> Sequence[Learned]:
        """The newest states of a version, the newest first; a bounded number of them."""
        ...

    async def save(self, writer: str, version: int, state: bytes, absorbed: Sequence[str]) -> None:
        """Replaces the state of a writer.

        The states of the writers ``absorbed`` are part of it: they are dropped, unless their writers are still at work.
        """
        ...
