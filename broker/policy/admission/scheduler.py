"""The admission core: a pure state machine over backends, pools and tenants.

A request is decided at arrival wherever possible. With room for it, it is admitted unless even a fast run would miss
its deadline. Otherwise it may wait for a *fraction* of the slack that its deadline leaves: requests that may wait up to
the edge of their deadline miss it by the slightest error of an estimate, and a queue of such requests does work for
nobody. If the queue promises a longer wait, the request is refused at once with a hint when to come back. Bounds on the
queue are a backstop for memory. What is decided about whom:

    offer    draining, infeasible, over quota, like its load group  →  room: admit  →  wait within budget: queue
    others   whoever has room now starts, in the order of :mod:`broker.policy.admission.dispatch`

Time is an argument, the seed decides the jitter of hints only, and the same events give the same decisions: the
simulator runs this very code. A decision takes some microseconds, with thousands of tenants waiting.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from broker.domain.pool import PoolLimits, PoolName, TenantLimits
from broker.domain.principal import Criticality
from broker.domain.state import PoolState
from broker.policy.admission import reading
from broker.policy.admission.backend import Backend, BackendSpec, alone
from broker.policy.admission.book import Book
from broker.policy.admission.fair_queue import Entry
from broker.policy.admission.foregone import foregone
from broker.policy.admission.groups import Group
from broker.policy.admission.pool import Pool
from broker.policy.admission.tenants import Tenants
from broker.policy.admission.values import (
    AdmissionRequest,
    Admitted,
    BackendLoad,
    Decision,
    Outcome,
    PoolLoad,
    Pressure,
    Queued,
    Refused,
    Signal,
    Stage,
    Tuning,
)
from broker.policy.admission.verdicts import Verdicts

LATER_ATTEMPTS = 3
"""Attempts that are told apart in the order within a criticality."""
GRACE = 3.0
"""How many times its budget a request may wait after all: estimates are wrong by that much, and who has waited so long
is nearer to an answer than whoever would come instead."""
NO_LIMITS = TenantLimits()
TUNING = Tuning()


class Scheduler:
    """An :class:`AdmissionCore`. Pools that no backend names have ``in_flight`` seats of their own."""

    def __init__(
        self,
        limits: Mapping[PoolName, PoolLimits],
        seed: int,
        backends: Sequence[BackendSpec] = (),
        tenants: Mapping[str, TenantLimits] | None = None,
        default_tenant: TenantLimits = NO_LIMITS,
        tuning: Tuning = TUNING,
    ) -> None:
        self._pools = {name: Pool(name, pool_limits, tuning) for name, pool_limits in limits.items()}
        self._backends = {spec.name: Backend(spec, self._pools, tuning) for spec in backends}
        self._listening = tuple(backend for backend in self._backends.values() if backend.listens)
        serving = {pool.name: backend for backend in self._backends.values() for pool in backend.pools}
        self._backend_of = {
            name: serving[name] if name in serving else alone(pool, tuning)
            for name, pool in self._pools.items()
        }
        self._tenants = Tenants(tenants or {}, default_tenant)
        self._verdicts = Verdicts(seed, tuning)
        self._book = Book(self._pools, self._backend_of, self._tenants, self._verdicts, tuning)
        self._exempt: set[str] = set()
        self._arrivals = 0
        self._draining = False
        self._guarded = self._tenants.bounded
        """Whether more than its deadline may keep a request out, whatever waits and runs."""

    @property
    def draining(self) -> bool:
        """Whether new requests are refused."""
        return self._draining

    def offer(self, request: AdmissionRequest, now: float) -> tuple[Decision, ...]:
        """A request arrives; the first decision is about it, others about waiters that it moved."""
        if request.id in self._book.entries or request.id in self._exempt:
            raise ValueError(f"request {request.id!r} is already waiting or running")
        pool = self._pools[request.pool]
        backend = self._backend_of[request.pool]
        if request.exempt:
            self._exempt.add(request.id)
            pool.admitted_count += 1
            return (Admitted(request.id, request.pool, 0.0, 0.0, backend.limit),)
        if self._guarded or request.predicted.p10 >= request.deadline_at - now:
            refused = self._refused_unseen(request, now)
            if refused is not None:
                pool.refused_count += 1
                return (refused,)
        group, decided = self._book.groups.join(request, now) if request.load_group else (None, False)
        entry = self._entry(request, pool, backend, now)
        if group is not None and group.refused is not None:
            pool.refused_count += 1
            return (self._verdicts.alike(group.refused, entry),)
        if backend.blocked is None and backend.fit(pool, entry) == "yes":
            self._book.entries[request.id] = entry
            if self._tenants.bounded:
                self._tenants.enter(request.tenant, now)
            if not pool.waiting:
                backend.activate(pool)
            entry.flow.queue.charge(entry.flow, entry.cost)
            return (self._book.start(entry, pool, backend, now),)
        return self._enqueue(entry, pool, backend, group, decided, now)

    def _refused_unseen(self, request: AdmissionRequest, now: float) -> Refused | None:
        if self._draining:
            return self._verdicts.draining(request.id, request.pool, Stage.ARRIVAL)
        left = request.deadline_at - now
        if left <= 0.0 or request.predicted.p10 > left:
            return self._verdicts.infeasible(request, Stage.ARRIVAL, now)
        if self._tenants.bounded and (excess := self._tenants.excess(request.tenant, now)) is not None:
            return self._verdicts.over_quota(request.id, request.pool, excess)
        return None

    def _entry(self, request: AdmissionRequest, pool: Pool, backend: Backend, now: float) -> Entry:
        """A request with its prediction, and its place among its tenant's own: by when it is to start.

        There the work is taken at its median: that little is known of a request is a reason to let it wait less, as
        :meth:`Pool.budget` does, and none to serve it before others.
        """
        self._arrivals += 1
        attempt = request.attempt if request.attempt < LATER_ATTEMPTS else LATER_ATTEMPTS  # noqa: FURB136 - a call costs more
        slack = request.deadline_at - now - request.predicted.p50
        latest = now + pool.limits.wait_fraction * slack if slack > 0.0 else now
        rank = attempt, latest, self._arrivals
        flow = pool.queue.levels[request.criticality].flows.get(request.tenant)
        if flow is None:
            flow = pool.flow_of(request.tenant, self._tenants.limits(request.tenant), request.criticality)
        entry = Entry(request, flow, rank, now)
        pool.size(entry, backend.limit * request.memory / backend.memory_limit if request.memory else 0.0)
        return entry

    def _enqueue(
        self, entry: Entry, pool: Pool, backend: Backend, group: Group | None, decided: bool, now: float
    ) -> tuple[Decision, ...]:
        request = entry.request
        budget = pool.budget(request, now)
        more = 0.0
        if group is not None and not decided:  # the last of its load group must not wait too long either
            more = entry.work * self._book.groups.followers(request.tenant)
        entry.expected = expected = backend.wait(pool, entry, more)
        limits = pool.limits
        crowded = pool.waiting >= limits.queue
        asked = crowded or len(entry.flow.waiters) >= limits.tenant_queue  # a call costs more than comparing
        bound = pool.full(entry) if asked else None
        if bound is not None or (expected > budget and not decided):
            if bound is not None:
                refused = self._verdicts.full(entry, bound, budget)
            else:
                refused = self._verdicts.over_budget(entry, backend.limit, budget)
            pool.refused_count += 1
            fallen = self._book.fall(entry, refused)
            return (refused, *fallen, *(self._book.dispatch(backend, now) if fallen else ()))
        victim = pool.crowded_by(entry) if crowded else None
        until, last = now + GRACE * budget, request.deadline_at - request.predicted.p50
        if decided or last < until:
            until = last if last > now else now  # noqa: FURB136 - a call costs more than comparing
        entry.until = until
        if self._tenants.bounded:
            self._tenants.enter(request.tenant, now)
        self._book.wait(entry, pool, group, now)
        queued = Queued(request.id, pool.name, expected, until, backend.limit)
        if backend.blocked is None and victim is None and entry.seats == 1 and not entry.memory:
            return (queued,)  # it neither blocks, nor passes one that does, nor moved others
        decisions: list[Decision] = [queued]
        if victim is not None:
            expected = backend.wait(pool, victim)
            decisions += self._book.refuse(victim, self._verdicts.pushed_out(victim, pool, expected, now))
        decisions += self._book.dispatch(backend, now)
        return tuple(decisions)

    def finish(self, id: str, outcome: Outcome, seconds: float, now: float) -> tuple[Decision, ...]:
        """Admitted work has ended; its seats go to whoever has room next."""
        if id in self._exempt:
            self._exempt.remove(id)
            return ()
        entry = self._book.entries[id]
        if entry.waiting:
            raise KeyError(id)
        return tuple(self._book.dispatch(self._book.end(entry, outcome, seconds, now), now))

    def cancel(self, id: str, now: float) -> tuple[Decision, ...]:
        """The caller has gone; seats that it held go to whoever has room next."""
        entry = self._book.entries.get(id)
        if entry is None:
            self._exempt.discard(id)
            return ()
        if not entry.waiting:
            return self.finish(id, Outcome.DROPPED, now - entry.since, now)
        self._book.leave(entry)
        return tuple(self._book.dispatch(self._backend_of[entry.request.pool], now))

    def tick(self, now: float) -> tuple[Decision, ...]:
        """Ends waits whose budget is used up, lets the limits follow the backends, and stops hopeless work."""
        decisions: list[Decision] = []
        self._book.expire(now, decisions)
        for backend in self._listening:
            due = backend.policy.next_tick()
            if due is not None and due <= now:
                backend.policy.tick(any(pool.waiting for pool in backend.sharing), now)
                if backend.resize():
                    decisions += self._book.dispatch(backend, now)
        self._book.stop_hopeless(now, decisions)
        return tuple(decisions)

    def signal(self, backend: str, news: Signal | Pressure, now: float) -> tuple[Decision, ...]:
        """A backend has told something about itself; its limit may follow at once."""
        found = self._backends[backend]
        found.policy.signal(news, now)
        return tuple(self._book.dispatch(found, now)) if found.resize() else ()

    def lease(self, backend: str, seats: int | None, now: float) -> tuple[Decision, ...]:
        """Bounds the seats of a backend that others share; what runs beyond them may end."""
        found = self._backends[backend]
        found.leased = seats
        return tuple(self._book.dispatch(found, now)) if found.resize() else ()

    def charge(self, pool: PoolName, tenant: str, seconds: float, now: float) -> None:
        """Books work that other brokers did for a tenant, so that it gains nothing by asking many of them."""
        found = self._pools[pool]
        flow = found.flow_of(tenant, self._tenants.limits(tenant))
        flow.queue.correct(flow, 0.0, seconds)
        found.ledger.add(tenant, seconds, now)

    def refusal(
        self,
        pool: PoolName,
        tenant: str,
        now: float,
        criticality: Criticality = Criticality.CRITICAL,
        budget: float = math.inf,
    ) -> Refused | None:
        """Whether every request of a tenant would be refused: draining, over its quota, or for its wait."""
        if self._draining:
            return self._verdicts.draining("", pool, Stage.ARRIVAL)
        if self._tenants.bounded and (excess := self._tenants.excess(tenant, now)) is not None:
            return self._verdicts.over_quota("", pool, excess)
        found, backend = self._pools[pool], self._backend_of[pool]
        flow = found.known_flow(tenant, self._tenants.limits(tenant), criticality)
        if flow is None or (expected := foregone(found, backend, flow, criticality, budget, now)) is None:
            return None
        return self._verdicts.foregone(found, backend.limit, expected, budget)

    def drain(self, now: float) -> tuple[Decision, ...]:
        """Refuses those who wait and, from now on, all who come."""
        self._draining = self._guarded = True
        decisions: list[Decision] = []
        for entry in [entry for entry in self._book.entries.values() if entry.waiting]:
            request = entry.request
            self._book.leave(entry)
            self._pools[request.pool].refused_count += 1
            decisions.append(
                self._verdicts.draining(request.id, request.pool, Stage.QUEUE, now - entry.since)
            )
        return tuple(decisions)

    def next_wakeup(self) -> float | None:
        """The next instant at which a budget ends, a limit is decided, or hopeless work is looked for."""
        wakeup = self._book.next_wakeup()
        for backend in self._listening:
            due = backend.policy.next_tick()
            if due is not None and due < wakeup:
                wakeup = due
        return None if wakeup == math.inf else wakeup

    def state(self, now: float) -> tuple[PoolState, ...]:
        """Every pool with its tenants."""
        return tuple(
            reading.pool_state(pool, self._backend_of[pool.name], now) for pool in self._pools.values()
        )

    def loads(self) -> tuple[PoolLoad, ...]:
        """Every pool in three numbers."""
        return tuple(reading.pool_load(pool) for pool in self._pools.values())

    def backends(self) -> tuple[BackendLoad, ...]:
        """Every backend in numbers."""
        return tuple(backend.load() for backend in self._backends.values())
