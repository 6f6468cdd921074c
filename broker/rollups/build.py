"""Building one partition of a rollup, or the parts of it that have changed, as a fenced function.

A build is a scan like any other, read in one snapshot, which also tells what has changed since the partition was built
last. A worker process makes files of it, and the store makes them the current version in one transaction, if the
lease is still held then. Until that commit nothing of a build can be seen, and whatever ends it leaves the version that
was there before.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from broker.domain.deadline import Deadline
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.model import Dataset
from broker.domain.plan import ScanResult
from broker.domain.pool import PoolName
from broker.domain.query import Grain
from broker.domain.rollup import Coverage, Rollup, Rule, Segment, Span, Storage, instant
from broker.domain.segment import BuiltFiles, SegmentBuild
from broker.policy.rollups.scan import halved, partition_scan, whole_buckets, zone_of
from broker.ports.aggregator import Aggregator
from broker.ports.clock import Clock
from broker.ports.rollups import BuildLease, Built, LeaseLostError, RollupStore
from broker.ports.store import QueryStore, Snapshot
from broker.rollups.keeping import while_kept
from broker.telemetry.instruments import Telemetry

logger = logging.getLogger(__name__)


class Outcome(StrEnum):
    """How the work on a partition ended."""

    BUILT = "built"
    """Read and stored as a whole."""
    REFRESHED = "refreshed"
    """The parts that had changed were read, and stored with the rest."""
    UNCHANGED = "unchanged"
    """There was nothing to do."""
    BUSY = "busy"
    """Another refresher has the partition."""
    LOST = "lost"
    """The lease was lost before the end: whoever has it builds the partition."""


class Step(StrEnum):
    """What is being done."""

    READING = "reading"
    MERGING = "merging"
    PUBLISHING = "publishing"


@dataclass(frozen=True, slots=True)
class Refreshed:
    """A partition after the work on it; ``segment`` is its current version, where that is known."""

    span: Span
    outcome: Outcome
    segment: Segment | None = None


Told = Callable[[Span, Step], None]
"""Is told of every step on a partition; must not wait."""


def untold(_: Span, __: Step) -> None:
    """For those who do not want to know."""


@dataclass(frozen=True, slots=True)
class BuildTools:
    """What builds share. ``new_holder`` makes a name for each build that no other has, anywhere.

    A lease is for ``lease`` seconds and renewed at a third of them. When more than ``whole_share`` of a partition has
    changed it is read as a whole, else in at most ``pieces`` pieces.
    """

    rollups: RollupStore
    store: QueryStore
    aggregator: Aggregator
    clock: Clock
    new_holder: Callable[[], str]
    telemetry: Telemetry
    pool: PoolName = PoolName.JOB
    lease: float = 60.0
    whole_share: float = 0.5
    pieces: int = 64


async def refresh_partition(
    tools: BuildTools,
    dataset: Dataset,
    rollup: Rollup,
    span: Span,
    deadline: Deadline,
    *,
    whole: bool = False,
    told: Told = untold,
) -> Refreshed:
    """Brings a partition up to date; ``whole`` builds it from all of its rows, changed or not.

    When the task is cancelled, everything that it began is stopped before it ends.

    Raises:
        BrokerError: ROLLUP_STATE when the rollup is not installed or the partition sealed, RESULT_TOO_LARGE when
            one bucket has too many rows, and what the database and the workers raise.
    """
    began = tools.clock.monotonic()
    lease = await tools.rollups.lease(rollup, span, tools.new_holder(), tools.lease)
    if lease is None:
        return Refreshed(span, Outcome.BUSY)
    build = _Build(tools, dataset, rollup, lease, deadline, told)
    outcome, rows = "failed", 0
    try:
        made = await while_kept(
            tools.rollups, lease, tools.lease, tools.clock.monotonic, build.run(whole=whole)
        )
        outcome = made.outcome.value
        if made.segment is not None and made.outcome is not Outcome.UNCHANGED:
            rows = made.segment.row_count
        return made
    except LeaseLostError as error:
        logger.info("the build of %s from %s ended: %s", rollup.name, instant(span.lo), error)
        outcome = Outcome.LOST.value
        return Refreshed(span, Outcome.LOST)
    finally:
        seconds = tools.clock.monotonic() - began
        tools.telemetry.rollup_refresh(dataset.name, rollup.name, outcome, seconds, rows)
        with suppress(BrokerError):  # it ends by itself
            await tools.rollups.release(lease)


@dataclass(frozen=True, slots=True)
class _Found:
    """A partition as a snapshot knows it. Nothing is to be read when its version ``current`` is up to date.

    Else the rows of ``pieces`` are, and go into the file ``base``; or all rows, when there are no pieces.
    """

    snapshot: str
    as_of: datetime
    token: str = ""
    current: Segment | None = None
    up_to_date: bool = False
    pieces: tuple[Span, ...] = ()
    base: bytes = b""


class _Build:
    """One build under a lease."""

    def __init__(
        self,
        tools: BuildTools,
        dataset: Dataset,
        rollup: Rollup,
        lease: BuildLease,
        deadline: Deadline,
        told: Told,
    ) -> None:
        self._tools, self._dataset, self._rollup = tools, dataset, rollup
        self._lease, self._span, self._deadline, self._told = lease, lease.span, deadline, told
        self._scan, self._finish = partition_scan(dataset, rollup, lease.span)
        assert self._scan.grid is not None, "a partition has a grid"
        self._grid = self._scan.grid

    async def run(self, *, whole: bool) -> Refreshed:
        """From the snapshot to the commit."""
        tools = self._tools
        self._told(self._span, Step.READING)
        async with tools.store.snapshot(tools.pool, self._deadline) as snapshot:
            found = await self._look(snapshot, whole=whole)
            if found.up_to_date:
                return Refreshed(self._span, Outcome.UNCHANGED, found.current)
            made, last = await self._read(snapshot, found)
        self._told(self._span, Step.MERGING)
        made.append(await self._merged(made, last, found))
        self._told(self._span, Step.PUBLISHING)
        table = self._rollup.storage is Storage.TABLE
        built = Built(
            snapshot=found.snapshot,
            as_of=found.as_of,
            row_count=made[-1].row_count,
            files=made[-1].files,
            data=made[-1].data,
            replaced=found.pieces,
            rows=tuple(rows for one in made for rows in one.rows),
            base=found.current.id if table and found.current is not None and found.pieces else None,
            token=found.token,
        )
        segment = await tools.rollups.publish(self._lease, self._rollup, built)
        return Refreshed(self._span, Outcome.REFRESHED if found.pieces else Outcome.BUILT, segment)

    async def _look(self, snapshot: Snapshot, *, whole: bool) -> _Found:
        """Decides what to read."""
        (coverage,), text = await snapshot.coverage(self._dataset, [self._rollup], self._span)
        if coverage.unusable is Rule.DEF:
            raise self._unfit(coverage)
        current = next((s for s in coverage.segments if s.span == self._span), None)
        found = _Found(text, snapshot.as_of, coverage.token, current)
        if current is None:
            return found
        if current.sealed or not (whole or coverage.dirty):
            return replace(found, up_to_date=True)
        return found if whole else await self._changed(found, current, coverage.dirty)

    async def _changed(self, found: _Found, current: Segment, dirty: tuple[Span, ...]) -> _Found:
        """With the spans to read and the file to put them into, unless it is better to read everything."""
        spans = whole_buckets(dirty, self._grid, self._tools.pieces)
        length = sum(hi - lo for lo, hi in spans)
        if not spans or length > self._tools.whole_share * (self._span.hi - self._span.lo):
            return found
        if self._rollup.storage is Storage.TABLE:
            return replace(found, pieces=spans)
        base = await self._base(current)
        return found if base is None else replace(found, pieces=spans, base=base)

    async def _base(self, current: Segment) -> bytes | None:
        """The base file of the current version; None when it is gone or damaged, and everything has to be read."""
        file = next((f for f in current.files if f.grain is self._rollup.base), None)
        if file is None:
            return None
        try:
            data = await self._tools.rollups.fetch(current, file)
        except LookupError:
            return None
        if hashlib.sha256(data).hexdigest() == file.sha256:
            return data
        logger.error("the file of %s from %s is damaged", self._rollup.name, instant(self._span.lo))
        return None

    async def _read(self, snapshot: Snapshot, found: _Found) -> tuple[list[BuiltFiles], _Part]:
        """What is to be merged last. Where it is too much at once, earlier parts are merged in the snapshot's time."""
        made: list[BuiltFiles] = []
        waiting = [found.pieces or None]
        while True:
            pieces = waiting.pop()
            try:
                result = await snapshot.read_scan(replace(self._scan, pieces=pieces), self._finish)
            except BrokerError as error:
                if error.reason is not ErrorReason.RESULT_TOO_LARGE:
                    raise
                halves = halved(pieces or (self._span,), self._grid)
                if halves is None:
                    raise self._too_large(error) from error
                waiting += reversed(halves)
                continue
            part = _Part(result, pieces or ())
            if not waiting:
                return made, part
            made.append(await self._merged(made, part, found, last=False))

    async def _merged(
        self, made: Sequence[BuiltFiles], part: _Part, found: _Found, *, last: bool = True
    ) -> BuiltFiles:
        """A part, put into what was merged before it."""
        rollup = self._rollup
        build = SegmentBuild(
            span=self._span,
            grid=self._grid,
            stored=self._scan.dimensions,
            leaves=self._finish.leaves,
            grains=rollup.grains if last else rollup.grains[:1],
            zone=zone_of(self._dataset, rollup, Grain.DAY),
            base=made[-1].data[0] if made and made[-1].data else found.base,
            replaced=part.pieces,
            table=rollup.storage is Storage.TABLE,
        )
        return await self._tools.aggregator.segment(self._tools.pool, part.result, build, self._deadline)

    def _unfit(self, coverage: Coverage) -> BrokerError:
        name = f"{self._dataset.name}.{self._rollup.name}"
        text = f"The rollup {name!r} does not fit its source: {coverage.message} Run `broker rollup install`."
        return BrokerError(ErrorReason.ROLLUP_STATE, text, metadata={"rollup": self._rollup.name})

    def _too_large(self, error: BrokerError) -> BrokerError:
        """Not even a single bucket can be read at once."""
        text = (
            f"One {self._rollup.base} of the rollup {self._rollup.name!r} passes the limit "
            f"{error.metadata.get('limit', '')} = {error.metadata.get('value', '')}. Choose a finer base, "
            "fewer dimensions, or raise the limit."
        )
        return BrokerError(ErrorReason.RESULT_TOO_LARGE, text, metadata=error.metadata)


@dataclass(frozen=True, slots=True)
class _Part:
    """Rows that were read, of the pieces or, without any, of the whole partition."""

    result: ScanResult
    pieces: tuple[Span, ...]
