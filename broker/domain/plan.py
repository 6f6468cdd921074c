"""What has to be read and computed for a query, independent of where it is read.

A *scan* asks a source for partial states by group key. A *finish* turns the states into the answer's columns. The live
database and every rollup answer the same scan, so a finish never knows where its states came from.

Frames of states have these columns: ``bucket`` (position in the scan's grid, when there is one), ``k0, k1, …`` (the
dimensions, in order), then ``{measure}.{state}`` for every leaf measure, in order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from broker.domain.measures import State
from broker.domain.model import Dataset, Dimension, Measure, RowPolicy
from broker.domain.principal import Principal
from broker.domain.query import AbsoluteRange, Calculations, Filter, Grain, OrderKey, Query
from broker.domain.rollup import ALWAYS, Span, micros
from broker.domain.timegrid import TimeGrid
from broker.domain.values import Column, ResultFormat

BUCKET = "bucket"


def key_name(position: int) -> str:
    """Column that holds the dimension at ``position``."""
    return f"k{position}"


def state_name(measure: str, state: str) -> str:
    """Column that holds a state of a measure."""
    return f"{measure}.{state}"


@dataclass(frozen=True, slots=True)
class Scan:
    """One pass over a dataset: partial states of ``leaves`` by bucket and dimension.

    ``bounds`` restricts the time dimension half-open; ``grid`` groups by it. ``policies`` are the row policies that
    apply to ``principal``. With ``pieces`` only these parts of the bounds are read, ascending and disjoint; one that
    reaches an end of time includes rows whose time is null, as a scan without bounds does.
    """

    dataset: Dataset
    dimensions: tuple[Dimension, ...]
    leaves: tuple[Measure, ...]
    time: Dimension | None = None
    bounds: AbsoluteRange | None = None
    grid: TimeGrid | None = None
    filter: Filter | None = None
    policies: tuple[RowPolicy, ...] = ()
    principal: Principal = field(default_factory=lambda: Principal("", ""))
    pieces: tuple[Span, ...] | None = None

    @property
    def span(self) -> Span:
        """What is read of the time dimension."""
        bounds = self.bounds
        return ALWAYS if bounds is None else Span(micros(bounds.start), micros(bounds.end))


@dataclass(frozen=True, slots=True)
class Leaf:
    """What a kernel needs to know of a measure that owns states; ``states`` in frame order."""

    measure: Measure
    states: tuple[State, ...]


@dataclass(frozen=True, slots=True)
class Output:
    """A measure column of the answer: ``ratio`` holds the two leaf names when the measure is a ratio."""

    column: Column
    ratio: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Finish:
    """How states become the answer.

    Steps, in order: top N, finish, gap fill, comparison, shares, rolling windows, having, order, limit. ``grid`` is the
    grid of the main scan; with rolling windows it begins ``lead`` buckets before the range, which are dropped after
    rolling. ``comparison`` is the grid of the comparison scan, and ``shift[i]`` the position in it that bucket ``i`` of
    the grid is compared with (-1: none). ``columns`` are the answer's columns in order. When ``pushed_down`` the source
    has already applied having, order and limit, and rows are finished one by one.
    """

    columns: tuple[Column, ...]
    keys: tuple[Column, ...]
    leaves: tuple[Leaf, ...]
    outputs: tuple[Output, ...]
    grid: TimeGrid | None = None
    lead: int = 0
    gap_fill: bool = False
    comparison: TimeGrid | None = None
    shift: tuple[int, ...] = ()
    calculations: Calculations = field(default_factory=Calculations)
    having: Filter | None = None
    order: tuple[OrderKey, ...] = ()
    limit: int = 0
    pushed_down: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """A resolved query: what to scan, how to finish, and what identifies the answer.

    ``fingerprint`` is equal for queries with equal answers at one snapshot, whoever asks with the same row policies.
    The bounds of a ``snapped`` plan are not those that were asked for. Plans of one ``shape`` are of one principal, and
    differ in nothing but bounds with their grid and values of the filter; None where nothing is known of others.
    """

    query: Query
    main: Scan
    comparison: Scan | None
    finish: Finish
    fingerprint: str
    snapped: bool = False
    shape: tuple[object, ...] | None = field(default=None, compare=False, repr=False)

    @property
    def columns(self) -> tuple[Column, ...]:
        """Columns of the answer."""
        return self.finish.columns

    @property
    def scans(self) -> tuple[Scan, ...]:
        """The scans, main first."""
        return (self.main,) if self.comparison is None else (self.main, self.comparison)


@dataclass(frozen=True, slots=True)
class Rows:
    """A small result that was decoded on the loop: at most a few thousand rows as tuples, in column order.

    Values are None or, by type: INT64 int, DOUBLE float, DECIMAL Decimal, BOOL bool, STRING str, TIMESTAMP int
    (microseconds since 1970 in UTC), DATE int (days since 1970): what a :class:`CsvBlock` of the statement would hold.
    """

    columns: tuple[Column, ...]
    rows: tuple[tuple[object, ...], ...]

    @property
    def values(self) -> Sequence[Sequence[object]]:
        """The values by column."""
        return list(zip(*self.rows, strict=True)) or [()] * len(self.columns)

    @property
    def count(self) -> int:
        """How many rows there are; without columns they say that there is the one group of all rows."""
        return len(self.rows)


@dataclass(frozen=True, slots=True)
class Columns:
    """The same of a result that came by column; it has one at least. ``values`` are like those of :class:`Rows`."""

    columns: tuple[Column, ...]
    values: Sequence[Sequence[object]]

    @property
    def count(self) -> int:
        """How many rows there are."""
        return len(self.values[0])


@dataclass(frozen=True, slots=True)
class CsvBlock:
    r"""Whole rows as PostgreSQL writes them with ``COPY ... TO STDOUT (FORMAT csv)``, to be parsed in a worker process.

    COPY's own defaults: UTF-8, no header, comma, rows end with a line feed, null is nothing at all and an empty string
    is ``""``. (A marker such as ``\N`` would not do: the reader cannot tell it from the same text in quotes.) By type:
    INT64 and DECIMAL plain digits, a decimal with at most the column's scale; DOUBLE as PostgreSQL writes it, with
    ``NaN`` and ``Infinity``; BOOL ``t`` or ``f``; TIMESTAMP integer microseconds and DATE integer days since 1970.
    A first column of type STRING is always quoted: a byte order mark at the start of a block would get lost otherwise.
    """

    columns: tuple[Column, ...]
    data: bytes


@dataclass(frozen=True, slots=True)
class LocalFile:
    """One grain of a segment in a local file, which holds the buckets that lie within ``span``, merged by ``grain``.

    A worker that maps the file for the first time compares its bytes with ``sha256`` (hexadecimal digits), when given.
    """

    path: str
    grain: Grain
    zone: str
    span: Span
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class SegmentBlock:
    """States that a worker process reads from files of one rollup, restricted and grouped there.

    ``files`` may hold several grains of one segment: the coarsest bucket that lies within ``spans`` and within one
    bucket of the answer is taken, so that nothing is counted twice. ``stored`` are the dimensions of the files, in
    order, ``keys`` those that become ``k0, k1, …``; ``filter`` is over stored dimensions. ``starts`` are the bucket
    starts of the answer's grid in microseconds, packed as 64-bit little-endian integers; empty without a grid.
    ``columns`` are those of the grouped frame, sketches included.
    """

    files: tuple[LocalFile, ...]
    spans: tuple[Span, ...]
    stored: tuple[Dimension, ...]
    keys: tuple[str, ...]
    leaves: tuple[Leaf, ...]
    columns: tuple[Column, ...]
    starts: bytes = b""
    filter: Filter | None = None


@dataclass(frozen=True, slots=True)
class HeldBlock:
    """States that a worker process reads from the table of an answer that is held: its finished values.

    ``data`` is the encoded table, ``columns`` are its columns. ``keys`` pairs the columns that are grouped by with
    their names ``k0, k1, …``, ``states`` the names of states with the columns that have them. Only rows are taken that
    pass ``filter``, which is over columns, that count something in the column ``present``, where one is named, and
    whose time lies in ``span``. Their time is what ``bucket`` says, but ``begin`` at the earliest; without a bucket it
    is ``begin``. ``starts`` are the bucket starts of the answer's grid, as in a :class:`SegmentBlock`. With a ``limit``
    only the first rows are taken.
    """

    data: bytes
    format: ResultFormat
    columns: tuple[Column, ...]
    keys: tuple[tuple[str, str], ...]
    states: tuple[tuple[str, str], ...]
    filter: Filter | None = None
    bucket: str = ""
    begin: int = 0
    span: Span | None = None
    starts: bytes = b""
    present: str = ""
    limit: int = 0


Block = Rows | Columns | CsvBlock | SegmentBlock | HeldBlock


@dataclass(frozen=True, slots=True)
class ScanResult:
    """What a source returned for a scan.

    ``grouped`` holds the states by key, in one or more blocks. For every sketched measure whose states the source
    cannot compute, ``values[measure]`` holds blocks of (bucket, keys, value, weight) from which a kernel builds them;
    the column names are ``bucket``, ``k0…``, ``value`` and ``weight`` (a count of equal values).
    """

    grouped: tuple[Block, ...]
    values: Mapping[str, tuple[Block, ...]] = field(default_factory=dict)

    @property
    def byte_count(self) -> int:
        """Bytes that left the database as CSV; small results count as nothing."""
        blocks = [*self.grouped, *(b for group in self.values.values() for b in group)]
        return sum(len(b.data) for b in blocks if isinstance(b, CsvBlock))
