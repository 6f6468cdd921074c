"""The core's state as operators see it."""

from __future__ import annotations

from collections import Counter

from broker.domain.state import PoolState, TenantState
from broker.policy.admission.backend import Backend
from broker.policy.admission.pool import Pool
from broker.policy.admission.values import PoolLoad


def seat_limit(pool: Pool) -> int:
    """Seats that a pool owns and may use."""
    return pool.limits.in_flight if pool.own_seats else min(pool.limits.in_flight, pool.entitled)


def pool_load(pool: Pool) -> PoolLoad:
    """A pool in three numbers."""
    return PoolLoad(pool.name, seat_limit(pool), pool.seats_used, pool.waiting)


def pool_state(pool: Pool, backend: Backend, now: float) -> PoolState:
    """A pool with its tenants: those that wait, run, or have had work of late."""
    oldest, shares = pool.queue.oldest(), pool.ledger.shares()
    waiting: Counter[str] = Counter()
    used: Counter[str] = Counter()
    for flow in pool.queue.flows():
        waiting[flow.name] += len(flow.waiters)
        used[flow.name] += flow.seats_used
    busy = (+waiting).keys() | (+used).keys() | shares.keys()
    tenants = (TenantState(name, waiting[name], used[name], shares.get(name, 0.0)) for name in sorted(busy))
    return PoolState(
        name=pool.name,
        seat_limit=seat_limit(pool),
        seats_used=pool.seats_used,
        seats_lent=_lent(pool, backend),
        queue_length=pool.waiting,
        oldest_wait=now - oldest if oldest is not None else 0.0,
        admitted_count=pool.admitted_count,
        refused_count=pool.refused_count,
        tenants=tuple(tenants),
    )


def _lent(pool: Pool, backend: Backend) -> int:
    """Seats of a pool that others use: what they have beyond their own, taken from whoever has most to spare."""
    if pool.own_seats:
        return 0
    borrowed = sum(max(0, other.seats_used - other.entitled) for other in backend.sharing)
    for lender in sorted(backend.sharing, key=lambda other: other.seats_used - other.entitled):
        lent = min(borrowed, max(0, lender.entitled - lender.seats_used))
        if lender is pool:
            return lent
        borrowed -= lent
    return 0
