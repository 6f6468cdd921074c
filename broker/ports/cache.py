"""Where answers are held. Faults of a tier never reach the caller: a tier that is slow, down or wrong holds nothing."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from broker.domain.held import Held, Selection
from broker.domain.state import CacheState

__all__ = ["AnswerCache", "Selection", "Turn", "Turns"]


class AnswerCache(Protocol):
    """The tiers together, nearest first. No method raises for a fault of a tier."""

    def near(self, key: str) -> Held | None:
        """What this process itself holds, at once; the newest answer under the key, whatever its age."""
        ...

    async def find(self, key: str, within: float) -> Held | None:
        """The newest answer in any tier; those that take longer than ``within`` seconds hold nothing."""
        ...

    def keep(self, held: Held, lifetime: float) -> None:
        """Holds an answer for at most ``lifetime`` seconds, in far tiers a little later; never replaces a newer one."""
        ...

    def held(self, dataset: str) -> Sequence[Held]:
        """Answers about a dataset that this process holds, latest used first; at most a few hundred."""
        ...

    async def remove(self, selection: Selection) -> int:
        """Removes answers from all tiers, and from the processes that share the far one; how many were found here."""
        ...

    def states(self) -> tuple[CacheState, ...]:
        """The tiers in numbers."""
        ...


class Turns(Protocol):
    """Who answers a question that several processes are asked at once."""

    def turn(self, key: str) -> AbstractAsyncContextManager[Turn]:
        """Asks for the turn and keeps it, once had, until the end. A fault of the shared tier gives it to everybody."""
        ...


class Turn(Protocol):
    """Whether it is this process that answers."""

    @property
    def mine(self) -> bool:
        """True for the one that is to answer; the answer goes to the cache before the turn ends."""
        ...

    async def over(self, seconds: float) -> None:
        """Waits until the other process has ended its turn or died, at most so long. Then look, and ask again."""
        ...
