"""What a full queue refuses, and when a job may begin."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta

import pytest

from broker.domain.errors import ErrorReason
from broker.domain.state import Backlog
from broker.policy.backlog import HINT_SECONDS, TYPICAL_SECONDS, BacklogLimits, refusal, start_estimate, wait

LIMITS = BacklogLimits(tenant=10, queue=100, age=60.0)
IDLE = Backlog(slots=4, seconds=20.0)


@pytest.mark.parametrize(
    ("backlog", "seconds"),
    [
        (IDLE, 0.0),
        (replace(IDLE, running=3), 0.0),
        (replace(IDLE, running=4), 5.0),  # one of four ends every 5 s
        (replace(IDLE, running=4, before=3), 20.0),
        (replace(IDLE, running=2, before=2), 5.0),  # those before it take the two free slots
        (replace(IDLE, running=6), 5.0),  # more than slots: ends that are being written
        (replace(IDLE, running=4, seconds=0.0), TYPICAL_SECONDS / 4),
        (Backlog(before=1), math.inf),
    ],
)
def test_a_job_begins_when_those_before_it_have_made_room(backlog: Backlog, seconds: float) -> None:
    assert wait(backlog) == seconds


def test_without_workers_nothing_is_known() -> None:
    assert start_estimate(Backlog()) is None
    assert start_estimate(IDLE) == timedelta(0)


@pytest.mark.parametrize(
    ("backlog", "reason"),
    [
        (replace(IDLE, tenant=9, age=60.0, queued=99), None),
        (replace(IDLE, tenant=10, queued=10), ErrorReason.TENANT_QUOTA),
        (replace(IDLE, tenant=1, age=61.0, queued=1), ErrorReason.TENANT_QUOTA),
        (replace(IDLE, tenant=1, queued=100), ErrorReason.OVERLOADED),
        (
            replace(IDLE, tenant=10, queued=100),
            ErrorReason.TENANT_QUOTA,
        ),  # what the caller can do something about
    ],
)
def test_a_queue_is_never_without_bound(backlog: Backlog, reason: ErrorReason | None) -> None:
    error = refusal(backlog, LIMITS)
    assert (error.reason if error else None) is reason
    if error is not None:
        shortest, longest = HINT_SECONDS
        assert error.retry_after is not None
        assert shortest <= error.retry_after <= longest
        assert "request_id" in error.message


def test_the_hint_grows_with_the_queue_and_is_longest_without_workers() -> None:
    short, long = (refusal(replace(IDLE, queued=n), BacklogLimits(queue=n)) for n in (20, 400))
    none = refusal(Backlog(queued=20), BacklogLimits(queue=20))
    assert short is not None
    assert long is not None
    assert none is not None
    assert short.retry_after == 10.0
    assert long.retry_after == 200.0
    assert none.retry_after == HINT_SECONDS[1]
