"""The simple admission core: a cap on requests in flight per pool, fair queues, and a wait bounded by the deadline.

A request is decided at arrival wherever possible. With a free seat it is admitted unless even a fast run would miss the
deadline. Otherwise it may wait for a fraction of the slack that its deadline leaves, as in the API server of Kubernetes
(a quarter of the timeout): requests that may wait up to the edge of their deadline miss it by the slightest error of
the estimate. If the queue promises a longer wait, the request is refused at once with a hint when to come back. Bounds
on the queue are a backstop for memory.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping
from random import Random

from broker.domain.pool import PoolLimits, PoolName
from broker.domain.state import PoolState
from broker.policy.admission.fair_ring import Waiter
from broker.policy.admission.pool_queue import PoolQueue
from broker.policy.admission.values import (
    AdmissionRequest,
    Admitted,
    BackendLoad,
    Decision,
    Outcome,
    PoolLoad,
    Pressure,
    Queued,
    RefusalReason,
    Refused,
    Signal,
    Stage,
)

MIN_PUSHBACK, MAX_PUSHBACK = 0.1, 30.0


class Scheduler:
    """An :class:`AdmissionCore` over separate pools. ``seed`` decides the jitter of pushbacks and nothing else."""

    def __init__(self, limits: Mapping[PoolName, PoolLimits], seed: int) -> None:
        self._pools = {name: PoolQueue(name, pool_limits) for name, pool_limits in limits.items()}
        self._waiting: dict[str, Waiter] = {}
        self._exempt: dict[str, PoolName] = {}
        self._running: dict[str, PoolQueue] = {}
        self._timeouts: list[tuple[float, int, Waiter]] = []
        self._arrivals = 0
        self._random = Random(seed)  # noqa: S311 - jitter, not a secret
        self._draining = False

    @property
    def draining(self) -> bool:
        """Whether new requests are refused."""
        return self._draining

    def offer(self, request: AdmissionRequest, now: float) -> tuple[Decision, ...]:
        """A request arrives; the first decision is about it, a second about the waiter that made room for it."""
        if request.id in self._waiting or request.id in self._running or request.id in self._exempt:
            raise ValueError(f"request {request.id!r} is already waiting or running")
        pool = self._pools[request.pool]
        if request.exempt:
            self._exempt[request.id] = request.pool
            pool.admitted_count += 1
            return (Admitted(request.id, request.pool, 0.0, 0.0, pool.limits.in_flight),)
        if self._draining:
            return (
                self._refuse(request, RefusalReason.DRAINING, Stage.ARRIVAL, "draining", 0.0, pushback=0.0),
            )
        if now >= request.deadline_at or request.predicted.p10 > request.deadline_at - now:
            return (self._infeasible(request, Stage.ARRIVAL, now),)
        if pool.free and not pool.ring:
            return (self._admit(pool, Waiter(request, now, now), now),)
        return self._enqueue(pool, request, now)

    def _enqueue(self, pool: PoolQueue, request: AdmissionRequest, now: float) -> tuple[Decision, ...]:
        budget = pool.budget(request, now)
        expected = pool.expected_wait(pool.ring.ahead_of(request.tenant), request.predicted)
        bound = pool.full(request.tenant)
        if bound is None and expected > budget:
            bound = RefusalReason.OVERLOADED, "wait_budget", pool.limits.in_flight
        if bound is not None:
            reason, factor, limit = bound
            pushback = self._pushback(expected - budget)
            return (
                self._refuse(
                    request, reason, Stage.ARRIVAL, factor, limit,
                    expected_wait=expected, allowed_wait=budget, pushback=pushback,
                ),
            )  # fmt: skip
        victim = pool.crowded_by(request.tenant)
        waiter = Waiter(request, now, now + budget, expected)
        pool.ring.push(waiter)
        self._waiting[request.id] = waiter
        if waiter.until < math.inf:
            self._arrivals += 1
            heapq.heappush(self._timeouts, (waiter.until, self._arrivals, waiter))
        queued = Queued(request.id, pool.name, expected, waiter.until, pool.limits.in_flight)
        return (queued,) if victim is None else (queued, self._push_out(pool, victim, now))

    def finish(self, id: str, outcome: Outcome, seconds: float, now: float) -> tuple[Decision, ...]:
        """Admitted work has ended; its seat goes to whoever waits next."""
        if id in self._exempt:
            del self._exempt[id]
            return ()
        pool = self._running.pop(id)
        pool.release(id, outcome, seconds, now)
        return self._dispatch(pool, now)

    def cancel(self, id: str, now: float) -> tuple[Decision, ...]:
        """The caller has gone; a seat that it held goes to whoever waits next."""
        waiter = self._waiting.pop(id, None)
        if waiter is not None:
            self._pools[waiter.request.pool].ring.remove(waiter)
            return ()
        pool = self._running.get(id)
        if pool is None:
            self._exempt.pop(id, None)
            return ()
        return self.finish(id, Outcome.DROPPED, now - pool.running[id].since, now)

    def tick(self, now: float) -> tuple[Decision, ...]:
        """Ends the wait of those whose budget is used up."""
        decisions: list[Decision] = []
        while self._timeouts and self._timeouts[0][0] <= now:
            waiter = heapq.heappop(self._timeouts)[2]
            if self._waits(waiter):
                del self._waiting[waiter.request.id]
                self._pools[waiter.request.pool].ring.remove(waiter)
                decisions.append(self._too_late(waiter, Stage.QUEUE, now))
        return tuple(decisions)

    def drain(self, now: float) -> tuple[Decision, ...]:
        """Refuses those who wait and, from now on, all who come."""
        self._draining = True
        self._waiting.clear()
        self._timeouts.clear()
        return tuple(
            self._refuse(
                waiter.request, RefusalReason.DRAINING, Stage.QUEUE, "draining", 0.0,
                wait=now - waiter.since, pushback=0.0,
            )
            for pool in self._pools.values()
            for waiter in pool.ring.clear()
        )  # fmt: skip

    def next_wakeup(self) -> float | None:
        """The next instant at which a wait budget ends."""
        while self._timeouts and not self._waits(self._timeouts[0][2]):
            heapq.heappop(self._timeouts)
        return self._timeouts[0][0] if self._timeouts else None

    def state(self, now: float) -> tuple[PoolState, ...]:
        """Every pool with its tenants."""
        return tuple(pool.state(now) for pool in self._pools.values())

    def loads(self) -> tuple[PoolLoad, ...]:
        """Every pool in three numbers."""
        return tuple(
            PoolLoad(name, pool.limits.in_flight, len(pool.running), len(pool.ring))
            for name, pool in self._pools.items()
        )

    def signal(self, backend: str, news: Signal | Pressure, now: float) -> tuple[Decision, ...]:  # noqa: ARG002 - the interface
        """Changes nothing: the limits are fixed."""
        return ()

    def lease(self, backend: str, seats: int | None, now: float) -> tuple[Decision, ...]:  # noqa: ARG002 - the interface
        """Changes nothing: the limits are fixed."""
        return ()

    def refusal(self, pool: PoolName, tenant: str, now: float) -> Refused | None:  # noqa: ARG002 - the interface
        """Nothing is refused unseen."""
        return None

    def backends(self) -> tuple[BackendLoad, ...]:
        """None is known."""
        return ()

    def _waits(self, waiter: Waiter) -> bool:
        """Whether an entry of the heap is still about somebody; entries of those who left are skipped lazily."""
        return self._waiting.get(waiter.request.id) is waiter

    def _dispatch(self, pool: PoolQueue, now: float) -> tuple[Decision, ...]:
        decisions: list[Decision] = []
        while pool.free and (waiter := pool.ring.head()) is not None:
            del self._waiting[waiter.request.id]
            if now >= waiter.until:
                pool.ring.remove(waiter)
                decisions.append(self._too_late(waiter, Stage.DISPATCH, now))
            else:
                pool.ring.take(waiter)
                decisions.append(self._admit(pool, waiter, now))
        return tuple(decisions)

    def _admit(self, pool: PoolQueue, waiter: Waiter, now: float) -> Admitted:
        pool.occupy(waiter.request, now)
        self._running[waiter.request.id] = pool
        return Admitted(
            waiter.request.id, pool.name, now - waiter.since, waiter.expected, pool.limits.in_flight
        )

    def _push_out(self, pool: PoolQueue, victim: Waiter, now: float) -> Refused:
        del self._waiting[victim.request.id]
        pool.ring.remove(victim)
        expected = pool.expected_wait(pool.ring.ahead_of(victim.request.tenant), victim.request.predicted)
        return self._refuse(
            victim.request, RefusalReason.OVERLOADED, Stage.QUEUE, "queue", pool.limits.queue,
            wait=now - victim.since, expected_wait=expected, pushback=self._pushback(expected),
        )  # fmt: skip

    def _too_late(self, waiter: Waiter, stage: Stage, now: float) -> Refused:
        request, wait = waiter.request, now - waiter.since
        if now + request.predicted.p10 >= request.deadline_at:
            return self._infeasible(request, stage, now, wait)
        pool = self._pools[request.pool]
        expected = pool.expected_wait(pool.ring.ahead_of(request.tenant), request.predicted)
        return self._refuse(
            request, RefusalReason.QUEUE_TIMEOUT, stage, "wait_budget", pool.limits.in_flight,
            wait=wait, expected_wait=expected, allowed_wait=waiter.until - waiter.since,
            pushback=self._pushback(expected),
        )  # fmt: skip

    def _infeasible(self, request: AdmissionRequest, stage: Stage, now: float, wait: float = 0.0) -> Refused:
        left = max(0.0, request.deadline_at - now)
        return self._refuse(request, RefusalReason.DEADLINE_TOO_SHORT, stage, "deadline", left, wait=wait)

    def _refuse(
        self,
        request: AdmissionRequest,
        reason: RefusalReason,
        stage: Stage,
        factor: str,
        limit: float,
        *,
        wait: float = 0.0,
        expected_wait: float = 0.0,
        allowed_wait: float = 0.0,
        pushback: float | None = None,
    ) -> Refused:
        self._pools[request.pool].refused_count += 1
        return Refused(
            request.id,
            request.pool,
            reason,
            stage,
            factor,
            limit,
            wait,
            expected_wait,
            allowed_wait,
            pushback,
        )

    def _pushback(self, seconds: float) -> float:
        """The hint, within bounds and 20 % to either side, so that those refused together do not return together."""
        return min(MAX_PUSHBACK, max(MIN_PUSHBACK, seconds)) * self._random.uniform(0.8, 1.2)
