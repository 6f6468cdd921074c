"""Events of watches, encoded once for all who watch the job."""

from __future__ import annotations

from dataclasses import dataclass

from broker.domain.job import Job, JobEvent, JobState
from broker.transport.encode_answer import Describe
from broker.transport.encode_job import encode_job, encode_progress
from broker.transport.encode_status import timestamp
from broker.transport.enums import JOB_STAGE
from querybroker.v1 import job_pb2, job_service_pb2

MOST = 10_000
"""Running jobs whose last event is kept; some hundred bytes each."""

_CHANGING = ("progress", "revision", "update_time", "stage", "cancel_requested", "estimated_time")


@dataclass(slots=True)
class _Kept:
    """An attempt: what stays of its events, and the newest of them."""

    fence: int
    staying: bytes
    revision: int
    event: bytes


class EventEncoder:
    """Encodes the events of one process.

    Encoded messages that follow one another are read as one message, merged. So the fields that stay while a job
    runs are encoded once, and those that change are appended.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._kept: dict[str, _Kept] = {}

    def encode(self, event: JobEvent, describe: Describe) -> bytes:
        """The event as a WatchJobResponse; ``describe`` turns a failure into a status."""
        job = event.job
        if event.keep_alive or job.state is not JobState.RUNNING or not job.request_id:
            self._kept.pop(job.id, None)
            whole = encode_job(job, describe)
            return job_service_pb2.WatchJobResponse(
                job=whole, keep_alive=event.keep_alive
            ).SerializeToString()
        kept = self._kept.get(job.id)
        if kept is None or kept.fence != job.fence:
            whole = encode_job(job, describe)
            for name in _CHANGING:
                whole.ClearField(name)  # type: ignore[arg-type] # names of fields
            staying = job_service_pb2.WatchJobResponse(job=whole).SerializeToString()
            kept = _Kept(job.fence, staying, job.revision, staying + _changing(job))
            if len(self._kept) >= self._most:
                del self._kept[next(iter(self._kept))]
            self._kept[job.id] = kept
        elif kept.revision != job.revision:
            kept.revision, kept.event = job.revision, kept.staying + _changing(job)
        return kept.event


def _changing(job: Job) -> bytes:
    changing = job_pb2.Job(
        stage=JOB_STAGE.proto(job.stage),
        progress=encode_progress(job.progress),
        revision=job.revision,
        cancel_requested=job.cancel_requested,
        update_time=timestamp(job.update_time),
        estimated_time=timestamp(job.likely_end),
    )
    return job_service_pb2.WatchJobResponse(job=changing).SerializeToString()
