"""A refusal in words: what the caller is told, with every number of it as metadata."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

from broker.domain.errors import BrokerError, ErrorReason
from broker.policy.admission.values import Killed, RefusalReason, Refused


@dataclass(frozen=True, slots=True)
class Standing:
    """How a tenant and the backend of its pool stand.

    ``tenant_share`` is the tenant's part of the pool's requests that run, ``limit`` and ``seats_used`` count the seats
    of the backend, ``progress`` is its speed relative to an idle one.
    """

    tenant: str
    tenant_share: float
    backend: str
    limit: int
    seats_used: int
    progress: float = 1.0


_QUOTAS = MappingProxyType(
    {
        "tenant_queue": "requests_waiting",
        "tenant_in_flight": "requests_in_flight",
        "tenant_rate": "requests_per_second",
    }
)


def refusal_error(refused: Refused, standing: Standing | None = None) -> BrokerError:
    """The error for a refusal; its ``retry_after`` is the refusal's pushback."""
    metadata = {
        "pool": refused.pool.value,
        "stage": refused.stage.value,
        "limiting_factor": refused.limiting_factor,
        "limit": f"{refused.limit:g}",
        "waited_seconds": f"{refused.wait:.3f}",
        "expected_wait_seconds": f"{refused.expected_wait:.3f}",
        "allowed_wait_seconds": f"{refused.allowed_wait:.3f}",
    }
    if standing is not None:
        metadata |= {
            "tenant": standing.tenant,
            "tenant_share": f"{standing.tenant_share:.3f}",
            "backend": standing.backend,
            "backend_limit": str(standing.limit),
            "backend_seats_used": str(standing.seats_used),
            "backend_progress": f"{standing.progress:.3f}",
        }
    if refused.reason is RefusalReason.TENANT_QUOTA:
        metadata |= {
            "quota_metric": _QUOTAS.get(refused.limiting_factor, ""),
            "quota_id": refused.limiting_factor,
            "quota_value": f"{refused.limit:.0f}",
        }
    return BrokerError(
        ErrorReason(refused.reason.value), _sentence(refused), retry_after=refused.pushback, metadata=metadata
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
    again = "Retry" if refused.pushback is None else f"Retry after {refused.pushback:.1f} s"
    match refused.reason, refused.limiting_factor:
        case RefusalReason.DRAINING, _:
            return "This server is stopping. Retry at once: another one answers."
        case RefusalReason.DEADLINE_TOO_SHORT, _:
            return (
                f"The deadline leaves {refused.limit:.3f} s, too little for this work even if it ran alone. "
                "Allow more time, narrow the query, or submit a job."
            )
        case RefusalReason.TENANT_QUOTA, "tenant_in_flight":
            return (
                f"Your tenant has {refused.limit:g} requests running or waiting, as many as it may. "
                f"{again} when one of them has ended, or ask the operator for more."
            )
        case RefusalReason.TENANT_QUOTA, "tenant_rate":
            return (
                f"Your tenant may send {refused.limit:g} requests per second, and has sent more. "
                f"{again}, send less, or ask the operator for more."
            )
        case RefusalReason.TENANT_QUOTA, _:
            return (
                f"Your tenant has {refused.limit:g} requests waiting in {pool}, as many as it may. "
                f"{again}, when some of them have ended."
            )
        case RefusalReason.QUEUE_TIMEOUT, _:
            return (
                f"No seat in {pool} became free in {refused.wait:.1f} s, the part of the deadline that may be spent "
                f"waiting. {again}, or allow more time."
            )
        case RefusalReason.OVERLOADED, "queue":
            return f"The queue of {pool} is full with {refused.limit:g} requests. {again}."
        case _:
            return (
                f"No seat is free for {pool}, of {refused.limit:g} in all: a wait of {refused.expected_wait:.1f} s is "
                f"expected, and the deadline allows {refused.allowed_wait:.1f} s. {again}, or allow more time."
            )
