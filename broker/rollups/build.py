"""Building one partition of a rollup, or the parts of it that have changed, as a fenced function.

A build is a scan like any other, read in one snapshot, which also tells what has changed since the partition was built
last. A worker process makes files of it, and the store makes them the current version in one transaction, if the
lease is still held then. Until that commit nothing of a build can be seen, and whatever ends it leaves the version that
was there before.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Coroutine
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
from broker.domain.segment import SegmentBuild
from broker.policy.rollups.scan import partition_scan, whole_buckets, zone_of
from broker.ports.aggregator import Aggregator
from broker.ports.clock import Clock
from broker.ports.rollups import BuildLease, Built, LeaseLostError, RollupStore
from broker.ports.store import QueryStore, Snapshot
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
        BrokerError: ROLLUP_STATE when the rollup is not installed or the partition sealed, RESULT_TOO_LARGE when it has
            too many rows for one build, and what the database and the workers raise.
    """
    began = tools.clock.monotonic()
    lease = await tools.rollups.lease(rollup, span, tools.new_holder(), tools.lease)
    if lease is None:
        return Refreshed(span, Outcome.BUSY)
    build = _Build(tools, dataset, rollup, lease, deadline, told)
    outcome, rows = "failed", 0
    try:
        made = await _while_kept(tools, lease, build.run(whole=whole))
        outcome = made.outcome.value
        if made.segment is not None and made.outcome is not Outcome.UNCHANGED:
            rows = made.segment.row_count
        return made
    finally:
        seconds = tools.clock.monotonic() - began
        tools.telemetry.rollup_refresh(dataset.name, rollup.name, outcome, seconds, rows)
        with suppress(BrokerError):  # it ends by itself
            await tools.rollups.release(lease)


async def _while_kept(
    tools: BuildTools, lease: BuildLease, build: Coroutine[None, None, Refreshed]
) -> Refreshed:
    """Runs the build for as long as the lease is kept."""
    work, keeping = asyncio.create_task(build), asyncio.create_task(_keep(tools, lease))
    try:
        await asyncio.wait({work, keeping}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise LeaseLostError("the lease could not be renewed in time")
        return work.result()
    except LeaseLostError as error:
        logger.info("the build of %s from %s ended: %s", lease.rollup, instant(lease.span.lo), error)
        return Refreshed(lease.span, Outcome.LOST)
    finally:
        for task in (work, keeping):
            task.cancel()
        await asyncio.gather(work, keeping, return_exceptions=True)


async def _keep(tools: BuildTools, lease: BuildLease) -> None:
    """Renews the lease until it is lost. While the database is away the lease runs on, but not beyond its time."""
    now = tools.clock.monotonic
    end = now() + tools.lease
    while (left := end - now()) > 0:
        await asyncio.sleep(min(left, tools.lease / 3))
        began = now()
        try:
            async with asyncio.timeout(max(0.0, end - began)):
                await tools.rollups.renew(lease, tools.lease)
        except LeaseLostError:
            return
        except (BrokerError, TimeoutError) as error:
            logger.warning("a lease of %s could not be renewed: %s", lease.rollup, error)
        else:
            end = began + tools.lease


@dataclass(frozen=True, slots=True)
class _Read:
    """What was read of a partition, in one snapshot. Nothing was when its current version, ``current``, is up to date.

    ``base`` is the base file into which the rows of ``replaced`` go; without one they are all rows.
    """

    snapshot: str
    as_of: datetime
    token: str = ""
    current: Segment | None = None
    result: ScanResult | None = None
    replaced: tuple[Span, ...] = ()
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

    async def run(self, *, whole: bool) -> Refreshed:
        """From the snapshot to the commit."""
        tools, rollup, span = self._tools, self._rollup, self._span
        self._told(span, Step.READING)
        try:
            async with tools.store.snapshot(tools.pool, self._deadline) as snapshot:
                read = await self._read(snapshot, whole=whole)
        except BrokerError as error:
            raise self._larger(error) from error
        if read.result is None:
            return Refreshed(span, Outcome.UNCHANGED, read.current)
        self._told(span, Step.MERGING)
        assert self._scan.grid is not None, "a partition has a grid"
        build = SegmentBuild(
            span=span,
            grid=self._scan.grid,
            stored=self._scan.dimensions,
            leaves=self._finish.leaves,
            grains=rollup.grains,
            zone=zone_of(self._dataset, rollup, Grain.DAY),
            base=read.base,
            replaced=read.replaced,
            table=rollup.storage is Storage.TABLE,
        )
        made = await tools.aggregator.segment(tools.pool, read.result, build, self._deadline)
        self._told(span, Step.PUBLISHING)
        built = Built(
            snapshot=read.snapshot,
            as_of=read.as_of,
            row_count=made.row_count,
            files=made.files,
            data=made.data,
            replaced=read.replaced,
            rows=made.rows,
            token=read.token,
        )
        segment = await tools.rollups.publish(self._lease, rollup, built)
        return Refreshed(span, Outcome.REFRESHED if read.replaced else Outcome.BUILT, segment)

    async def _read(self, snapshot: Snapshot, *, whole: bool) -> _Read:
        """Decides what to read by what the snapshot knows of the partition, and reads it."""
        (coverage,), text = await snapshot.coverage(self._dataset, [self._rollup], self._span)
        if coverage.unusable is Rule.DEF:
            raise self._unfit(coverage)
        current = next((s for s in coverage.segments if s.span == self._span), None)
        found = _Read(text, snapshot.as_of, coverage.token, current)
        if current is not None and (current.sealed or not (whole or coverage.dirty)):
            return found
        if current is not None and not whole and coverage.unusable is None:
            found = await self._changed(found, current, coverage.dirty)
        scan = replace(self._scan, pieces=found.replaced) if found.replaced else self._scan
        return replace(found, result=await snapshot.read_scan(scan, self._finish))

    async def _changed(self, found: _Read, current: Segment, dirty: tuple[Span, ...]) -> _Read:
        """With the spans to read and the file to put them into, unless it is better to read everything."""
        assert self._scan.grid is not None, "a partition has a grid"
        spans = whole_buckets(dirty, self._scan.grid, self._tools.pieces)
        length = sum(hi - lo for lo, hi in spans)
        if not spans or length > self._tools.whole_share * (self._span.hi - self._span.lo):
            return found
        if self._rollup.storage is Storage.TABLE:
            return replace(found, replaced=spans)
        base = await self._base(current)
        return found if base is None else replace(found, replaced=spans, base=base)

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

    def _unfit(self, coverage: Coverage) -> BrokerError:
        name = f"{self._dataset.name}.{self._rollup.name}"
        text = f"The rollup {name!r} does not fit its source: {coverage.message} Run `broker rollup install`."
        return BrokerError(ErrorReason.ROLLUP_STATE, text, metadata={"rollup": self._rollup.name})

    def _larger(self, error: BrokerError) -> BrokerError:
        """The error, with what to do about a partition that is too large."""
        if error.reason is not ErrorReason.RESULT_TOO_LARGE:
            return error
        text = (
            f"A partition of one {self._rollup.partition} of the rollup {self._rollup.name!r} passes the limit "
            f"{error.metadata.get('limit', '')} = {error.metadata.get('value', '')}. Choose a finer `partition`, "
            "fewer dimensions, or raise the limit."
        )
        return BrokerError(ErrorReason.RESULT_TOO_LARGE, text, metadata=error.metadata)
