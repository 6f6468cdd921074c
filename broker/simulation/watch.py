"""Looks over the shoulder of a core for a planner: who is refused for want of what, and how long who waits."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from broker.domain.pool import PoolName
from broker.policy.admission.backend import MEMORY_SHARE
from broker.policy.admission.events import Asked, Cancelled, Configuration, Entry, Finished, Offered
from broker.policy.admission.observed import ObservedCore
from broker.policy.admission.values import AdmissionCore, AdmissionRequest, Admitted, Killed, Queued, Refused


class Part(StrEnum):
    """What gives out."""

    SEATS = "seats"
    SHARE = "share of the seats"
    IN_FLIGHT = "requests in flight"
    MEMORY = "memory"
    QUEUE = "queue"
    TENANT_QUEUE = "tenant's queue"
    TENANT_QUOTA = "tenant's quota"
    DEADLINE = "deadline"


_PARTS = MappingProxyType(
    {
        "queue": Part.QUEUE,
        "tenant_queue": Part.TENANT_QUEUE,
        "tenant_in_flight": Part.TENANT_QUOTA,
        "tenant_rate": Part.TENANT_QUOTA,
        "deadline": Part.DEADLINE,
    }
)


@dataclass(slots=True)
class Seen:
    """One tenant in one pool. ``budgets`` are the waits as parts of what each was allowed to wait."""

    offered: int = 0
    refused: int = 0
    late: int = 0
    waits: list[float] = field(default_factory=list)
    budgets: list[float] = field(default_factory=list)
    parts: Counter[Part] = field(default_factory=Counter)

    def add(self, other: Seen) -> None:
        """Counts another as well."""
        self.offered += other.offered
        self.refused += other.refused
        self.late += other.late
        self.waits += other.waits
        self.budgets += other.budgets
        self.parts += other.parts


class Watch:
    """Counts what goes on in a core; :meth:`over` is put around it."""

    def __init__(self, configuration: Configuration) -> None:
        self.seen: dict[tuple[PoolName, str], Seen] = {}
        self._pools = configuration.pools
        self._backend_of = {pool: backend for backend in configuration.backends for pool in backend.pools}
        self._open: dict[str, AdmissionRequest] = {}
        self._budget: dict[str, float] = {}
        self._core: AdmissionCore | None = None

    def over(self, core: AdmissionCore) -> AdmissionCore:
        """The core, watched."""
        self._core = core
        return ObservedCore(core, self._told)

    def _of(self, pool: PoolName, tenant: str) -> Seen:
        return self.seen.setdefault((pool, tenant), Seen())

    def _told(self, entry: Entry) -> None:
        match entry.event:
            case Offered(request):
                self._open[request.id] = request
                self._of(request.pool, request.tenant).offered += 1
            case Asked(pool, tenant) if entry.decisions:
                seen = self._of(pool, tenant)
                seen.offered += 1
                seen.refused += 1
                (refused,) = entry.decisions
                assert isinstance(refused, Refused)
                seen.parts[self._part(AdmissionRequest("", tenant, pool, entry.at), refused)] += 1
            case Finished(id):
                self._open.pop(id, None)
            case Cancelled(id) if (gone := self._open.pop(id, None)) is not None:
                self._of(gone.pool, gone.tenant).late += entry.at >= gone.deadline_at
                self._budget.pop(id, None)
        for decision in entry.decisions:
            found = self._open.get(decision.id)
            if found is None:
                continue
            seen = self._of(found.pool, found.tenant)
            match decision:
                case Queued():
                    self._budget[decision.id] = max(1e-9, decision.until - entry.at)
                case Admitted():
                    seen.waits.append(decision.wait)
                    seen.budgets.append(decision.wait / self._budget.pop(decision.id, 1.0))
                case Killed():
                    pass
                case Refused():
                    del self._open[decision.id]
                    seen.refused += 1
                    seen.parts[self._part(found, decision)] += 1
                    if (budget := self._budget.pop(decision.id, None)) is not None:
                        seen.waits.append(decision.wait)
                        seen.budgets.append(decision.wait / budget)

    def _part(self, request: AdmissionRequest, refused: Refused) -> Part:
        """What there was too little of; of the parts of a wait, whatever is used up."""
        if refused.limiting_factor in _PARTS:
            return _PARTS[refused.limiting_factor]
        assert self._core is not None
        running = next(load.seats_used for load in self._core.loads() if load.pool is request.pool)
        configured = self._backend_of.get(request.pool)
        if configured is None or running >= self._pools[request.pool].in_flight:
            return Part.IN_FLIGHT
        backend = next(load for load in self._core.backends() if load.name == configured.name)
        memory = MEMORY_SHARE * configured.limits.memory
        if memory and request.memory and backend.memory_used + request.memory > memory:
            return Part.MEMORY
        return Part.SEATS if backend.seats_used + request.seats > backend.limit else Part.SHARE
