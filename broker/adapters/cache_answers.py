"""The tiers of the answer cache together, as the request path sees them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import datetime

from broker.adapters.cache_memory import MemoryTier
from broker.domain.held import Held, Selection
from broker.domain.state import CacheState
from broker.policy.removals import Removals
from broker.ports.clock import Clock

_SLICE = 1_000
"""Entries that are looked at before other work gets its turn."""


class Answers:
    """A :class:`broker.ports.cache.AnswerCache` over one process's memory."""

    def __init__(self, memory: MemoryTier, removals: Removals, clock: Clock) -> None:
        self._memory, self._removals, self._clock = memory, removals, clock

    def near(self, key: str) -> Held | None:
        """See :class:`broker.ports.cache.AnswerCache`; one of its lookups in the tier ``memory``."""
        return self._memory.look(key)

    async def find(self, key: str, within: float) -> Held | None:  # noqa: ARG002 - memory is at hand
        """See :class:`broker.ports.cache.AnswerCache`. It counts as a lookup in the far tier alone."""
        return self._memory.peek(key)

    def keep(self, held: Held, lifetime: float) -> None:
        """See :class:`broker.ports.cache.AnswerCache`. What a removal has overtaken is not kept."""
        if not self._removals.removed(held):
            self._memory.put(held, lifetime)

    def held(self, dataset: str) -> Sequence[Held]:
        """See :class:`broker.ports.cache.AnswerCache`."""
        return self._memory.about(dataset)

    async def remove(self, selection: Selection) -> int:
        """See :class:`broker.ports.cache.AnswerCache`."""
        return len(await self.learn([(selection, self._clock.now())]))

    async def learn(self, told: Iterable[tuple[Selection, datetime]]) -> set[str]:
        """Takes note of removals, wherever they were made, and lets go of what they remove here; its keys."""
        gone: set[str] = set()
        for selection in self._removals.learn(told, self._clock.now()):
            for place, key in enumerate(self._memory.keys(selection.dataset)):
                if place % _SLICE == _SLICE - 1:
                    await asyncio.sleep(0)
                if self._memory.drop(key, selection):
                    gone.add(key)
        return gone

    def states(self) -> tuple[CacheState, ...]:
        """See :class:`broker.ports.cache.AnswerCache`."""
        near = self._memory
        return (
            CacheState(
                near.NAME, len(near), near.bytes, near.limit, hit_count=near.hits, miss_count=near.misses
            ),
        )
