"""A durable job as values: its states, the legal transitions, progress and result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from broker.domain.answer import AnswerStatus
from broker.domain.values import Column


class JobState(StrEnum):
    """Stored state; see the state machine in docs/jobs.md."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def final(self) -> bool:
        """Whether no attempt follows."""
        return self not in (JobState.QUEUED, JobState.RUNNING)


TRANSITIONS: Mapping[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.CANCELLED, JobState.FAILED}),
    JobState.RUNNING: frozenset({JobState.QUEUED, JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}),
    JobState.FAILED: frozenset({JobState.QUEUED}),
    JobState.SUCCEEDED: frozenset({JobState.EXPIRED}),
    JobState.CANCELLED: frozenset(),
    JobState.EXPIRED: frozenset(),
}


class ExportFormat(StrEnum):
    """Format of exported files."""

    PARQUET = "parquet"
    CSV = "csv"
    ARROW = "arrow"


@dataclass(frozen=True, slots=True)
class JobProgress:
    """How far an attempt is. ``total_row_count`` is an estimate, 0 when unknown; ``fraction`` is None when unknown."""

    phase: str = ""
    fraction: float | None = None
    row_count: int = 0
    total_row_count: int = 0
    byte_count: int = 0
    row_rate: float = 0.0
    message: str = ""


@dataclass(frozen=True, slots=True)
class ResultPart:
    """One file of a result; ``key`` locates it in the result store, ``sha256`` has 32 bytes."""

    index: int
    key: str
    file_name: str
    content_type: str
    row_count: int
    byte_count: int
    sha256: bytes


@dataclass(frozen=True, slots=True)
class JobResult:
    """The manifest. It exists exactly when the job succeeded."""

    parts: tuple[ResultPart, ...]
    columns: tuple[Column, ...]
    row_count: int
    byte_count: int
    format: ExportFormat
    status: AnswerStatus | None = None
    inline: bytes = b""
    expire_time: datetime | None = None
    expired: bool = False


@dataclass(frozen=True, slots=True)
class JobFailure:
    """Why an attempt failed: an error reason, its text and its dynamic parts."""

    reason: str
    message: str
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Job:
    """A job as its submitter sees it. ``spec`` is the serialized request, opaque below the kinds of job.

    ``fence`` grows with every claim and guards every later write of that claim; ``attempt`` only counts.
    """

    id: str
    tenant: str
    owner: str
    kind: str
    spec: bytes
    state: JobState
    request_id: str
    priority: int
    revision: int
    attempt: int
    max_attempts: int
    create_time: datetime
    update_time: datetime
    fence: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    progress: JobProgress = field(default_factory=JobProgress)
    failure: JobFailure | None = None
    result: JobResult | None = None
    cancel_requested: bool = False
    dead_lettered: bool = False
    start_time: datetime | None = None
    end_time: datetime | None = None
    next_attempt_time: datetime | None = None
    start_by_time: datetime | None = None
    trace: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Resource name."""
        return f"tenants/{self.tenant}/jobs/{self.id}"
