"""What the worker and the child of an export say to each other. Without Polars and Arrow: the worker imports it too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from broker.domain.errors import BrokerError
from broker.domain.job import ExportFormat
from broker.domain.plan import Block, Finish, ScanResult
from broker.domain.values import Column

WRITER = "broker.jobs.writer:write_export"
"""What the child of an export runs."""
ARCHIVER = "broker.jobs.archive:write_archive"
"""What the child of a report runs."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be written: the answer's columns, how rows are finished (None: SQL rows, as they are), and where."""

    format: ExportFormat
    columns: tuple[Column, ...]
    finish: Finish | None
    directory: str
    part_bytes: int


@dataclass(frozen=True, slots=True)
class ArchiveOrder:
    """What is to be written as one archive; ``time`` is what its files are dated with."""

    format: ExportFormat
    directory: str
    name: str
    time: datetime


@dataclass(frozen=True, slots=True)
class Section:
    """To the child of a report: what follows, to its end, is one file of the archive."""

    name: str
    columns: tuple[Column, ...]
    finish: Finish


@dataclass(frozen=True, slots=True)
class Close:
    """To the child of a report: that were all files. ``manifest`` is what is known of the archive as a whole."""

    manifest: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Chunk:
    """To the child: rows of a pushed-down plan."""

    block: Block


@dataclass(frozen=True, slots=True)
class Whole:
    """To the child: all states of a plan that is computed here."""

    results: tuple[ScanResult, ...]


@dataclass(frozen=True, slots=True)
class End:
    """To the child: that was all."""


@dataclass(frozen=True, slots=True)
class Wrote:
    """From the child: rows and bytes written so far."""

    row_count: int
    byte_count: int


@dataclass(frozen=True, slots=True)
class PartDone:
    """From the child: a file of the directory is complete and synced."""

    name: str
    row_count: int
    byte_count: int
    sha256: bytes


@dataclass(frozen=True, slots=True)
class Done:
    """From the child: everything has been written. The times are :func:`time.time_ns`, for the span of its work."""

    process_id: int
    start_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True)
class Failed:
    """From the child: it gave up. ``detail`` is for the log only."""

    error: BrokerError
    detail: str = ""
