"""One pool of the simple admission core: a cap on requests in flight, and a fair queue with a wait budget before it."""

from __future__ import annotations

from dataclasses import dataclass

from broker.domain.pool import PoolLimits, PoolName
from broker.domain.state import PoolState, TenantState
from broker.policy.admission.fair_ring import FairRing, Waiter
from broker.policy.admission.values import AdmissionRequest, Outcome, Quantiles, RefusalReason
from broker.policy.admission.work_ledger import WorkLedger

LEARNING_RATE = 0.1
"""Weight of the newest sample in the mean service time: about the last twenty requests count."""


@dataclass(frozen=True, slots=True)
class Running:
    """A request that holds a seat."""

    request: AdmissionRequest
    since: float


class PoolQueue:
    """Seats, waiters and what is known of a pool's speed. It decides nothing; the scheduler asks and moves."""

    def __init__(self, name: PoolName, limits: PoolLimits) -> None:
        self.name = name
        self.limits = limits
        self.ring = FairRing()
        self.running: dict[str, Running] = {}
        self.admitted_count = 0
        self.refused_count = 0
        self._service: float | None = None
        self._ledger = WorkLedger()
        self._used: dict[str, int] = {}

    @property
    def free(self) -> bool:
        """Whether a seat is free."""
        return len(self.running) < self.limits.in_flight

    def occupy(self, request: AdmissionRequest, now: float) -> None:
        """Gives a seat to a request."""
        self.running[request.id] = Running(request, now)
        self._used[request.tenant] = self._used.get(request.tenant, 0) + 1
        self.admitted_count += 1

    def release(self, id: str, outcome: Outcome, seconds: float, now: float) -> None:
        """Takes the seat back and learns from how the work ended."""
        tenant = self.running.pop(id).request.tenant
        self._used[tenant] -= 1
        if not self._used[tenant]:
            del self._used[tenant]
        self._ledger.add(tenant, seconds, now)
        known = self._service
        if outcome is Outcome.SUCCESS or (
            outcome is Outcome.DROPPED and known is not None and seconds > known
        ):
            self._service = seconds if known is None else known + LEARNING_RATE * (seconds - known)

    def budget(self, request: AdmissionRequest, now: float) -> float:
        """Seconds that the request may wait: a fraction of what its deadline leaves beside the work itself."""
        slack = request.deadline_at - now - request.predicted.p50
        return self.limits.wait_fraction * max(0.0, slack)

    def expected_wait(self, ahead: int, predicted: Quantiles) -> float:
        """Seconds until a waiter with ``ahead`` others before it has a seat, when all seats are taken."""
        service = predicted.p50 if self._service is None else self._service
        return (ahead + 1) * service / self.limits.in_flight

    def full(self, tenant: str) -> tuple[RefusalReason, str, int] | None:
        """Which bound keeps another waiter of the tenant out: reason, name and value of the bound."""
        if self.ring.length_of(tenant) >= self.limits.tenant_queue:
            return RefusalReason.TENANT_QUOTA, "tenant_queue", self.limits.tenant_queue
        if len(self.ring) >= self.limits.queue and self.crowded_by(tenant) is None:
            return RefusalReason.OVERLOADED, "queue", self.limits.queue
        return None

    def crowded_by(self, tenant: str) -> Waiter | None:
        """The waiter that makes room for one of ``tenant`` when the queue is full.

        It is the newest of the tenant with most waiters, provided that tenant still has as many as this one afterwards:
        a noisy tenant fills the queue with its own requests and not with other tenants' refusals.
        """
        victim = self.ring.crowd() if len(self.ring) >= self.limits.queue else None
        if victim is None:
            return None
        left = self.ring.length_of(victim.request.tenant) - 1
        return victim if left > self.ring.length_of(tenant) else None

    def state(self, now: float) -> PoolState:
        """The pool as operators see it."""
        oldest = self.ring.oldest()
        waiting, shares = self.ring.tenants(), self._ledger.shares(now)
        return PoolState(
            name=self.name,
            seat_limit=self.limits.in_flight,
            seats_used=len(self.running),
            queue_length=len(self.ring),
            oldest_wait=now - oldest.since if oldest is not None else 0.0,
            admitted_count=self.admitted_count,
            refused_count=self.refused_count,
            tenants=tuple(
                TenantState(name, waiting.get(name, 0), self._used.get(name, 0), shares.get(name, 0.0))
                for name in sorted(waiting.keys() | self._used.keys() | shares.keys())
            ),
        )
