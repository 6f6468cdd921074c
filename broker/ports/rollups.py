"""Where rollups are kept, and how refreshers and answers see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from broker.domain.deadline import Deadline
from broker.domain.model import Dataset
from broker.domain.plan import LocalFile
from broker.domain.rollup import Rollup, Segment, SegmentFile, Span
from broker.domain.segment import Comparison


class LeaseLostError(Exception):
    """Another refresher holds the partition, or marks that the build needs are gone: start again."""


@dataclass(frozen=True, slots=True)
class BuildLease:
    """The right to write one partition of a rollup.

    Every write names its ``fence``, and fails unless it is the last.
    """

    rollup: str
    dataset: str
    span: Span
    holder: str
    fence: int


@dataclass(frozen=True, slots=True)
class Built:
    """A partition as it was at a snapshot: ``snapshot`` is PostgreSQL's text of it, ``files`` pairs with ``data``.

    A table-stored rollup has no files: ``replaced`` are the spans whose rows ``rows`` replace, in CSV as COPY reads it.
    The other rows of the partition stay, so they have to be those of the version ``base``, its id, still; None when all
    are replaced. ``token`` is the source's change token in the snapshot, where it has one.
    """

    snapshot: str
    as_of: datetime
    row_count: int
    files: tuple[SegmentFile, ...] = ()
    data: tuple[bytes, ...] = ()
    replaced: tuple[Span, ...] = ()
    rows: tuple[bytes, ...] = ()
    base: int | None = None
    token: str = ""
    sealed: bool = False


@dataclass(frozen=True, slots=True)
class PartitionStatus:
    """A partition that exists or should: ``segment`` is None where nothing is built."""

    span: Span
    segment: Segment | None
    dirty: tuple[Span, ...] = ()


@dataclass(frozen=True, slots=True)
class RollupStatus:
    """All that is known of a rollup. ``state`` is one of the contract's states in lower case, ``message`` says why."""

    rollup: Rollup
    state: str
    message: str
    partitions: tuple[PartitionStatus, ...]
    definition: str = ""
    verify_time: datetime | None = None


class RollupStore(Protocol):
    """The rollups of one database. Every method raises BrokerError (STORE_UNAVAILABLE, STORE_REJECTED, ...)."""

    def ddl(self, dataset: Dataset) -> tuple[str, ...]:
        """What :meth:`install` would run for tables whose partitions are not known yet, for people to read."""
        ...

    async def install(self, dataset: Dataset, *, dry_run: bool = False) -> tuple[str, ...]:
        """Makes marks be written for every table that the dataset's rollups read, and accepts the catalog as it is.

        Safe to run again: what is there stays, what changed is marked as dirty. Returns the statements, run or not.
        """
        ...

    async def drop(self, dataset: Dataset, rollup: Rollup, *, keep_triggers: bool = False) -> None:
        """Deletes the rollup's data, and the triggers when no other rollup needs them."""
        ...

    async def status(self, dataset: Dataset, rollup: Rollup) -> RollupStatus:
        """State and partitions, those that should exist but are not built included."""
        ...

    async def lease(self, rollup: Rollup, span: Span, holder: str, seconds: float) -> BuildLease | None:
        """The right to write a partition; None while another refresher has it."""
        ...

    async def renew(self, lease: BuildLease, seconds: float) -> None:
        """Keeps the lease. Raises LeaseLostError."""
        ...

    async def release(self, lease: BuildLease) -> None:
        """Gives the lease back, if it is still held."""
        ...

    async def publish(self, lease: BuildLease, rollup: Rollup, built: Built) -> Segment:
        """Makes the build the partition's current version, in one transaction. Raises LeaseLostError."""
        ...

    async def seal(self, rollup: Rollup, span: Span) -> tuple[Span, ...]:
        """Keeps the segments within the span as they are, for ever, before their rows are deleted; returns theirs.

        A segment that misses changes is not sealed. Marks concern a sealed one no more.
        """
        ...

    async def fetch(self, segment: Segment, file: SegmentFile) -> bytes:
        """The bytes of a file, not yet verified. Raises LookupError when the version is gone."""
        ...

    async def quarantine(self, rollup: Rollup, reason: str) -> None:
        """Lets the rollup answer no more; an empty reason lets it answer again."""
        ...

    async def verified(self, rollup: Rollup) -> None:
        """Notes that the rollup was compared with its source and agreed."""
        ...

    async def sweep(self, dataset: Dataset, keep: float) -> None:
        """Deletes marks that nobody needs, and versions that were replaced more than ``keep`` seconds ago."""
        ...


class SegmentMirror(Protocol):
    """Local copies of segment files, verified, bounded in bytes."""

    def local(self, rollup: Rollup, segment: Segment) -> tuple[LocalFile, ...] | None:
        """The files, if all are here; they stay until the next turn of the event loop at least."""
        ...

    async def ensure(self, rollup: Rollup, segments: Sequence[Segment], deadline: Deadline) -> None:
        """Fetches what is missing, each file once however many wait. Raises BrokerError, or LookupError when gone."""
        ...

    def want(self, rollup: Rollup, segments: Sequence[Segment]) -> None:
        """Fetches what is missing behind the caller's back."""
        ...

    def forget(self, path: str) -> None:
        """A worker could not read the file: it is removed, and fetched again when it is next wanted."""
        ...


@dataclass(frozen=True, slots=True)
class BothWays:
    """One question answered twice in one snapshot: from ``rollups``, which gave the ``spans``, and from the source.

    ``exact`` is false where the rollups promise less than equality, so that a difference says nothing.
    """

    comparison: Comparison
    rollups: tuple[Rollup, ...]
    spans: tuple[Span, ...] = ()
    exact: bool = True


@dataclass(frozen=True, slots=True)
class Examined:
    """A rollup compared with its source in one snapshot: ``buckets`` of the base grain, and ``mismatched`` ones.

    ``mismatches`` are the stretches that differ, ascending; ``example`` shows the first difference. ``exact`` is false
    where the rollup promises less than equality.
    """

    buckets: int = 0
    mismatched: int = 0
    mismatches: tuple[Span, ...] = ()
    example: str = ""
    exact: bool = True
