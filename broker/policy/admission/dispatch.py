"""Who is served next: pools in turn, tenants in turn, and narrow requests past a wide one that has no room yet."""

from __future__ import annotations

import math
from operator import itemgetter

from broker.policy.admission.backend import Backend
from broker.policy.admission.fair_queue import Entry, FairQueue
from broker.policy.admission.pool import Pool

SCANNED_FLOWS, SCANNED_WAITERS = 16, 4
"""How far dispatch looks past requests that have no room, so that a decision takes bounded time."""


def next_turn(backend: Backend, now: float) -> Entry | None:
    """The next request to start, or to give up because its time to wait has passed; None when nobody has room.

    A wide request at the head does not block the seats that it cannot use yet: whoever is expected to end before it
    could start goes first. After a while the seats are held for it, so that it starts at all.
    """
    if backend.held is not None and (held := backend.recheck()) is not None:
        return held
    pools = backend.in_turn()
    if pools:
        if backend.blocked is None:  # the head of the queue is next where it takes no search to see that
            pool = pools[0]
            head = pool.queue.head()
            used = head.flow.seats_used
            capped = used and used + head.seats > _most(pool, head.flow.queue)
            if not capped and (now >= head.until or backend.room(pool, head) == "yes"):
                return head
        search = _Search(backend, now)
        for pool in pools:
            entry = search.look(pool)
            if entry is not None:
                return entry
        if search.blocked is not None:
            return None
    if backend.used < backend.limit:
        backend.blocked = backend.held = None
    return None


class _Search:
    """One look through the queues of a backend."""

    __slots__ = ("_horizon", "backend", "blocked", "now")

    def __init__(self, backend: Backend, now: float) -> None:
        self.backend = backend
        self.now = now
        self.blocked: Entry | None = None
        self._horizon = 0.0

    def look(self, pool: Pool) -> Entry | None:
        """The next turn in a pool."""
        now, backend = self.now, self.backend
        longest = backend.longest(pool)
        for queue in pool.queue.waiting():
            most = _most(pool, queue)
            for flow in queue.first(SCANNED_FLOWS):
                for _, entry in flow.waiters[:SCANNED_WAITERS]:
                    if now >= entry.until:
                        return entry
                    if flow.seats_used and flow.seats_used + entry.seats > most:
                        break
                    if entry.p90 > longest and entry.seats == 1 and not entry.memory:
                        continue  # it is not lent what is free
                    fit = backend.room(pool, entry)
                    if fit == "yes" and (self.blocked is None or now + entry.p90 <= self._horizon):
                        return entry
                    if fit == "too_wide":
                        self._block(entry)
        return None

    def _block(self, entry: Entry) -> None:
        """Notes the first request in turn that has no room, and holds seats for it when it has waited enough."""
        if self.blocked is not None:
            return
        self.blocked = entry
        backend, now = self.backend, self.now
        if backend.blocked is not entry:
            backend.blocked, backend.blocked_since = entry, now
        if now - backend.blocked_since >= backend.hold_after:
            backend.held = entry
        self._horizon = _room_at(entry, backend, now)


def _room_at(entry: Entry, backend: Backend, now: float) -> float:
    """The instant at which so much has probably ended that a wide request has room."""
    seats, memory = backend.limit - backend.used, backend.memory_limit - backend.memory_used
    progress = backend.policy.progress
    ends = [
        (max(now, running.since + running.request.predicted.p50 / progress), running)
        for pool in backend.sharing
        for running in pool.running.values()
    ]
    for end, running in sorted(ends, key=itemgetter(0)):
        if seats >= entry.seats and memory >= entry.memory:
            break
        seats, memory, now = seats + running.seats, memory + running.memory, end
    return now


def _most(pool: Pool, queue: FairQueue) -> float:
    """Seats of the pool that one tenant may use: a part of them while others of its level wait."""
    if queue.waiting_flows < 2:
        return math.inf
    seats = pool.limits.in_flight if pool.own_seats else max(pool.entitled, pool.seats_used)
    return max(1, int(pool.limits.tenant_share * seats))
