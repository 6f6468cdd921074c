"""The tiers of the answer cache together, as the request path sees them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Protocol

from broker.adapters.cache_link import FaultError
from broker.adapters.cache_memory import MemoryTier
from broker.adapters.cache_shared import NAME, SharedTier
from broker.domain.held import Held, Selection
from broker.domain.state import CacheState
from broker.policy.removals import Removals
from broker.ports.clock import Clock
from broker.telemetry import names as n
from broker.telemetry.instruments import Telemetry
from broker.telemetry.meters import Reading
from broker.telemetry.tally import Key, Tally

_SLICE = 1_000
"""Entries that are looked at before other work gets its turn."""
_LOG = logging.getLogger(__name__)


class Teller(Protocol):
    """Tells other processes of a removal. Raises `FaultError` when they will only hear of it later."""

    async def tell(self, selection: Selection, at: datetime) -> None:
        """See :class:`broker.adapters.cache_news.News`."""
        ...


class Answers:
    """A :class:`broker.ports.cache.AnswerCache`: the memory of this process, and a tier that it may share."""

    def __init__(self, memory: MemoryTier, removals: Removals, clock: Clock, telemetry: Telemetry) -> None:
        self._memory, self._removals, self._clock, self._telemetry = memory, removals, clock, telemetry
        self._shared: SharedTier | None = None
        self._teller: Teller | None = None
        self._told = Tally(self._tell)

    def share(self, tier: SharedTier, teller: Teller) -> None:
        """Adds the tier that processes share."""
        self._shared, self._teller = tier, teller

    def near(self, key: str) -> Held | None:
        """See :class:`broker.ports.cache.AnswerCache`; counts as a lookup in the memory."""
        return self._memory.look(key)

    async def find(self, key: str, within: float) -> Held | None:
        """See :class:`broker.ports.cache.AnswerCache`; counts as a lookup in the shared tier alone."""
        near = self._memory.peek(key)
        if self._shared is None or not self._shared.available:
            return near
        entry = await self._shared.get(key, within)
        if entry is None:
            return near
        far = entry.held
        if self._removals.removed(far):
            self._shared.discard(key)
            return near
        if near is not None and near.as_of >= far.as_of:
            return near
        self._memory.put(far, (entry.until - self._clock.now()).total_seconds())
        return far

    def keep(self, held: Held, lifetime: float) -> None:
        """See :class:`broker.ports.cache.AnswerCache`. What a removal has overtaken is not kept."""
        if self._removals.removed(held):
            return
        self._memory.put(held, lifetime)
        if self._shared is not None:
            self._shared.put(held, lifetime)

    def held(self, dataset: str) -> Sequence[Held]:
        """See :class:`broker.ports.cache.AnswerCache`."""
        return self._memory.about(dataset)

    async def remove(self, selection: Selection) -> int:
        """See :class:`broker.ports.cache.AnswerCache`. The shared tier's own are counted too, once."""
        at = self._clock.now()
        gone = await self.learn([(selection, at)])
        if self._shared is not None and self._teller is not None:
            try:
                await self._teller.tell(selection, at)
                gone |= await self._shared.remove(selection, at)
            except FaultError as fault:
                _LOG.warning("a removal has not reached the shared tier yet: %s", fault)
        return len(gone)

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
        near, far = self._memory, self._shared
        states = [CacheState(near.NAME, len(near), near.bytes, near.limit, near.hits, near.misses)]
        if far is not None:
            states.append(
                CacheState(NAME, hit_count=far.hits, miss_count=far.misses, available=far.available)
            )
        return tuple(states)

    def sizes(self) -> list[Reading]:
        """Bytes of the memory; tells what the counters have not heard of yet, since somebody collects."""
        near, far = self._memory, self._shared
        totals: dict[Key, int] = {
            ("lookup", near.NAME, "hit"): near.hits,
            ("lookup", near.NAME, "miss"): near.misses,
            ("eviction", near.NAME, "room"): near.evictions,
        }
        if far is not None:
            totals["eviction", NAME, "corrupt"] = far.corrupt
            totals["eviction", NAME, "unwritten"] = far.unwritten
        self._told.reach(totals)
        return [(float(near.bytes), {n.TIER: near.NAME})]

    def entries(self) -> list[Reading]:
        """Entries of the memory."""
        return [(float(len(self._memory)), {n.TIER: self._memory.NAME})]

    def _tell(self, key: Key, count: int) -> None:
        what, tier, which = key
        if what == "lookup":
            self._telemetry.cache_lookup(tier, which, count)
        else:
            self._telemetry.cache_eviction(tier, which, count)
