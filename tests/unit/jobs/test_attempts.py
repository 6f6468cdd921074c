"""What becomes of a job when an attempt ends without success."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.attempts import (
    BACKOFF_CAP,
    CRASH_LIMIT,
    FIRST_LOSS_PAUSE,
    RETRYABLE,
    AttemptOutcome,
    Fault,
    backoff,
    ending,
    fault_of,
    lost_worker,
    overdue,
    start_by_passed,
)
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.job import TRANSITIONS, Job, JobFailure, JobStage, JobState, part_prefix

NOW = datetime(2026, 1, 2, tzinfo=UTC)
JOB = Job(
    id="j1",
    tenant="acme",
    owner="ada",
    kind="test",
    spec=b"",
    state=JobState.RUNNING,
    request_id="r",
    priority=5,
    revision=3,
    attempt=1,
    max_attempts=3,
    create_time=NOW,
    update_time=NOW,
    attempt_timeout=60.0,
)
AWAY = Fault(JobFailure("STORE_UNAVAILABLE", "away"), retryable=True)
WRONG = Fault(JobFailure("INVALID_REQUEST", "wrong", {"a": "b"}), retryable=False)


def test_a_passing_error_is_tried_again_after_a_jittered_wait() -> None:
    end = ending(JOB, AWAY, 0.5)
    assert (end.state, end.failure, end.delay) == (JobState.QUEUED, AWAY.failure, 2.0)
    assert (end.outcome, end.dead_lettered, end.crashed) == (AttemptOutcome.FAILED, False, False)


def test_the_hint_of_an_error_is_the_least_wait() -> None:
    assert ending(JOB, replace(AWAY, retry_after=30.0), 0.5).delay == 30.0
    first, second = (ending(replace(JOB, crash_count=n), lost_worker(JOB), 0.5).delay for n in (0, 1))
    assert (first, second) == (0.5 * FIRST_LOSS_PAUSE, 2.0)
    assert ending(JOB, replace(AWAY, retry_after=0.5), 0.5).delay == 2.0


def test_a_lasting_error_ends_the_job_with_its_own_reason() -> None:
    end = ending(JOB, WRONG, 0.5)
    assert (end.state, end.failure, end.dead_lettered) == (JobState.FAILED, WRONG.failure, False)


def test_the_last_attempt_leads_to_the_dead_letter_queue_and_names_its_cause() -> None:
    end = ending(
        replace(JOB, attempt=3), replace(AWAY, failure=JobFailure("OVERLOADED", "full", {"x": "y"})), 0.5
    )
    assert (end.state, end.dead_lettered) == (JobState.FAILED, True)
    assert end.failure.reason == "ATTEMPTS_EXHAUSTED"
    assert end.failure.metadata == {"x": "y", "cause": "OVERLOADED", "attempts": "3"}
    assert "full" in end.failure.message


def test_a_time_limit_keeps_its_reason_also_at_the_last_attempt() -> None:
    end = ending(replace(JOB, attempt=3), overdue(JOB), 0.5)
    assert (end.failure.reason, end.dead_lettered) == ("ATTEMPT_TIMEOUT", True)
    assert end.failure.metadata == {"attempt_timeout_seconds": "60"}


@pytest.mark.parametrize("crashes", range(CRASH_LIMIT + 1))
def test_crashes_have_a_limit_of_their_own(crashes: int) -> None:
    end = ending(replace(JOB, crash_count=crashes, max_attempts=99), lost_worker(JOB), 0.5)
    if crashes + 1 < CRASH_LIMIT:
        assert (end.state, end.crashed, end.outcome) == (JobState.QUEUED, True, AttemptOutcome.LOST)
    else:
        assert (end.state, end.dead_lettered) == (JobState.FAILED, True)
        assert end.failure.reason == "WORKER_CRASH_LOOP"


@given(st.integers(0, 10_000), st.floats(0, 1, exclude_max=True))
def test_waits_are_bounded(attempt: int, jitter: float) -> None:
    assert 0 <= backoff(attempt, jitter) < BACKOFF_CAP


@given(
    st.integers(1, 6),
    st.integers(1, 6),
    st.integers(0, 4),
    st.booleans(),
    st.booleans(),
    st.floats(0, 1, exclude_max=True),
)
def test_every_ending_is_a_legal_transition(
    attempt: int, limit: int, crashes: int, retryable: bool, crashed: bool, jitter: float
) -> None:
    job = replace(JOB, attempt=attempt, max_attempts=limit, crash_count=crashes)
    end = ending(job, Fault(JobFailure("X", "x"), retryable, crashed=crashed), jitter)
    assert end.state in TRANSITIONS[JobState.RUNNING]
    assert (end.state is JobState.QUEUED) == (
        retryable and attempt < limit and not (crashed and crashes + 1 >= CRASH_LIMIT)
    )
    assert not end.dead_lettered or end.state is JobState.FAILED


@pytest.mark.parametrize("reason", list(ErrorReason))
def test_reasons_decide_whether_another_attempt_may_help(reason: ErrorReason) -> None:
    fault = fault_of(BrokerError(reason, "text", metadata={"a": "b"}, retry_after=1.5))
    assert fault == Fault(JobFailure(reason.value, "text", {"a": "b"}), reason in RETRYABLE, 1.5)


def test_conflicts_between_transactions_pass() -> None:
    for state, passes in (("40001", True), ("40P01", True), ("22012", False)):
        error = BrokerError(ErrorReason.STORE_REJECTED, "no", metadata={"sqlstate": state})
        assert fault_of(error).retryable is passes


def test_final_states_are_those_without_a_way_on_but_for_operators_and_time() -> None:
    assert {state for state in JobState if state.final} == {
        JobState.SUCCEEDED,
        JobState.FAILED,
        JobState.CANCELLED,
        JobState.EXPIRED,
    }


@pytest.mark.parametrize(
    ("job", "stage"),
    [
        (JOB, JobStage.RUNNING),
        (replace(JOB, cancel_requested=True), JobStage.CANCELLING),
        (replace(JOB, state=JobState.QUEUED), JobStage.QUEUED),
        (replace(JOB, state=JobState.QUEUED, next_attempt_time=NOW), JobStage.SCHEDULED),
        (
            replace(JOB, state=JobState.QUEUED, next_attempt_time=NOW, failure=AWAY.failure),
            JobStage.RETRY_WAIT,
        ),
        (replace(JOB, state=JobState.FAILED, failure=AWAY.failure), JobStage.NONE),
    ],
)
def test_stages_are_finer_than_states(job: Job, stage: JobStage) -> None:
    assert job.stage is stage


def test_a_job_that_was_not_begun_in_time_names_the_time() -> None:
    assert "2026-01-02" in start_by_passed(replace(JOB, start_by_time=NOW)).message


@given(st.text(min_size=1), st.text(st.characters(exclude_characters="/"), min_size=1), st.integers(0))
def test_prefixes_are_three_plain_pieces_of_a_path_whatever_the_names(
    tenant: str, job_id: str, fence: int
) -> None:
    try:
        pieces = part_prefix(tenant, job_id, fence).split("/")
    except UnicodeEncodeError:
        return  # a lone surrogate is no text
    assert len(pieces) == 3
    assert all(piece not in {"", ".", ".."} and piece.isascii() and piece.isprintable() for piece in pieces)
    below = part_prefix(tenant, f"{job_id}/7/0", 1)
    assert below == "/".join([*pieces[:2], "7", "0", "1"]), "what has an id below that of the job"


@given(st.tuples(st.text(), st.text()), st.tuples(st.text(), st.text()))
def test_different_jobs_have_different_prefixes(one: tuple[str, str], other: tuple[str, str]) -> None:
    try:
        same = part_prefix(*one, 1) == part_prefix(*other, 1)
    except UnicodeEncodeError:
        return
    assert same == (one == other)
