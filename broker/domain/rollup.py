"""Rollups as values: what is stored ahead of the questions, what of it a snapshot may use, and which rules decide.

A rollup holds partial states of measures by its dimensions and by buckets of one time dimension. Instants are integers,
microseconds since 1970 in UTC; an interval is a :class:`Span`. Coverage is a set of segments with versions and of dirty
spans, never one watermark: late data makes holes in the middle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from broker.domain.query import Filter, Grain

LAYOUT = 1
"""Number of the layout in which states are stored; what is stored in another one is built again."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FAR_PAST, FAR_FUTURE = -(2**62), 2**62
"""Ends of time: a span that reaches one of them has no bound on that side."""


def micros(instant: datetime) -> int:
    """An instant in microseconds."""
    return (instant - EPOCH) // timedelta(microseconds=1)


def instant(at: int) -> datetime | None:
    """The instant at so many microseconds; None at an end of time."""
    return None if at in (FAR_PAST, FAR_FUTURE) else EPOCH + timedelta(microseconds=at)


class Span(NamedTuple):
    """A half-open interval ``[lo, hi)`` in microseconds."""

    lo: int
    hi: int


ALWAYS = Span(FAR_PAST, FAR_FUTURE)


class Storage(StrEnum):
    """How a rollup is stored."""

    SEGMENTS = "segments"
    """Immutable Arrow files, kept in the database and mirrored to local files."""
    TABLE = "table"
    """An ordinary indexed table, kept by the broker."""
    EXTERNAL = "external"
    """A table or view that somebody else keeps."""


class Tracking(StrEnum):
    """How changes of the source are noticed."""

    TRIGGERS = "triggers"
    """Writers mark what they change in their own transaction: answers are exact at their snapshot."""
    APPEND_ONLY = "append_only"
    """Rows are only added, none later than ``lateness`` after its own time."""
    CHANGE_TOKEN = "change_token"  # noqa: S105 - no password
    """An SQL value changes whenever the source does; what changed is not known."""
    NONE = "none"
    """Nothing is known; only for external rollups."""


@dataclass(frozen=True, slots=True)
class Rollup:
    """A declared rollup of a dataset.

    ``dimensions`` and ``measures`` name members of the dataset; measures own states, no ratio is among them. ``grains``
    has the base first, then coarser ones whose states are kept merged ahead. A base of an hour or less is anchored in
    UTC; calendar grains, and partitions, follow ``zone``. ``filter`` restricts the rows, a conjunction over dimensions.
    ``start`` is the first instant to build, None for the first row; ``retention``, ``refresh_every`` and ``lateness``
    are in seconds. An external rollup names its ``relation`` and, in ``columns``, the column of the time dimension, of
    each dimension and of each state (``sales.s``); ``token`` is the SQL of a change token.
    """

    name: str
    dataset: str
    time: str
    dimensions: tuple[str, ...]
    measures: tuple[str, ...]
    grains: tuple[Grain, ...] = (Grain.FIFTEEN_MINUTES, Grain.DAY, Grain.MONTH)
    zone: str = "UTC"
    partition: Grain = Grain.MONTH
    filter: Filter | None = None
    storage: Storage = Storage.SEGMENTS
    tracking: Tracking = Tracking.TRIGGERS
    start: datetime | None = None
    retention: float | None = None
    refresh_every: float = 60.0
    lateness: float = 0.0
    token: str = ""
    relation: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)

    @property
    def base(self) -> Grain:
        """The finest grain."""
        return self.grains[0]


class Rule(StrEnum):
    """Why a rollup was passed over. One code for each rule that can fail; `docs/rollups.md` explains them."""

    DEF = "DEF"
    """The dataset's definition, or the source's tables, columns or triggers, are not those that it was built for."""
    JOIN = "JOIN"
    """A measure is multiplied by a one-to-many join."""
    KEYS = "KEYS"
    """A dimension that the query groups or filters by is not stored."""
    FILT = "FILT"
    """The query's filter does not imply that of the rollup, or cannot be evaluated on stored values."""
    SEC = "SEC"
    """A row policy is not expressible over the stored dimensions."""
    TIME = "TIME"
    """The query's time dimension is another one."""
    GRAIN = "GRAIN"
    """A bucket of the query begins inside a bucket of the rollup."""
    TZ = "TZ"
    """The same, since the zone's offset is no multiple of the rollup's buckets."""
    EDGE = "EDGE"
    """Only edges of the range would be left to the rollup."""
    ALG = "ALG"
    """A measure is not stored, or does not merge."""
    NULL = "NULL"
    """Rows whose time is null would be missed."""
    COVER = "COVER"
    """Nothing that is asked for is built."""
    LOG = "LOG"
    """Everything that is built has changed since."""
    SEAL = "SEAL"
    """Raw rows that the edges need no longer exist."""
    XSTORE = "XSTORE"
    """The rollup and the source share no snapshot, and one was asked for."""
    NOTRIG = "NOTRIG"
    """Changes are not tracked well enough for the consistency that was asked for."""
    STALE = "STALE"
    """Its data is older than the caller allows."""
    QUARANTINE = "QUARANTINE"
    """A comparison with the source failed."""
    COST = "COST"
    """Another source is predicted to be cheaper."""


@dataclass(frozen=True, slots=True)
class SegmentFile:
    """One grain of a segment as an Arrow file: ``sha256`` of its bytes in hexadecimal digits."""

    grain: Grain
    row_count: int
    byte_count: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Segment:
    """One version of one partition, as of the instant ``as_of``. A ``sealed`` one can never be built again."""

    id: int
    span: Span
    version: int
    as_of: datetime
    row_count: int
    byte_count: int
    sealed: bool = False
    files: tuple[SegmentFile, ...] = ()


@dataclass(frozen=True, slots=True)
class Coverage:
    """What of a rollup one snapshot may use: ``segments`` without the ``dirty`` spans; both ascending and disjoint.

    ``unusable`` says why nothing may be used at all: then there are no segments. ``lateness`` is None where the answer
    is exact at the snapshot, else the seconds within which late rows may be missing (infinite where nothing is
    promised). ``token`` is the source's change token in this snapshot, where it has one; a build keeps it. The tables
    may no longer have the rows of the ``sealed`` spans, ascending and disjoint, whether or not anything may be used.
    """

    rollup: str
    segments: tuple[Segment, ...] = ()
    dirty: tuple[Span, ...] = ()
    unusable: Rule | None = None
    message: str = ""
    lateness: float | None = None
    token: str = ""
    sealed: tuple[Span, ...] = ()


def covers(coverage: Coverage, spans: Sequence[Span]) -> bool:
    """Whether segments hold the spans, without a gap and without anything dirty, and nothing late can be missing."""
    if coverage.unusable is not None or coverage.lateness is not None:
        return False
    for lo, hi in spans:
        if coverage.dirty and any(dirty.lo < hi and dirty.hi > lo for dirty in coverage.dirty):
            return False
        reached = lo
        for segment in coverage.segments:
            first, end = segment.span
            if first <= reached < end:
                reached = end
            elif first > reached:
                break
        if reached < hi:
            return False
    return True


@dataclass(frozen=True, slots=True)
class Piece:
    """Disjoint intervals that one source answers; ``rollup`` is empty for the source's own tables."""

    rollup: str
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Rejection:
    """A rollup that was passed over, and every rule that failed; ``detail`` names what they are about, for people."""

    rollup: str
    rules: tuple[Rule, ...]
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Cover:
    """How a scan is answered: pieces that are disjoint and together cover what it asks for. ``cost`` is in seconds.

    Without pieces nothing answers it, and ``rejected`` says why: reasons may be found only when they are looked at.
    """

    pieces: tuple[Piece, ...]
    cost: float
    rejected: Sequence[Rejection] = ()

    @property
    def rollups(self) -> tuple[Piece, ...]:
        """The pieces that rollups answer."""
        return tuple(piece for piece in self.pieces if piece.rollup)

    @property
    def live(self) -> tuple[Span, ...]:
        """What is read from the source's own tables."""
        return tuple(span for piece in self.pieces if not piece.rollup for span in piece.spans)
