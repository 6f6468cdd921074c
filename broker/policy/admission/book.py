"""Who waits and who runs: every move of a request after the decision at its arrival.

The book keeps the queues, the seats, the load groups and the quotas in step, so that a request is in one place at a
time and whatever ends it frees all that it held.
"""

from __future__ import annotations

import math
from heapq import heapify, heappop, heappush

from broker.domain.pool import PoolName
from broker.policy.admission.backend import Backend
from broker.policy.admission.dispatch import next_turn
from broker.policy.admission.fair_queue import Entry
from broker.policy.admission.groups import Group, LoadGroups
from broker.policy.admission.hopeless import chance_in_time
from broker.policy.admission.pool import Pool
from broker.policy.admission.tenants import Tenants
from broker.policy.admission.values import Admitted, Decision, Killed, Outcome, Refused, Stage, Tuning
from broker.policy.admission.verdicts import Verdicts

HOPELESS_BELOW = 0.02
"""Chance to end in time below which running work is stopped while others wait for its seats."""

SWEEP_ABOVE = 1024
"""Timers of requests that wait no more are swept out when there are so many of them."""


class Book:
    """Requests that wait or run, by id."""

    def __init__(
        self,
        pools: dict[PoolName, Pool],
        backends: dict[PoolName, Backend],
        tenants: Tenants,
        verdicts: Verdicts,
        tuning: Tuning,
    ) -> None:
        self._hopeless_every = tuning.hopeless_every
        self.entries: dict[str, Entry] = {}
        self.pools = pools
        self.waiting = 0
        """How many requests wait, in all pools."""
        self.backends = backends
        self.tenants = tenants
        self.verdicts = verdicts
        self.groups = LoadGroups(tuning.group_lifetime)
        self._timeouts: list[tuple[float, int, Entry]] = []
        self._sweep_at = SWEEP_ABOVE
        self._hopeless_at = math.inf

    def start(self, entry: Entry, pool: Pool, backend: Backend, now: float) -> Admitted:
        """Gives a request its seats."""
        request = entry.request
        admitted = Admitted(request.id, pool.name, now - entry.since, entry.expected, backend.limit)
        backend.occupy(pool, entry, now)
        return admitted

    def wait(self, entry: Entry, pool: Pool, group: Group | None, now: float) -> None:
        """Puts a request into its queue."""
        self.entries[entry.request.id] = entry
        entry.waiting = True
        self.waiting += 1
        if not pool.waiting:
            self.backends[pool.name].activate(pool)
        pool.waiting += 1
        entry.flow.queue.push(entry)
        if group is not None:
            group.waiting[entry.request.id] = entry
        if entry.until < math.inf:
            heappush(self._timeouts, (entry.until, entry.rank[2], entry))
            if len(self._timeouts) > self._sweep_at:
                self._sweep()
        if self.waiting == 1:
            self._hopeless_at = now + self._hopeless_every

    def end(self, entry: Entry, outcome: Outcome, seconds: float, now: float) -> Backend:
        """Takes the seats of a request back; returns the backend that has room now."""
        request = entry.request
        del self.entries[request.id]
        pool = self.pools[request.pool]
        backend = self.backends[request.pool]
        if self.tenants.bounded:
            self.tenants.leave(request.tenant)
        backend.release(pool, entry, outcome, seconds, now)
        return backend

    def leave(self, entry: Entry) -> None:
        """Lets a request wait no more; nobody is told."""
        request = entry.request
        entry.waiting = False
        self.waiting -= 1
        del self.entries[request.id]
        pool = self.pools[request.pool]
        pool.waiting -= 1
        entry.flow.queue.remove(entry)
        self.backends[request.pool].unblock(entry)
        if self.tenants.bounded:
            self.tenants.leave(request.tenant)
        if request.load_group:
            self.groups.left(entry)

    def refuse(self, entry: Entry, refused: Refused) -> list[Decision]:
        """Ends a wait with a refusal, and that of the others of its load group with it."""
        self.leave(entry)
        self.pools[entry.request.pool].refused_count += 1
        return [refused, *self.fall(entry, refused)]

    def fall(self, entry: Entry, refused: Refused) -> list[Decision]:
        """The waiting members of a refused request's load group fall with it."""
        if not entry.request.load_group:
            return []
        fallen: list[Decision] = []
        for member in self.groups.fall(entry, refused):
            self.leave(member)
            self.pools[member.request.pool].refused_count += 1
            fallen.append(self.verdicts.alike(refused, member))
        return fallen

    def dispatch(self, backend: Backend, now: float) -> list[Decision]:
        """Starts whoever has room now."""
        decisions: list[Decision] = []
        while self.waiting and (entry := next_turn(backend, now)) is not None:
            if now >= entry.until:
                decisions += self._late(entry, Stage.DISPATCH, now)
                continue
            pool = self.pools[entry.request.pool]
            pool.waiting -= 1
            self.waiting -= 1
            entry.waiting = False
            entry.flow.queue.take(entry)
            if entry.request.load_group:
                self.groups.left(entry)
            decisions.append(self.start(entry, pool, backend, now))
            if backend.used >= backend.limit and backend.held is None and not backend.own:
                break  # nobody at all has room
        return decisions

    def expire(self, now: float, decisions: list[Decision]) -> None:
        """Ends the waits whose time has passed."""
        timeouts = self._timeouts
        touched: list[Backend] = []
        while timeouts and timeouts[0][0] <= now:
            entry = heappop(timeouts)[2]
            if entry.waiting:
                decisions += self._late(entry, Stage.QUEUE, now)
                touched.append(self.backends[entry.request.pool])
        for backend in dict.fromkeys(touched):  # whoever stood behind them may have room
            decisions += self.dispatch(backend, now)

    def stop_hopeless(self, now: float, decisions: list[Decision]) -> None:
        """Tells to stop running work that will hardly end in time, where others wait for its seats."""
        if now < self._hopeless_at:
            return
        for pool in self.pools.values():
            backend = self.backends[pool.name]
            if not any(other.waiting for other in backend.pools):
                continue
            for entry in pool.running.values():
                if entry.killed or entry.request.deadline_at == math.inf:
                    continue
                left = entry.request.deadline_at - now
                chance = chance_in_time(
                    entry.request.predicted, now - entry.since, left, backend.policy.progress
                )
                if chance < HOPELESS_BELOW:
                    entry.killed = True
                    decisions.append(Killed(entry.request.id, pool.name, chance, max(0.0, left)))
        self._hopeless_at = now + self._hopeless_every if self.waiting else math.inf

    def next_wakeup(self) -> float:
        """The next instant at which :meth:`expire` or :meth:`stop_hopeless` has something to do; infinite for none."""
        timeouts, hopeless = self._timeouts, self._hopeless_at if self.waiting else math.inf
        while timeouts:
            until, _, entry = timeouts[0]
            if entry.waiting:
                return until if until < hopeless else hopeless  # noqa: FURB136 - a call costs more than comparing
            heappop(timeouts)  # who has left is skipped when his time comes
        return hopeless

    def _sweep(self) -> None:
        self._timeouts = [timeout for timeout in self._timeouts if timeout[2].waiting]
        heapify(self._timeouts)
        self._sweep_at = SWEEP_ABOVE + 2 * len(self._timeouts)

    def _late(self, entry: Entry, stage: Stage, now: float) -> list[Decision]:
        pool = self.pools[entry.request.pool]
        backend = self.backends[pool.name]
        expected = backend.wait(pool, entry)
        return self.refuse(entry, self.verdicts.too_late(entry, stage, backend.limit, expected, now))
