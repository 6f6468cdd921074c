"""Building one partition of a rollup: what a worker process is given, and what comes back."""

from __future__ import annotations

from dataclasses import dataclass

from broker.domain.model import Dimension
from broker.domain.plan import Leaf
from broker.domain.query import Grain
from broker.domain.rollup import SegmentFile, Span
from broker.domain.timegrid import TimeGrid


@dataclass(frozen=True, slots=True)
class SegmentBuild:
    """How the result of an ordinary scan becomes a partition.

    ``grid`` is that scan's grid: buckets of the base grain that together are exactly the partition ``span``. ``stored``
    and ``leaves`` are the scan's dimensions and leaves, in order. ``grains`` are the rollup's, base first; a coarser
    one holds the buckets (in ``zone``) that lie wholly within the partition.

    For a refresh, ``base`` is the base file so far, its bytes or its path, and the scan read only ``replaced``: spans
    whose ends are ends of base buckets. With ``table`` the base rows come as CSV instead of files.
    """

    span: Span
    grid: TimeGrid
    stored: tuple[Dimension, ...]
    leaves: tuple[Leaf, ...]
    grains: tuple[Grain, ...]
    zone: str = "UTC"
    base: bytes | str = b""
    replaced: tuple[Span, ...] = ()
    table: bool = False


@dataclass(frozen=True, slots=True)
class BuiltFiles:
    r"""A partition as files: ``files`` pairs with ``data``, one per grain, base first. ``row_count`` is of the base.

    For a table there are no files: ``rows`` holds what was scanned as ``COPY ... (FORMAT csv)`` reads it. Columns are
    ``t``, the stored dimensions, then the states as :func:`table_columns` names them; ``row_count`` counts these rows.
    ``t``, and every value of type TIMESTAMP, is text as ``2024-01-31 23:45:00.000000+00``, a DATE ``2024-01-31``, a
    BOOL ``t`` or ``f``; text is quoted, null is nothing at all.
    """

    row_count: int
    files: tuple[SegmentFile, ...] = ()
    data: tuple[bytes, ...] = ()
    rows: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two answers to one question, compared by key: ``rows`` that either has, and ``differing`` ones among them.

    ``columns`` are the measures that differ; ``example`` shows the first difference, for logs.
    """

    rows: int
    differing: int
    columns: tuple[str, ...] = ()
    example: str = ""
