"""Progress that is gathered and written together."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import pytest

from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.job import Job, JobProgress
from broker.jobs.progress import RATE_SECONDS, ProgressBoard, Rate
from tests.unit.jobs.test_attempts import JOB


class Queue:
    """Takes reports, or is away."""

    def __init__(self) -> None:
        self.away = False
        self.written: list[list[tuple[int, JobProgress]]] = []

    async def report(self, updates: Sequence[tuple[Job, JobProgress]]) -> Collection[str]:
        if self.away:
            raise BrokerError(ErrorReason.STORE_UNAVAILABLE, "away")
        self.written.append([(job.fence, progress) for job, progress in updates])
        return {job.id for job, _ in updates if job.fence == 99}


def board(queue: Queue) -> ProgressBoard:
    return ProgressBoard(queue)  # type: ignore[arg-type]  # a stand-in for the one method that is used


async def test_the_newest_of_every_attempt_is_written_once() -> None:
    queue = Queue()
    own = board(queue)
    other = replace(JOB, id="j2", fence=4)
    for rows in range(10):
        own.report(JOB, JobProgress(row_count=rows))
    own.report(other, JobProgress("x"))
    assert await own.flush() == set()
    assert queue.written == [[(0, JobProgress(row_count=9)), (4, JobProgress("x"))]]
    await own.flush()
    assert queue.written[1:] == [[]]


async def test_stale_attempts_are_told() -> None:
    own = board(Queue())
    own.report(replace(JOB, fence=99), JobProgress())
    assert await own.flush() == {"j1"}


async def test_what_could_not_be_written_is_kept_unless_there_is_newer() -> None:
    queue = Queue()
    own = board(queue)
    other = replace(JOB, fence=2)
    own.report(JOB, JobProgress("old"))
    own.report(other, JobProgress("kept"))
    queue.away = True
    with pytest.raises(BrokerError):
        await own.flush()
    own.report(JOB, JobProgress("new"))
    queue.away = False
    await own.flush()
    assert queue.written == [[(0, JobProgress("new")), (2, JobProgress("kept"))]]


async def test_an_attempt_that_ends_takes_its_last_progress_along_whether_written_or_not() -> None:
    queue = Queue()
    own = board(queue)
    own.report(JOB, JobProgress("first"))
    await own.flush()
    assert own.take(JOB) == JobProgress("first")
    own.report(JOB, JobProgress("second"))
    assert own.take(JOB) == JobProgress("second")
    await own.flush()
    assert queue.written == [[(0, JobProgress("first"))], []]
    assert own.take(JOB) == JOB.progress


def test_the_rate_is_that_of_the_last_seconds() -> None:
    now = 100.0
    rate = Rate(lambda: now)
    assert rate.at(0) == 0.0
    now += 1.0
    assert rate.at(500) == 500.0
    for _ in range(20):
        now += 1.0
        rate.at(500)
    assert rate.at(500) == 0.0, "an old burst is forgotten"
    now += RATE_SECONDS
    assert rate.at(500 + int(10 * RATE_SECONDS)) == pytest.approx(10.0, rel=0.5)
