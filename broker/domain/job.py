"""A durable job as values: its states, the legal transitions, progress and result. See ``docs/jobs.md``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from urllib.parse import quote

from broker.domain.answer import AnswerStatus, Interval
from broker.domain.principal import Principal
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
        """Whether no attempt follows by itself."""
        return self not in (JobState.QUEUED, JobState.RUNNING)


TRANSITIONS: Mapping[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.CANCELLED, JobState.FAILED}),
    JobState.RUNNING: frozenset({JobState.QUEUED, JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}),
    JobState.FAILED: frozenset({JobState.QUEUED}),
    JobState.SUCCEEDED: frozenset({JobState.EXPIRED}),
    JobState.CANCELLED: frozenset(),
    JobState.EXPIRED: frozenset(),
}


class JobStage(StrEnum):
    """Finer view of the states QUEUED and RUNNING; NONE where the state says all."""

    NONE = "none"
    QUEUED = "queued"
    SCHEDULED = "scheduled"
    RETRY_WAIT = "retry_wait"
    RUNNING = "running"
    CANCELLING = "cancelling"


class ExportFormat(StrEnum):
    """Format of exported files."""

    PARQUET = "parquet"
    CSV = "csv"
    ARROW = "arrow"


@dataclass(frozen=True, slots=True)
class JobProgress:
    """How far an attempt is. ``total_row_count`` is an estimate, 0 when unknown; ``fraction`` is None when unknown.

    ``interval`` is what of the time is being worked on, None when that is all of it or has no time.
    """

    phase: str = ""
    fraction: float | None = None
    row_count: int = 0
    total_row_count: int = 0
    byte_count: int = 0
    row_rate: float = 0.0
    message: str = ""
    interval: Interval | None = None


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
    """The manifest. It exists exactly when the job succeeded.

    ``format`` is None for work that writes no files. ``inline`` holds the bytes of the only part when they are few, and
    ``dataset`` the name of what a materialisation made. ``retention`` says, in seconds, how long the result is kept
    where that is not for as long as all are; ``expire_time``, which follows from it, is set by the job store.
    """

    parts: tuple[ResultPart, ...] = ()
    columns: tuple[Column, ...] = ()
    row_count: int = 0
    byte_count: int = 0
    format: ExportFormat | None = None
    status: AnswerStatus | None = None
    inline: bytes = b""
    expire_time: datetime | None = None
    expired: bool = False
    dataset: str = ""
    retention: float | None = None


@dataclass(frozen=True, slots=True)
class JobFailure:
    """Why an attempt failed: an error reason, its text and its dynamic parts."""

    reason: str
    message: str
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Job:
    """A job as its submitter sees it. ``spec`` is the serialized request, opaque below the kinds of job.

    ``fence`` grows with every claim and guards every later write of that claim; ``attempt`` only counts, and
    ``crash_count`` counts the attempts that took their process with them. ``principal`` is the submitter as they were
    at submission, so that row policies hold when the job runs. ``attempt_timeout`` is in seconds. ``trace`` holds the
    W3C headers of the submission. ``next_attempt_time`` is set while a queued job waits for a time. ``estimated_time``
    is when a job may begin that has just been submitted; it is not stored.
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
    crash_count: int = 0
    worker_id: str = ""
    principal: Principal = field(default_factory=lambda: Principal("", ""))
    attempt_timeout: float = 0.0
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
    estimated_time: datetime | None = None

    @property
    def name(self) -> str:
        """Resource name; empty for a job that was checked and not stored."""
        return f"tenants/{self.tenant}/jobs/{self.id}" if self.id else ""

    @property
    def likely_end(self) -> datetime | None:
        """When a running job ends if it goes on as it has of late, by what its attempt last reported; else None."""
        progress, began = self.progress, self.start_time
        if self.state is not JobState.RUNNING or began is None or not progress.fraction:
            return None
        left = progress.total_row_count - progress.row_count
        if progress.row_rate > 0 and left > 0:
            return self.update_time + timedelta(seconds=left / progress.row_rate)
        return self.update_time + (self.update_time - began) * (1 / progress.fraction - 1)

    @property
    def stage(self) -> JobStage:
        """The finer state."""
        match self.state:
            case JobState.RUNNING:
                return JobStage.CANCELLING if self.cancel_requested else JobStage.RUNNING
            case JobState.QUEUED if self.failure is not None:
                return JobStage.RETRY_WAIT
            case JobState.QUEUED:
                return JobStage.QUEUED if self.next_attempt_time is None else JobStage.SCHEDULED
            case _:
                return JobStage.NONE


@dataclass(frozen=True, slots=True)
class JobVersion:
    """What tells whether a job has changed."""

    id: str
    revision: int


@dataclass(frozen=True, slots=True)
class JobChange:
    """What changes of a job while it runs; everything else stays as long as ``state`` and ``fence`` do."""

    id: str
    revision: int
    state: JobState
    fence: int
    progress: JobProgress
    update_time: datetime
    cancel_requested: bool

    def follows(self, job: Job) -> bool:
        """Whether the job was in the same attempt, so that this is all that has changed since."""
        return self.state is JobState.RUNNING is job.state and self.fence == job.fence

    def applied(self, job: Job) -> Job:
        """The job with this change, which ``follows`` it."""
        changed = object.__new__(Job)
        put = object.__setattr__  # `replace` takes as long as all the rest of an event
        for name in Job.__slots__:
            put(changed, name, getattr(job, name))
        for name in _CHANGING:
            put(changed, name, getattr(self, name))
        return changed


_CHANGING = ("revision", "progress", "update_time", "cancel_requested")


@dataclass(frozen=True, slots=True)
class JobEvent:
    """One event of a watch; ``keep_alive`` when nothing changed and the event only shows that the watch is alive."""

    job: Job
    keep_alive: bool = False


def part_prefix(tenant: str, job_id: str, fence: int) -> str:
    """Where one attempt keeps its files in the result store: ``tenant/job/fence``, every piece safe in a path.

    What has an id below that of a job, as the ranges of its export have, keeps its files below those of the job.
    """
    pieces = (tenant, *job_id.split("/"), str(fence))
    return "/".join(quote(piece, safe="").replace(".", "%2E") for piece in pieces)
