"""What callers are told of refusals and of work that is stopped."""

from __future__ import annotations

import pytest

from broker.domain.errors import ErrorReason
from broker.domain.pool import PoolName
from broker.policy.admission.refusals import Standing, killed_error, refusal_error
from broker.policy.admission.values import Killed, RefusalReason, Refused, Stage

STANDING = Standing("acme", 0.25, "primary", 12, 11, 0.8)


def refused(reason: RefusalReason, factor: str, limit: float, pushback: float | None = 2.0) -> Refused:
    return Refused("1", PoolName.DASHBOARD, reason, Stage.ARRIVAL, factor, limit, 1.5, 4.0, 1.0, pushback)


@pytest.mark.parametrize(
    ("refusal", "text"),
    [
        (
            refused(RefusalReason.OVERLOADED, "wait_budget", 12),
            (
                "No seat is free for the pool 'dashboard', of 12 in all: a wait of 4.0 s is expected, and the deadline "
                "allows 1.0 s. Retry after 2.0 s, or allow more time."
            ),
        ),
        (
            refused(RefusalReason.OVERLOADED, "queue", 50),
            "The queue of the pool 'dashboard' is full with 50 requests. Retry after 2.0 s.",
        ),
        (
            refused(RefusalReason.QUEUE_TIMEOUT, "wait_budget", 12),
            (
                "No seat in the pool 'dashboard' became free in 1.5 s, the part of the deadline that may be spent "
                "waiting. Retry after 2.0 s, or allow more time."
            ),
        ),
        (
            refused(RefusalReason.DEADLINE_TOO_SHORT, "deadline", 0.05, None),
            (
                "The deadline leaves 0.050 s, too little for this work even if it ran alone. Allow more time, narrow "
                "the query, or submit a job."
            ),
        ),
        (
            refused(RefusalReason.TENANT_QUOTA, "tenant_queue", 200),
            (
                "Your tenant has 200 requests waiting in the pool 'dashboard', as many as it may. Retry after 2.0 s, "
                "when some of them have ended."
            ),
        ),
        (
            refused(RefusalReason.TENANT_QUOTA, "tenant_in_flight", 5, None),
            (
                "Your tenant has 5 requests running or waiting, as many as it may. Retry when one of them has ended, "
                "or ask the operator for more."
            ),
        ),
        (
            refused(RefusalReason.TENANT_QUOTA, "tenant_rate", 2.5),
            (
                "Your tenant may send 2.5 requests per second, and has sent more. Retry after 2.0 s, send less, or "
                "ask the operator for more."
            ),
        ),
        (
            refused(RefusalReason.DRAINING, "draining", 0, 0.0),
            "This server is stopping. Retry at once: another one answers.",
        ),
    ],
)
def test_every_refusal_says_what_gave_out_and_what_to_do(refusal: Refused, text: str) -> None:
    error = refusal_error(refusal, STANDING)
    assert error.message == text
    assert error.reason.value == refusal.reason.value
    assert error.retry_after == refusal.pushback


def test_a_refusal_tells_how_the_tenant_and_the_database_stand() -> None:
    known = refusal_error(refused(RefusalReason.OVERLOADED, "wait_budget", 12), STANDING).metadata
    assert known == {
        "pool": "dashboard",
        "stage": "arrival",
        "limiting_factor": "wait_budget",
        "limit": "12",
        "waited_seconds": "1.500",
        "expected_wait_seconds": "4.000",
        "allowed_wait_seconds": "1.000",
        "tenant": "acme",
        "tenant_share": "0.250",
        "backend": "primary",
        "backend_limit": "12",
        "backend_seats_used": "11",
        "backend_progress": "0.800",
    }


@pytest.mark.parametrize(
    ("factor", "metric"),
    [
        ("tenant_queue", "requests_waiting"),
        ("tenant_in_flight", "requests_in_flight"),
        ("tenant_rate", "requests_per_second"),
    ],
)
def test_a_quota_is_named(factor: str, metric: str) -> None:
    known = refusal_error(refused(RefusalReason.TENANT_QUOTA, factor, 7), STANDING).metadata
    assert (known["quota_metric"], known["quota_id"], known["quota_value"]) == (metric, factor, "7")
    assert len(known) <= 16, "a status carries no more"


def test_stopped_work_tells_its_chance() -> None:
    error = killed_error(Killed("1", PoolName.EXPLORATION, 0.0123, 4.0), 26.0)
    assert error.reason is ErrorReason.DEADLINE_EXCEEDED
    assert error.message == (
        "Stopped after 26.0 s: 4.0 s before the deadline the chance to end in time was 1.2%, and others wait for the "
        "seat. Allow more time, narrow the query, or submit a job."
    )
