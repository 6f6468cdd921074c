"""Whether a seat is idle that a waiting request could have, told from outside of the core."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from broker.domain.pool import PoolName
from broker.policy.admission.events import Configuration
from broker.policy.admission.values import AdmissionRequest, BackendLoad


class Seats:
    """Looks for idle seats on the safe side: what it reports is wrong for sure.

    Left out are requests of several seats, or with memory, those who wait beside such (seats may be kept for them),
    tenants near their part of the pool, and pools that would have to borrow.
    """

    def __init__(self, configuration: Configuration) -> None:
        self._pools = configuration.pools
        self._backend_of = {pool: backend for backend in configuration.backends for pool in backend.pools}
        self._names = [backend.name for backend in configuration.backends]

    def startable(
        self,
        candidates: Iterable[AdmissionRequest],
        loads: Sequence[BackendLoad],
        running: Mapping[str, AdmissionRequest],
        waiting: Mapping[str, AdmissionRequest],
    ) -> AdmissionRequest | None:
        """A candidate that could have a seat now, None when there is none."""
        free = {
            load.name: load for load in loads if load.seats_used < load.limit and load.name in self._names
        }
        if not free or any(_wide(request) for request in waiting.values()):
            return None
        pools = Counter(request.pool for request in running.values())
        tenants = Counter((request.pool, request.tenant) for request in running.values())
        queued = Counter(pool for pool, _ in {(request.pool, request.tenant) for request in waiting.values()})
        seen: set[tuple[PoolName, str]] = set()
        for request in candidates:
            key = request.pool, request.tenant
            if key in seen or request.exempt or _wide(request) or request.pool not in self._backend_of:
                continue
            seen.add(key)
            load = free.get(self._backend_of[request.pool].name)
            of_tenant = tenants[key] if queued[request.pool] > 1 else 0
            if load is not None and self._room(request.pool, pools[request.pool], of_tenant, load):
                return request
        return None

    def _room(self, pool: PoolName, used: int, of_tenant: int, load: BackendLoad) -> bool:
        limits, sharing = self._pools[pool], self._backend_of[pool].pools
        if not limits.share or used >= limits.in_flight:
            return False
        total = sum(self._pools[each].share for each in sharing)
        owned = int(load.limit * limits.share / total)
        if of_tenant >= max(1, int(limits.tenant_share * max(owned, used))):
            return False
        if len(sharing) == 1:
            return True
        others = [self._pools[each] for each in sharing if each is not pool]
        kept = sum(round(load.limit * other.share / total) + other.reserved for other in others)
        return used + 1 < owned and load.seats_used + 1 <= load.limit - kept


def _wide(request: AdmissionRequest) -> bool:
    return request.seats > 1 or request.memory > 0
