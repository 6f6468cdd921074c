"""What is told of decisions: an event on the span and in the log for each, and the numbers that sum them up.

Counts and durations go to metrics; who asked, what was predicted and what was expected goes to events only, because
tenants are no attribute of a metric.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence

from opentelemetry.trace import Span

from broker.domain.pool import PoolName
from broker.policy.admission.refusals import Standing
from broker.policy.admission.values import (
    AdmissionCore,
    AdmissionRequest,
    Admitted,
    BackendLoad,
    Killed,
    Outcome,
    PoolLoad,
    Refused,
)
from broker.policy.fairness import Fairness
from broker.telemetry import catalog
from broker.telemetry import names as n
from broker.telemetry.instruments import Telemetry, Value
from broker.telemetry.meters import Reading
from broker.telemetry.names import Metric
from broker.telemetry.tally import Tally

DECISION_LOGGER = "querybroker.admission"
DOOR = "door"
"""Stage of refusals that were decided before the request was read."""
_LOG = logging.getLogger(DECISION_LOGGER)
_IN_SPANS = f"{n.DECISION}."


class Told:
    """Tells telemetry of one admission core."""

    def __init__(self, core: AdmissionCore, telemetry: Telemetry) -> None:
        self._core = core
        self._telemetry = telemetry
        self._fairness = {load.pool: Fairness() for load in core.loads()}
        self._held: dict[tuple[PoolName, str], int] = {}
        self._seats: dict[PoolName, int] = dict.fromkeys(self._fairness, 0)
        self.unread_count: dict[PoolName, int] = dict.fromkeys(self._fairness, 0)
        """Refusals at the door, which the core does not hear of."""
        self._unread = Tally(self._count_unread)
        sources: Sequence[tuple[Metric, Callable[[], Iterable[Reading]]]] = (
            (catalog.SEAT_USAGE, lambda: self._pools(lambda load: load.seats_used)),
            (catalog.SEAT_LIMIT, lambda: self._pools(lambda load: load.seat_limit)),
            (catalog.QUEUE_LENGTH, lambda: self._pools(lambda load: load.queue_length)),
            (catalog.SEATS_LENT, self._lent),
            (catalog.FAIRNESS, lambda: [(f.index, {n.POOL: p.value}) for p, f in self._fairness.items()]),
            (catalog.BACKEND_SEATS, lambda: self._backends(lambda load: load.seats_used)),
            (catalog.BACKEND_LIMIT, lambda: self._backends(lambda load: load.limit)),
            (catalog.BACKEND_NOMINAL, lambda: self._backends(lambda load: load.nominal)),
            (catalog.BACKEND_WISHED, lambda: self._backends(lambda load: load.wished)),
            (catalog.BACKEND_PROGRESS, lambda: self._backends(lambda load: load.progress)),
        )
        self._forget = [telemetry.observe(metric, source) for metric, source in sources]
        self._forget.append(telemetry.observe(catalog.SEAT_USAGE, self._unread.flush))

    def close(self) -> None:
        """Ends the gauges."""
        self._unread.flush()
        for forget in self._forget:
            forget()

    def admitted(self, request: AdmissionRequest, decision: Admitted, span: Span, now: float) -> None:
        """A request got its seats."""
        pool = decision.pool
        if decision.wait > 0.0:
            self._fairness[pool].waited(request.tenant, now)
        if decision.expected_wait > 0.0:
            self._telemetry.wait_ratio(pool.value, decision.wait / decision.expected_wait)
        self._seats[pool] += 1
        key = pool, request.tenant
        self._held[key] = self._held.get(key, 0) + 1
        if self._listening(span):
            facts: dict[str, Value] = {
                "decision": "admitted",
                "waited": decision.wait,
                "expected_wait": decision.expected_wait,
                "limit": decision.limit,
            }
            self._event(request, facts, span, now)

    def refused(self, request: AdmissionRequest, refused: Refused, span: Span, now: float) -> None:
        """A request was refused."""
        pool, factor = refused.pool, refused.limiting_factor
        self._telemetry.refusal(pool.value, refused.reason.value, refused.stage.value, factor)
        if factor in {"wait_budget", "queue"}:
            self._fairness[pool].waited(request.tenant, now)
        if self._listening(span):
            facts: dict[str, Value] = {
                "decision": "refused",
                "reason": refused.reason.value,
                "stage": refused.stage.value,
                "limiting_factor": factor,
                "limit": refused.limit,
                "waited": refused.wait,
                "expected_wait": refused.expected_wait,
                "allowed_wait": refused.allowed_wait,
            }
            self._event(request, facts, span, now)

    def unread(self, pool: PoolName, level: str, reason: str, factor: str) -> None:
        """A call was turned away at the door; of those there may be many, so they are only counted."""
        self.unread_count[pool] += 1
        self._unread.add((pool.value, level, reason, factor))

    def killed(self, request: AdmissionRequest, killed: Killed, ran: float, now: float) -> None:
        """Running work is stopped; its span is its own task's, so only the log tells more."""
        level = request.criticality.name.lower()
        self._telemetry.admission(killed.pool.value, level, "killed", "DEADLINE_EXCEEDED")
        if _LOG.isEnabledFor(logging.DEBUG):
            facts: dict[str, Value] = {"decision": "killed", "chance": killed.chance, "ran": ran}
            self._event(request, facts, None, now)

    def ended(self, request: AdmissionRequest, pool: PoolName, outcome: str, held: float, now: float) -> None:
        """Seats were given back."""
        seat_seconds = held * max(1.0, request.seats)
        self._telemetry.seat_held(str(pool), outcome, held)
        if outcome in {Outcome.DROPPED, "killed"}:
            self._telemetry.seats_wasted(pool.value, outcome, seat_seconds)
        self._fairness[pool].served(request.tenant, seat_seconds, now)
        self._seats[pool] -= 1
        key = pool, request.tenant
        self._held[key] -= 1
        if not self._held[key]:
            del self._held[key]

    def standing(self, pool: PoolName, tenant: str) -> Standing:
        """How a tenant and the backend of a pool stand, for whoever is refused."""
        used = self._seats[pool]
        share = self._held.get((pool, tenant), 0) / used if used else 0.0
        for load in self._core.backends():
            if any(name is pool for name, _ in load.demand):
                return Standing(tenant, share, load.name, load.limit, load.seats_used, load.progress)
        (own,) = (load for load in self._core.loads() if load.pool is pool)
        return Standing(tenant, share, pool.value, own.seat_limit, own.seats_used)

    def _count_unread(self, key: tuple[str, ...], count: int) -> None:
        pool, level, reason, factor = key
        self._telemetry.admission(pool, level, "refused", reason, count)
        self._telemetry.refusal(pool, reason, DOOR, factor, count)

    @staticmethod
    def _listening(span: Span) -> bool:
        return span.is_recording() or _LOG.isEnabledFor(logging.DEBUG)

    def _event(
        self, request: AdmissionRequest, facts: dict[str, Value], span: Span | None, now: float
    ) -> None:
        standing, predicted = self.standing(request.pool, request.tenant), request.predicted
        facts |= {
            "pool": request.pool.value,
            "tenant": request.tenant,
            "criticality": request.criticality.name.lower(),
            "attempt": request.attempt,
            "seats": request.seats,
            "predicted_p10": predicted.p10,
            "predicted_p50": predicted.p50,
            "predicted_p90": predicted.p90,
            "time_left": request.deadline_at - now,
            "tenant_share": standing.tenant_share,
            "backend_limit": standing.limit,
            "backend_seats_used": standing.seats_used,
            "progress": standing.progress,
        }
        if span is not None and span.is_recording():
            span.add_event(n.DECISION, {_IN_SPANS + key: value for key, value in facts.items()})
        _LOG.debug("%s %s", request.pool.value, facts["decision"], extra=facts)

    def _pools(self, number: Callable[[PoolLoad], int]) -> list[Reading]:
        return [(number(load), {n.POOL: load.pool.value}) for load in self._core.loads()]

    def _backends(self, number: Callable[[BackendLoad], float]) -> list[Reading]:
        return [(number(load), {n.BACKEND: load.name}) for load in self._core.backends()]

    def _lent(self) -> list[Reading]:
        loads = {load.pool: load for load in self._core.loads()}
        readings: list[Reading] = []
        for backend in self._core.backends():
            shared = [loads[pool] for pool, _ in backend.demand]
            readings += [(seats, {n.POOL: pool.value}) for pool, seats in lent(shared)]
        return readings


def lent(sharing: Sequence[PoolLoad]) -> list[tuple[PoolName, int]]:
    """Seats that each of the pools that share a backend lends: taken from whoever has most to spare."""
    borrowed = sum(max(0, load.seats_used - load.seat_limit) for load in sharing)
    found = []
    for load in sorted(sharing, key=lambda load: load.seats_used - load.seat_limit):
        seats = min(borrowed, max(0, load.seat_limit - load.seats_used))
        borrowed -= seats
        found.append((load.pool, seats))
    return found
