"""Events of watches say what the job says, however they were put together."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from google.rpc.status_pb2 import Status

from broker.domain.answer import Interval
from broker.domain.errors import BrokerError
from broker.domain.job import Job, JobChange, JobEvent, JobFailure, JobProgress, JobResult, JobState
from broker.transport.encode_job import encode_job
from broker.transport.encode_watch import EventEncoder
from querybroker.v1 import job_service_pb2

NOW = datetime(2024, 5, 1, tzinfo=UTC)
RUNNING = Job(
    id="one",
    tenant="acme",
    owner="ada",
    kind="export",
    spec=job_service_pb2.SubmitJobRequest().SerializeToString(),
    state=JobState.RUNNING,
    request_id="request",
    priority=5,
    revision=3,
    attempt=2,
    max_attempts=3,
    create_time=NOW,
    update_time=NOW,
    fence=2,
    labels={"team": "blue"},
    progress=JobProgress("reading", 0.5, 10, 20, message="half"),
    failure=JobFailure("WORKER_LOST", "It was lost."),
    start_time=NOW,
)


def describe(error: BrokerError) -> Status:
    return Status(code=2, message=error.reason.value)


def says(encoder: EventEncoder, job: Job, *, keep_alive: bool = False) -> bytes:
    """The event, once it was found to hold the job and nothing else."""
    data = encoder.encode(JobEvent(job, keep_alive), describe)
    expected = job_service_pb2.WatchJobResponse(job=encode_job(job, describe), keep_alive=keep_alive)
    assert job_service_pb2.WatchJobResponse.FromString(data) == expected
    return data


def test_a_running_job_tells_what_it_is_at_and_when_it_may_end() -> None:
    later = NOW + timedelta(seconds=30)
    part = Interval(NOW, None)
    progress = JobProgress("writing", 0.25, 100, 400, row_rate=10.0, interval=part)
    running = replace(RUNNING, update_time=later, progress=progress)
    event = job_service_pb2.WatchJobResponse.FromString(says(EventEncoder(), running))
    assert event.job.estimated_time.ToDatetime(UTC) == later + timedelta(seconds=30)
    assert event.job.progress.interval.start_time.ToDatetime(UTC) == NOW
    assert not event.job.progress.interval.HasField("end_time")
    by_share = replace(running, progress=JobProgress("refreshing", 0.25))
    assert by_share.likely_end == later + timedelta(seconds=90)
    for silent in (
        replace(running, progress=JobProgress("reading")),
        replace(running, state=JobState.SUCCEEDED),
    ):
        assert silent.likely_end is None


def test_a_life_is_told_as_it_is() -> None:
    encoder = EventEncoder()
    says(
        encoder, replace(RUNNING, state=JobState.QUEUED, revision=2, progress=JobProgress(), start_time=None)
    )
    says(encoder, RUNNING)
    change = JobChange(
        "one",
        4,
        JobState.RUNNING,
        2,
        JobProgress("writing"),
        NOW + timedelta(seconds=1),
        cancel_requested=True,
    )
    changed = change.applied(RUNNING)
    assert change.follows(RUNNING)
    assert changed == replace(
        RUNNING,
        revision=4,
        progress=change.progress,
        update_time=change.update_time,
        cancel_requested=True,
    )
    assert changed.revision == 4
    assert RUNNING.revision == 3, "the one before stays as it was"
    says(encoder, changed)
    says(encoder, RUNNING)  # to who is slower
    says(encoder, changed, keep_alive=True)
    again = replace(RUNNING, fence=3, attempt=3, revision=6, progress=JobProgress(), failure=None)
    assert not replace(change, fence=3).follows(RUNNING)
    assert not replace(change, state=JobState.SUCCEEDED).follows(RUNNING)
    says(encoder, again)
    says(encoder, replace(again, state=JobState.SUCCEEDED, revision=7, result=JobResult(row_count=3)))
    assert encoder._kept == {}


def test_an_event_is_encoded_once_for_all_who_watch() -> None:
    encoder = EventEncoder()
    assert says(encoder, RUNNING) is says(encoder, replace(RUNNING))


def test_what_is_kept_is_bounded() -> None:
    encoder = EventEncoder(most=2)
    for number in range(5):
        says(encoder, replace(RUNNING, id=str(number)))
    assert list(encoder._kept) == ["3", "4"]
