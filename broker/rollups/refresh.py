"""Refreshing a rollup: partition by partition, so that what is done stays done, whatever ends the rest."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime

from broker.domain.deadline import Deadline
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.model import Dataset
from broker.domain.rollup import ALWAYS, Rollup, Span, Storage
from broker.ports.rollups import PartitionStatus, RollupStatus
from broker.rollups.build import BuildTools, Outcome, Refreshed, Step, refresh_partition

ENDS = frozenset(
    {
        ErrorReason.STORE_UNAVAILABLE, ErrorReason.DEADLINE_EXCEEDED, ErrorReason.DRAINING, ErrorReason.ROLLUP_STATE,
        ErrorReason.OVERLOADED, ErrorReason.QUEUE_TIMEOUT, ErrorReason.TENANT_QUOTA,
    }
)  # fmt: skip
"""Errors after which the other partitions need not be tried."""

Seat = Callable[[str], AbstractAsyncContextManager[None]]
"""Waits for a seat for the work of that name, and holds it."""

logger = logging.getLogger(__name__)


@asynccontextmanager
async def no_seat(_: str) -> AsyncIterator[None]:
    """For work that nobody counts."""
    yield


@dataclass(frozen=True, slots=True)
class RefreshProgress:
    """How far a refresh is: ``done`` of ``total`` partitions, ``busy`` of them with other refreshers.

    ``row_count`` and ``byte_count`` are of the versions that were stored; ``span`` is worked on, by the step ``step``.
    """

    total: int
    done: int = 0
    busy: int = 0
    row_count: int = 0
    byte_count: int = 0
    span: Span | None = None
    step: Step | None = None


Report = Callable[[RefreshProgress], None]


def unreported(_: RefreshProgress) -> None:
    """For those who do not want to know."""


@dataclass(frozen=True, slots=True)
class Refreshing:
    """What is to be refreshed: of the partitions that touch ``span``, those that are missing or have changed.

    With ``rebuild`` also those that were built before that instant, which are built as a whole. At most ``limit`` are
    refreshed, and after each there is a pause of ``rest`` times its duration.

    A refresh writes a whole partition, however little has changed. With ``write_rate``, in bytes per second, a large
    one is left for a while after it was built; until then answers read what has changed from the source.
    """

    span: Span = ALWAYS
    rebuild: datetime | None = None
    limit: int | None = None
    rest: float = 0.0
    write_rate: float | None = None


EVERYTHING = Refreshing()


@dataclass(frozen=True, slots=True)
class RefreshResult:
    """What a refresh did. ``left`` counts the partitions that it found to be worked on and left for another time."""

    progress: RefreshProgress
    status: RollupStatus
    left: int = 0


class Refresher:
    """Refreshes rollups, one partition at a time, each in a seat of its own."""

    def __init__(self, tools: BuildTools, seat: Seat = no_seat) -> None:
        self._tools, self._seat = tools, seat

    async def refresh(
        self,
        dataset: Dataset,
        rollup: Rollup,
        deadline: Deadline,
        asked: Refreshing = EVERYTHING,
        report: Report = unreported,
    ) -> RefreshResult:
        """Refreshes what has changed first, then what is missing; of both the newest first.

        An error that concerns one partition is raised after the others have been tried.

        Raises:
            BrokerError: ROLLUP_STATE when the rollup cannot be built now; the first error of a partition.
        """
        if rollup.storage is Storage.EXTERNAL:
            text = f"The rollup {rollup.name!r} is kept by somebody else, and only read here."
            raise BrokerError(ErrorReason.ROLLUP_STATE, text, metadata={"rollup": rollup.name})
        status = await self._tools.rollups.status(dataset, rollup)
        if status.state in ("declared", "mismatched"):
            text = f"The rollup {rollup.name!r} is {status.state}: {status.message}"
            raise BrokerError(ErrorReason.ROLLUP_STATE, text, metadata={"rollup": rollup.name})
        every = due(status.partitions, asked, self._tools.clock.now())
        now = every[: asked.limit]
        progress, failed = RefreshProgress(len(now)), None
        report(progress)
        for partition in now:
            began = self._tools.clock.monotonic()
            try:
                made = await self._one(dataset, rollup, partition, deadline, asked, progress, report)
            except BrokerError as error:
                if error.reason in ENDS:
                    raise
                logger.warning("a partition of %s.%s was not built: %s", dataset.name, rollup.name, error)
                failed = failed or error
                continue
            progress = _after(progress, made)
            report(progress)
            await asyncio.sleep(asked.rest * (self._tools.clock.monotonic() - began))
        if failed is not None:
            raise failed
        return RefreshResult(progress, status, len(every) - len(now) + progress.busy)

    async def _one(
        self,
        dataset: Dataset,
        rollup: Rollup,
        partition: PartitionStatus,
        deadline: Deadline,
        asked: Refreshing,
        progress: RefreshProgress,
        report: Report,
    ) -> Refreshed:
        def told(span: Span, step: Step) -> None:
            report(replace(progress, span=span, step=step))

        whole = _old(partition, asked)
        async with self._seat(f"{dataset.name}.{rollup.name}"):
            return await refresh_partition(
                self._tools, dataset, rollup, partition.span, deadline, whole=whole, told=told
            )


def due(partitions: Sequence[PartitionStatus], asked: Refreshing, now: datetime) -> list[PartitionStatus]:
    """The partitions that need work, in the order in which they get it."""
    found = []
    for partition in partitions:
        segment, span = partition.segment, partition.span
        if span.lo >= asked.span.hi or span.hi <= asked.span.lo or (segment is not None and segment.sealed):
            continue
        changed = bool(partition.dirty) and not _fresh(partition, asked, now)
        if segment is None or changed or _old(partition, asked):
            found.append(partition)
    return sorted(found, key=lambda p: (p.segment is None, -p.span.lo))


def _fresh(partition: PartitionStatus, asked: Refreshing, now: datetime) -> bool:
    segment = partition.segment
    if segment is None or asked.write_rate is None:
        return False
    return segment.byte_count > asked.write_rate * (now - segment.as_of).total_seconds()


def _old(partition: PartitionStatus, asked: Refreshing) -> bool:
    segment = partition.segment
    return segment is not None and asked.rebuild is not None and segment.as_of < asked.rebuild


def _after(progress: RefreshProgress, made: Refreshed) -> RefreshProgress:
    stored = made.segment if made.outcome in (Outcome.BUILT, Outcome.REFRESHED) else None
    busy = made.outcome in (Outcome.BUSY, Outcome.LOST)
    return RefreshProgress(
        total=progress.total,
        done=progress.done + (not busy),
        busy=progress.busy + busy,
        row_count=progress.row_count + (stored.row_count if stored is not None else 0),
        byte_count=progress.byte_count + (stored.byte_count if stored is not None else 0),
    )
