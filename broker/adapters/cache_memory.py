"""Answers in the memory of the process: the least recently used go first, and what counts is bytes.

aiocache's own memory backend has no bound, so this is another one: a :class:`aiocache.base.BaseCache` over an ordered
mapping. The calls that the request path makes are beside that interface, because they may not wait.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from itertools import islice
from math import inf
from sys import getsizeof
from typing import NamedTuple

from aiocache.base import BaseCache
from aiocache.serializers import NullSerializer

from broker.domain.held import Held, Selection
from broker.ports.clock import Clock

ENTRY, COLUMN, PART, STEP, SPAN, BOUND, CONTENT, CONJUNCT = 2560, 192, 512, 160, 256, 176, 1024, 640
"""Bytes of an entry beside its table and texts, and of what it may hold several of: measured, with what the allocator
and growing mappings waste."""
RECENT = 256
"""Most answers about a dataset that are looked through for one that contains another."""


class Entry(NamedTuple):
    """An answer, the instant at which it is let go (monotonic seconds), and the bytes that it counts for."""

    held: Held
    until: float
    size: int


class MemoryTier(BaseCache):  # type: ignore[misc] # aiocache has no types
    """Answers by key, in at most ``limit`` bytes; 0 holds nothing. ``max_entry`` bounds the table of a single one.

    ``evictions`` counts what had to go to make room, ``hits`` and ``misses`` the lookups.
    """

    NAME = "memory"

    def __init__(self, limit: int, max_entry: int, clock: Clock) -> None:
        super().__init__(serializer=NullSerializer(), timeout=None)
        self.limit, self.max_entry, self._clock = limit, max_entry, clock
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._datasets: dict[str, OrderedDict[str, None]] = {}
        self.bytes = self.hits = self.misses = self.evictions = 0

    def __len__(self) -> int:
        return len(self._entries)

    def look(self, key: str) -> Held | None:
        """The answer under a key, counted as a lookup and as a use of it."""
        entry = self._entries.get(key)
        if entry is None or entry[1] <= self._clock.monotonic():
            self.misses += 1
            if entry is not None:
                self._drop(key)
            return None
        self.hits += 1
        held = entry[0]
        self._entries.move_to_end(key)
        self._datasets[held.reach.dataset].move_to_end(key)
        return held

    def peek(self, key: str) -> Held | None:
        """The answer under a key, as a use of it, not counted."""
        hits, misses = self.hits, self.misses
        held = self.look(key)
        self.hits, self.misses = hits, misses
        return held

    def put(self, held: Held, lifetime: float) -> bool:
        """Holds an answer for so many seconds, unless it is older than what is held; whether it is held now."""
        size = weight(held)
        if size > self.limit or len(held.table.encoded) > self.max_entry or lifetime <= 0:
            return False
        key, now = held.key, self._clock.monotonic()
        old = self._entries.get(key)
        if old is not None:
            if old.held.as_of > held.as_of and old.until > now:
                return False
            self._drop(key)
        self._entries[key] = Entry(held, now + lifetime, size)
        self._datasets.setdefault(held.reach.dataset, OrderedDict())[key] = None
        self.bytes += size
        while self.bytes > self.limit:
            self._drop(next(iter(self._entries)))
            self.evictions += 1
        return True

    def about(self, dataset: str) -> list[Held]:
        """Answers about a dataset, latest used first; looking at them is no use of them."""
        now = self._clock.monotonic()
        recent = islice(reversed(self._datasets.get(dataset, {})), RECENT)
        found = (self._entries[key] for key in recent)
        return [entry.held for entry in found if entry.until > now]

    def keys(self, dataset: str = "") -> list[str]:
        """Keys of all answers, or of those about a dataset."""
        return list(self._datasets.get(dataset, ()) if dataset else self._entries)

    def drop(self, key: str, selection: Selection) -> bool:
        """Removes the answer under a key if it is among the selected; whether it was there."""
        entry = self._entries.get(key)
        if entry is None or not selection.takes(entry.held):
            return False
        self._drop(key)
        return True

    def _drop(self, key: str) -> None:
        entry = self._entries.pop(key)
        self.bytes -= entry.size
        dataset = entry.held.reach.dataset
        keys = self._datasets[dataset]
        del keys[key]
        if not keys:
            del self._datasets[dataset]

    async def _get(
        self,
        key: str,
        encoding: str | None = None,  # noqa: ARG002 - aiocache's signature
        _conn: object = None,
    ) -> Held | None:
        return self.look(key)

    async def _multi_get(
        self,
        keys: list[str],
        encoding: str | None = None,  # noqa: ARG002 - aiocache's signature
        _conn: object = None,
    ) -> list[Held | None]:
        return [self.look(key) for key in keys]

    async def _set(
        self,
        key: str,  # noqa: ARG002 - an answer knows its own
        value: Held,
        ttl: float | None = None,
        _cas_token: object = None,
        _conn: object = None,
    ) -> bool:
        return self.put(value, inf if ttl is None else ttl)

    async def _delete(self, key: str, _conn: object = None) -> int:
        return int(self.drop(key, Selection()))

    async def _exists(self, key: str, _conn: object = None) -> bool:
        return key in self._entries

    async def _clear(
        self,
        namespace: str | None = None,  # noqa: ARG002 - aiocache's signature
        _conn: object = None,
    ) -> bool:
        self._entries.clear()
        self._datasets.clear()
        self.bytes = 0
        return True


def weight(held: Held) -> int:
    """The bytes that an answer takes in memory, rather more than fewer."""
    status, table, reach, content = held.status, held.table, held.reach, held.content
    return ENTRY + sum(map(len, _texts(held))) + getsizeof(table.encoded) + (
        COLUMN * len(table.columns)
        + PART * len(status.parts)
        + STEP * (len(status.missing_intervals) + len(status.sealed_intervals) + len(status.ladder))
        + BOUND * len(status.bounds)
        + SPAN * (len(reach.spans) + len(reach.rollups))
        + (0 if content is None else CONTENT + CONJUNCT * len(content.filter))
    )  # fmt: skip


def _texts(held: Held) -> Iterator[str]:
    yield held.key
    yield held.moment
    yield held.reach.dataset
    yield from held.reach.rollups
    yield from held.reach.spans
    for column in held.table.columns:
        yield column.name
    for part in held.status.parts:
        yield part.source_name
        yield part.source_version
