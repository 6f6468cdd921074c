"""What a job does, as values: the decoded form of the request that is stored with the job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from broker.domain.answer import Interval
from broker.domain.job import ExportFormat, JobState, ResultPart
from broker.domain.query import Query, SqlQuery
from broker.domain.terms import AnswerPolicy


@dataclass(frozen=True, slots=True)
class ExportWork:
    """Writes the answer of a query to the result store."""

    source: Query | SqlQuery
    format: ExportFormat = ExportFormat.PARQUET


@dataclass(frozen=True, slots=True)
class ReportSection:
    """One file of a report; ``section_id`` is its name without the ending."""

    section_id: str
    query: Query


@dataclass(frozen=True, slots=True)
class ReportWork:
    """Writes the answers of several queries into one archive."""

    sections: tuple[ReportSection, ...]
    format: ExportFormat = ExportFormat.PARQUET


@dataclass(frozen=True, slots=True)
class RollupBuildWork:
    """Builds a rollup of a dataset, all of it or an interval."""

    dataset: str
    rollup: str
    interval: Interval | None = None


@dataclass(frozen=True, slots=True)
class RollupRefreshWork:
    """Refreshes what changed in a rollup of a dataset."""

    dataset: str
    rollup: str
    interval: Interval | None = None


@dataclass(frozen=True, slots=True)
class MaterializeWork:
    """Keeps the answer of a query as a dataset for ``retention`` seconds (None: the server's default)."""

    query: Query
    dataset: str
    retention: float | None = None


@dataclass(frozen=True, slots=True)
class CustomWork:
    """A kind of work that the operator registered; ``parameters`` are JSON values."""

    kind: str
    parameters: Mapping[str, object] = field(default_factory=dict)


Work = ExportWork | ReportWork | RollupBuildWork | RollupRefreshWork | MaterializeWork | CustomWork


def kind_of(work: Work) -> str:
    """Name of the kind of work, as jobs are filtered and counted by; a custom kind is named ``custom:{kind}``."""
    match work:
        case ExportWork():
            return "export"
        case ReportWork():
            return "report"
        case RollupBuildWork():
            return "rollup_build"
        case RollupRefreshWork():
            return "rollup_refresh"
        case MaterializeWork():
            return "materialize"
        case CustomWork(kind):
            return f"custom:{kind}"


@dataclass(frozen=True, slots=True)
class JobAsk:
    """A request for a job. ``path`` is where the work is in the request, such as ``spec.export``.

    ``spec`` is the request in canonical bytes, from which the transport decodes the same ask again; ``spec_hash`` is
    equal for requests that ask for the same, whatever their request id.
    """

    work: Work
    policy: AnswerPolicy
    request_id: str
    spec: bytes
    spec_hash: str
    path: str = "spec"
    priority: int = 5
    labels: Mapping[str, str] = field(default_factory=dict)
    start_by_time: datetime | None = None
    validate_only: bool = False

    @property
    def kind(self) -> str:
        """Name of the kind of work."""
        return kind_of(self.work)


@dataclass(frozen=True, slots=True)
class JobListing:
    """Which jobs a caller wants to see, newest first; empty fields keep all.

    ``all_owners`` asks for the whole tenant's instead of the caller's own. ``before`` is the (create_time, id) of the
    last job of the page before.
    """

    states: tuple[JobState, ...] = ()
    kind: str = ""
    all_owners: bool = False
    dead_lettered: bool = False
    before: tuple[datetime, str] | None = None


@dataclass(frozen=True, slots=True)
class ResultPiece:
    """Some bytes of a result file, from ``offset``; ``part`` describes the file, with the first piece only."""

    offset: int
    data: bytes
    part: ResultPart | None = None
