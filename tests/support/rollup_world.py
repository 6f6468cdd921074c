"""A source with one number per day, writers that mark what they change, and rollups of it: all in memory.

Whatever happens, segments where nothing has changed since, and the source elsewhere, must give what the source holds.
Every method gives the loop a turn before and after it takes effect, so a test that cancels after every possible number
of turns has cancelled everywhere.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from broker.domain.deadline import Deadline
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.model import Dataset, Dimension, Measure, MeasureKind
from broker.domain.plan import Finish, Rows, Scan, ScanResult
from broker.domain.pool import PoolName
from broker.domain.query import Grain
from broker.domain.rollup import Coverage, Rollup, Rule, Segment, SegmentFile, Span, Tracking, micros
from broker.domain.segment import BuiltFiles, SegmentBuild
from broker.domain.values import DataType
from broker.policy.rollups.scan import partitions
from broker.ports.clock import Clock
from broker.ports.rollups import BuildLease, Built, LeaseLostError, PartitionStatus, RollupStatus

FIRST = datetime(2024, 1, 1, tzinfo=UTC)
DAYS = 91
DAY = 86_400_000_000
ROLLUP = Rollup("days", "visits", "at", (), ("visits",), (Grain.DAY,), tracking=Tracking.TRIGGERS)
DATASET = Dataset(
    "visits",
    "visits",
    {"at": Dimension("at", "visits.at", DataType.TIMESTAMP, ("visits",), time=True)},
    {"visits": Measure("visits", MeasureKind.COUNT)},
    default_time="at",
    rollups={"days": ROLLUP},
)
SPANS = partitions(DATASET, ROLLUP, Span(micros(FIRST), micros(FIRST + timedelta(days=DAYS))))
JANUARY, FEBRUARY, MARCH = SPANS


@dataclass(slots=True)
class Version:
    """A version of a partition and what is in its file."""

    segment: Segment
    snapshot: int
    data: bytes


@dataclass(slots=True)
class _Lease:
    fence: int = 0
    holder: str = ""
    end: float = 0.0


@dataclass(slots=True)
class World:
    """The database: it is the source, the store of rollups and, in part, the aggregator.

    ``failing`` raises in the method of that name, once for each entry. ``calls`` counts what was begun.
    """

    clock: Clock
    rows: dict[int, int] = field(default_factory=dict)
    marks: list[tuple[int, int]] = field(default_factory=list)
    transactions: int = 0
    versions: dict[Span, Version] = field(default_factory=dict)
    retired: dict[int, bytes] = field(default_factory=dict)
    leases: dict[Span, _Lease] = field(default_factory=dict)
    failing: dict[str, list[Exception]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    read: list[tuple[Span, ...] | None] = field(default_factory=list)
    unusable: Rule | None = None
    state: str = "active"
    swept: int = 0
    most: int | None = None

    def write(self, day: int, value: int = 1) -> None:
        """A transaction that changes a day, counted from the first."""
        at = micros(FIRST) + day * DAY
        self.transactions += 1
        self.rows[at] = self.rows.get(at, 0) + value
        self.marks.append((at, self.transactions))

    def dirty(self, span: Span, snapshot: int, seen: int | None = None) -> tuple[Span, ...]:
        """What has changed between two snapshots; the second one is now."""
        end = self.transactions if seen is None else seen
        days = {at for at, number in self.marks if snapshot < number <= end and span.lo <= at < span.hi}
        return tuple(Span(at, at + DAY) for at in sorted(days))

    def answer(self) -> dict[int, int]:
        """What an answer from rollups and the source holds."""
        found = dict(self.rows)
        for span, version in self.versions.items():
            stored = {int(at): value for at, value in json.loads(version.data).items()}
            changed = {dirty.lo for dirty in self.dirty(span, version.snapshot)}
            for at in [at for at in found if span.lo <= at < span.hi and at not in changed]:
                del found[at]
            found |= {at: value for at, value in stored.items() if at not in changed}
        return found

    async def _turn(self, name: str) -> None:
        self.calls.append(name)
        await asyncio.sleep(0)
        if failures := self.failing.get(name):
            raise failures.pop(0)

    # The store of rollups.

    def ddl(self, _: Dataset) -> tuple[str, ...]:
        return ()

    async def install(self, _: Dataset, *, dry_run: bool = False) -> tuple[str, ...]:
        return (str(dry_run),)

    async def drop(self, _: Dataset, __: Rollup, *, keep_triggers: bool = False) -> None:
        assert not keep_triggers
        self.versions.clear()

    async def quarantine(self, _: Rollup, reason: str) -> None:
        self.state = reason

    async def verified(self, _: Rollup) -> None:
        await self._turn("verified")

    async def seal(self, _: Rollup, span: Span) -> tuple[Span, ...]:
        self.versions[span].segment = replace(self.versions[span].segment, sealed=True)
        return (span,)

    async def sweep(self, _: Dataset, __: float) -> None:
        await self._turn("sweep")
        self.swept += 1

    async def status(self, _: Dataset, rollup: Rollup) -> RollupStatus:
        await self._turn("status")
        found = []
        for span in SPANS:
            version = self.versions.get(span)
            dirty = () if version is None else self.dirty(span, version.snapshot)
            found.append(PartitionStatus(span, None if version is None else version.segment, dirty))
        return RollupStatus(rollup, self.state, "", tuple(found))

    async def lease(self, rollup: Rollup, span: Span, holder: str, seconds: float) -> BuildLease | None:
        await self._turn("lease")
        lease = self.leases.setdefault(span, _Lease())
        if lease.end > self.clock.monotonic():
            return None
        lease.fence, lease.holder, lease.end = lease.fence + 1, holder, self.clock.monotonic() + seconds
        await asyncio.sleep(0)
        return BuildLease(rollup.name, rollup.dataset, span, holder, lease.fence)

    def _held(self, lease: BuildLease) -> _Lease | None:
        known = self.leases[lease.span]
        current = known.fence == lease.fence and known.holder == lease.holder
        return known if current and known.end > self.clock.monotonic() else None

    async def renew(self, lease: BuildLease, seconds: float) -> None:
        await self._turn("renew")
        known = self._held(lease)
        if known is None:
            raise LeaseLostError("not held")
        known.end = self.clock.monotonic() + seconds

    async def release(self, lease: BuildLease) -> None:
        await self._turn("release")
        if (known := self._held(lease)) is not None:
            known.end = 0.0

    async def publish(self, lease: BuildLease, _: Rollup, built: Built) -> Segment:
        await self._turn("publish")
        if self._held(lease) is None:
            raise LeaseLostError("not held")
        old = self.versions.get(lease.span)
        assert old is None or not old.segment.sealed
        if old is not None:
            self.retired[old.segment.id] = old.data
        number = len(self.calls)
        segment = Segment(
            number, lease.span, lease.fence, built.as_of, built.row_count, 10, files=built.files
        )
        self.versions[lease.span] = Version(segment, int(built.snapshot), built.data[0])
        await asyncio.sleep(0)
        return segment

    async def fetch(self, segment: Segment, _: SegmentFile) -> bytes:
        await self._turn("fetch")
        current = self.versions[segment.span]
        if current.segment.id == segment.id:
            return current.data
        if segment.id not in self.retired:
            raise LookupError
        return self.retired[segment.id]

    # The database.

    @asynccontextmanager
    async def snapshot(self, _: PoolName, __: Deadline) -> AsyncIterator[Seen]:
        await self._turn("snapshot")
        yield Seen(self, self.transactions, dict(self.rows), dict(self.versions), self.clock.now())
        await asyncio.sleep(0)

    # The aggregator.

    async def segment(self, _: PoolName, result: ScanResult, build: SegmentBuild, __: Deadline) -> BuiltFiles:
        await self._turn("segment")
        (block,) = result.grouped
        assert isinstance(block, Rows)
        starts = [micros(start) for start in build.grid.starts]
        stored = {int(at): value for at, value in json.loads(build.base or b"{}").items()}
        for span in build.replaced:
            stored = {at: value for at, value in stored.items() if not span.lo <= at < span.hi}
        for bucket, value in block.rows:
            assert isinstance(bucket, int)
            stored[starts[bucket]] = value
        data = json.dumps(stored).encode()
        file = SegmentFile(Grain.DAY, len(stored), len(data), hashlib.sha256(data).hexdigest())
        await asyncio.sleep(0)
        return BuiltFiles(len(stored), (file,), (data,))


@dataclass(slots=True)
class Seen:
    """A snapshot of the world."""

    world: World
    number: int
    rows: dict[int, int]
    versions: dict[Span, Version]
    as_of: datetime
    replica_lag: float | None = None

    async def coverage(
        self, _: Dataset, rollups: Sequence[Rollup], span: Span
    ) -> tuple[tuple[Coverage, ...], str]:
        await self.world._turn("coverage")
        version = self.versions.get(span)
        segments: tuple[Segment, ...] = ()
        dirty: tuple[Span, ...] = ()
        if version is not None:
            segments, dirty = (version.segment,), self.world.dirty(span, version.snapshot, self.number)
        found = Coverage(rollups[0].name, segments, dirty, self.world.unusable, "Something was changed.")
        return (found,), str(self.number)

    async def read_scan(self, scan: Scan, _: Finish) -> ScanResult:
        await self.world._turn("read_scan")
        assert scan.grid is not None
        self.world.read.append(scan.pieces)
        starts = [micros(start) for start in scan.grid.starts]
        pieces = scan.pieces or (Span(starts[0], micros(scan.grid.end)),)
        rows = tuple(
            (i, self.rows[at])
            for i, at in enumerate(starts)
            if at in self.rows and any(lo <= at < hi for lo, hi in pieces)
        )
        if self.world.most is not None and len(rows) > self.world.most:
            text = "too many"
            raise BrokerError(ErrorReason.RESULT_TOO_LARGE, text, metadata={"limit": "rows", "value": "1"})
        await asyncio.sleep(0)
        return ScanResult((Rows((), rows),))
