"""Segments without a database: a store that counts, waits and fails where a test says so."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from datetime import UTC, datetime, timedelta
from random import Random

from broker.domain.query import Grain
from broker.domain.rollup import Rollup, Segment, SegmentFile, Span
from broker.ports.rollups import PartitionStatus, RollupStatus

START = datetime(2030, 1, 1, tzinfo=UTC)
DAY = 86_400_000_000
BY_CARRIER = Rollup("by_carrier", "flights", "time_hour", ("carrier",), ("flights",))


class HandClock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def now(self) -> datetime:
        return START + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds


class FakeSegments:
    """The store of a few segments. ``closed`` fetches wait until :meth:`open`; ``arrived`` counts who has begun."""

    def __init__(self, seed: int = 1) -> None:
        self._rng = Random(seed)
        self.data: dict[tuple[int, Grain], bytes] = {}
        self.fetched: Counter[int] = Counter()
        self.order: list[int] = []
        self.failing: dict[int, Exception] = {}
        self.wrong: Counter[int] = Counter()
        self._open = asyncio.Event()
        self._open.set()
        self._arrived = asyncio.Semaphore(0)

    def segment(
        self, number: int, *, day: int | None = None, version: int = 1, size: int = 1000, files: int = 2
    ) -> Segment:
        """A segment of a day with so many files of so many bytes each."""
        made: list[SegmentFile] = []
        for grain in (Grain.FIFTEEN_MINUTES, Grain.DAY, Grain.MONTH)[:files]:
            data = self._rng.randbytes(size)
            self.data[number, grain] = data
            made.append(SegmentFile(grain, 10, size, hashlib.sha256(data).hexdigest()))
        lo = (number if day is None else day) * DAY
        as_of = START + timedelta(seconds=number)
        return Segment(number, Span(lo, lo + DAY), version, as_of, 10, size * files, files=tuple(made))

    def close(self) -> None:
        """Lets fetches wait."""
        self._open.clear()

    def open(self) -> None:
        """Lets them go on."""
        self._open.set()

    async def arrived(self, count: int = 1) -> None:
        """Waits until so many more fetches have begun."""
        for _ in range(count):
            await self._arrived.acquire()

    async def fetch(self, segment: Segment, file: SegmentFile) -> bytes:
        """The bytes of a file, or what the test has asked for instead."""
        self.fetched[segment.id] += 1
        self.order.append(segment.id)
        self._arrived.release()
        await self._open.wait()
        if (error := self.failing.get(segment.id)) is not None:
            raise error
        data = self.data[segment.id, file.grain]
        if self.wrong[segment.id] > 0:
            self.wrong[segment.id] -= 1
            return bytes([data[0] ^ 1]) + data[1:]
        return data


def status_of(*segments: Segment, rollup: Rollup = BY_CARRIER) -> RollupStatus:
    """The state of a rollup that has just these segments."""
    parts = tuple(PartitionStatus(segment.span, segment) for segment in segments)
    return RollupStatus(rollup, "ready", "", parts)
