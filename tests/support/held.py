"""The ports of the cache in the memory of a test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from broker.domain.held import Held, Reach
from broker.domain.plan import Plan
from broker.domain.state import CacheState
from broker.ports.cache import Selection


@dataclass
class MemoryAnswers:
    """An :class:`AnswerCache`; ``far`` is what other processes share, ``kept`` everything that was ever kept."""

    far: dict[str, Held] = field(default_factory=dict)
    own: dict[str, Held] = field(default_factory=dict)
    kept: list[Held] = field(default_factory=list)
    looked: list[str] = field(default_factory=list)

    def near(self, key: str) -> Held | None:
        """What this process holds."""
        return self.own.get(key)

    async def find(self, key: str, within: float) -> Held | None:
        """What anybody holds; the newest."""
        self.looked.append(key)
        await asyncio.sleep(0)
        found = [held for tier in (self.own, self.far) if (held := tier.get(key)) is not None]
        return max(found, key=lambda held: held.as_of, default=None)

    def keep(self, held: Held, lifetime: float) -> None:
        """Holds an answer, here and for the others."""
        assert lifetime > 0
        self.kept.append(held)
        for tier in (self.own, self.far):
            if held.key not in tier or tier[held.key].as_of <= held.as_of:
                tier[held.key] = held

    def held(self, dataset: str) -> Sequence[Held]:
        """Answers about a dataset."""
        return [held for held in self.own.values() if held.reach.dataset == dataset]

    async def remove(self, selection: Selection) -> int:
        """Removes answers."""
        gone = [key for key, held in self.own.items() if selection.takes(held)]
        for key in gone:
            del self.own[key]
            self.far.pop(key, None)
        return len(gone)

    def states(self) -> tuple[CacheState, ...]:
        """One tier."""
        return (CacheState("memory", entry_count=len(self.own)),)


@dataclass
class Changes:
    """A :class:`ChangeLog` in which a test moves things: every change gets the next number."""

    seen: int = 0
    tracked: bool = True
    age: float = 0.1
    generation: int = 0

    def moment(self, plan: Plan) -> str:
        """The number of the last change."""
        return str(self.seen) if self.tracked else ""

    def unchanged(self, reach: Reach, moment: str) -> float | None:
        """The age of the last look, while nothing has changed."""
        return self.age if self.tracked and moment == str(self.seen) else None

    def extent(self) -> dict[str, float | None]:
        """Not asked for."""
        return {}


@dataclass
class Taken:
    """Whether the turn is one's own, and when that of the other ends."""

    mine: bool
    ended: asyncio.Event

    async def over(self, seconds: float) -> None:
        """Waits until the other has ended."""
        try:
            async with asyncio.timeout(seconds):
                await self.ended.wait()
        except TimeoutError:
            return


@dataclass
class SharedTurns:
    """:class:`Turns` that several request paths share."""

    running: dict[str, asyncio.Event] = field(default_factory=dict)

    @asynccontextmanager
    async def turn(self, key: str) -> AsyncIterator[Taken]:
        """The turn, or word of who has it."""
        await asyncio.sleep(0)
        if (other := self.running.get(key)) is not None:
            yield Taken(mine=False, ended=other)
            return
        ended = self.running[key] = asyncio.Event()
        try:
            yield Taken(mine=True, ended=ended)
        finally:
            if self.running.get(key) is ended:
                del self.running[key]
            ended.set()


class Untracked:
    """A change log that knows of nothing: every answer goes by its age."""

    generation = 0

    def moment(self, _plan: Plan) -> str:
        """None."""
        return ""

    def unchanged(self, _reach: Reach, _moment: str) -> float | None:
        """Nothing is known."""
        return None

    def extent(self) -> dict[str, float | None]:
        """No datasets."""
        return {}
