"""One backend as the rivals see it: seats under a limit policy, and those who wait for them in order of arrival."""

from __future__ import annotations

import math
from collections import Counter

from broker.domain.pool import PoolName
from broker.domain.state import PoolState
from broker.policy.admission.limit import LimitPolicy
from broker.policy.admission.values import AdmissionRequest, BackendLoad, Outcome


class Waiter:
    """A request that waits or runs; ``since`` is when its present phase began."""

    __slots__ = ("request", "seats", "since")

    def __init__(self, request: AdmissionRequest, now: float) -> None:
        self.request = request
        self.seats = max(1, math.ceil(request.seats))
        self.since = now


class Line:
    """Seats and a queue of at most ``bound`` requests. It decides nothing."""

    def __init__(
        self, name: str, pools: tuple[PoolName, ...], nominal: int, bound: float, policy: LimitPolicy
    ) -> None:
        self.name = name
        self.pools = pools
        self.nominal = nominal
        self.bound = bound
        self.policy = policy
        self.used = 0
        self.waiting: dict[str, Waiter] = {}
        self.running: dict[str, Waiter] = {}
        self.admitted: Counter[PoolName] = Counter()
        self.refused: Counter[PoolName] = Counter()

    def fits(self, waiter: Waiter) -> bool:
        """Whether the seats are free; one request may always run, however many seats it asks for."""
        return self.used + waiter.seats <= self.policy.limit or not self.used

    def start(self, waiter: Waiter, now: float) -> float:
        """Gives seats to a request and returns how long it has waited."""
        wait, request = now - waiter.since, waiter.request
        self.used += waiter.seats
        self.running[request.id] = waiter
        self.admitted[request.pool] += 1
        self.policy.started(request.id, request.predicted.p50, waiter.seats, now)
        waiter.since = now
        return wait

    def end(self, id: str, outcome: Outcome, seconds: float, now: float) -> None:
        """Takes the seats back."""
        self.used -= self.running.pop(id).seats
        self.policy.ended(id, outcome, seconds, now)

    def seats_of(self, pool: PoolName) -> int:
        """Seats that a pool uses."""
        return sum(each.seats for each in self.running.values() if each.request.pool is pool)

    def length_of(self, pool: PoolName) -> int:
        """Requests of a pool that wait."""
        return sum(each.request.pool is pool for each in self.waiting.values())

    def state(self, pool: PoolName, now: float) -> PoolState:
        """A pool; tenants are not known here."""
        since = (each.since for each in self.waiting.values() if each.request.pool is pool)
        return PoolState(
            name=pool,
            seat_limit=self.policy.limit,
            seats_used=self.seats_of(pool),
            queue_length=self.length_of(pool),
            oldest_wait=now - min(since, default=now),
            admitted_count=self.admitted[pool],
            refused_count=self.refused[pool],
        )

    def load(self) -> BackendLoad:
        """The backend in numbers."""
        demand = tuple((pool, self.seats_of(pool) + self.length_of(pool)) for pool in self.pools)
        return BackendLoad(
            self.name,
            self.policy.limit,
            self.policy.wished,
            self.nominal,
            self.used,
            self.policy.progress,
            0,
            demand,
        )
