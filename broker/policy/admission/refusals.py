"""A refusal in words: what the caller is told, with every number of it as metadata."""

from __future__ import annotations

from broker.domain.errors import BrokerError, ErrorReason
from broker.policy.admission.values import Killed, RefusalReason, Refused


def refusal_error(refused: Refused) -> BrokerError:
    """The error for a refusal; its ``retry_after`` is the refusal's pushback."""
    return BrokerError(
        ErrorReason(refused.reason.value),
        _sentence(refused),
        retry_after=refused.pushback,
        metadata={
            "pool": refused.pool.value,
            "stage": refused.stage.value,
            "limiting_factor": refused.limiting_factor,
            "limit": f"{refused.limit:g}",
            "waited_seconds": f"{refused.wait:.3f}",
            "expected_wait_seconds": f"{refused.expected_wait:.3f}",
            "allowed_wait_seconds": f"{refused.allowed_wait:.3f}",
        },
    )


def killed_error(killed: Killed, ran: float) -> BrokerError:
    """The error for work that was stopped after ``ran`` seconds because it would hardly have ended in time."""
    text = (
        f"Stopped after {ran:.1f} s: {killed.left:.1f} s before the deadline the chance to end in time was "
        f"{killed.chance:.1%}, and others wait for the seat. Allow more time, narrow the query, or submit a job."
    )
    return BrokerError(
        ErrorReason.DEADLINE_EXCEEDED,
        text,
        metadata={
            "pool": killed.pool.value,
            "stage": "running",
            "limiting_factor": "hopeless",
            "chance": f"{killed.chance:.4f}",
            "ran_seconds": f"{ran:.3f}",
            "remaining_seconds": f"{killed.left:.3f}",
        },
    )


def _sentence(refused: Refused) -> str:
    pool = f"the pool {refused.pool.value!r}"
    again = "" if refused.pushback is None else f"Retry after {refused.pushback:.1f} s"
    match refused.reason:
        case RefusalReason.DRAINING:
            return "This server is stopping. Retry at once: another one answers."
        case RefusalReason.DEADLINE_TOO_SHORT:
            return (
                f"The deadline leaves {refused.limit:.3f} s, too little for this work even if it ran alone. "
                "Allow more time, narrow the query, or submit a job."
            )
        case RefusalReason.TENANT_QUOTA:
            return (
                f"Your tenant has {refused.limit:g} requests waiting in {pool}, as many as it may. "
                f"{again}, when some of them have ended."
            )
        case RefusalReason.QUEUE_TIMEOUT:
            return (
                f"No seat in {pool} became free in {refused.wait:.1f} s, the part of the deadline that may be spent "
                f"waiting. {again}, or allow more time."
            )
        case RefusalReason.OVERLOADED if refused.limiting_factor == "queue":
            return f"The queue of {pool} is full with {refused.limit:g} requests. {again}."
        case RefusalReason.OVERLOADED:
            return (
                f"All {refused.limit:g} seats of {pool} are taken: a wait of {refused.expected_wait:.1f} s is "
                f"expected, and the deadline allows {refused.allowed_wait:.1f} s. {again}, or allow more time."
            )
