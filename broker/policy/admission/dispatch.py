"""Who is served next: pools in turn, tenants in turn, and narrow requests past a wide one that has no room yet."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

from broker.policy.admission.backend import Backend, Fit
from broker.policy.admission.entry import Entry, Flow
from broker.policy.admission.pool import Pool

SCANNED_FLOWS, SCANNED_WAITERS = 16, 4
"""How far dispatch looks past requests that have no room, so that a decision takes bounded time."""


@dataclass(frozen=True, slots=True)
class Turn:
    """Whose turn it is: a request that starts, or, if ``late``, one whose time to wait has passed."""

    pool: Pool
    entry: Entry
    late: bool = False


def next_turn(backend: Backend, now: float) -> Turn | None:
    """The next request to start or to give up, or None when nobody who waits has room.

    A wide request at the head does not block the seats that it cannot use yet: whoever is expected to end before it
    could start goes first. After a while the seats are held for it, so that it starts at all.
    """
    search = _Search(backend, now)
    for pool in backend.in_turn():
        turn = search.look(pool)
        if turn is not None:
            return turn
    if search.blocked is None and backend.used < backend.limit:
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

    def look(self, pool: Pool) -> Turn | None:
        """The next turn in a pool."""
        queue, now, backend = pool.queue, self.now, self.backend
        seats = pool.limits.in_flight if pool.own_seats else max(pool.entitled, pool.seats_used)
        most = max(1, int(pool.limits.tenant_share * seats)) if queue.waiting_flows > 1 else None
        for flow in islice(queue.candidates(), SCANNED_FLOWS):
            for _, entry in flow.waiters[:SCANNED_WAITERS]:
                if now >= entry.until:
                    return Turn(pool, entry, late=True)
                if most is not None and _over_share(flow, entry, most):
                    break
                fit = backend.fit(pool, entry)
                if fit is Fit.POOL_FULL or fit is Fit.NO_SEAT:
                    return None
                if fit is Fit.TOO_WIDE:
                    self._block(entry)
                elif fit is Fit.YES and (self.blocked is None or now + entry.p90 <= self._horizon):
                    return Turn(pool, entry)
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
        self._horizon = backend.room_at(entry, now)


def _over_share(flow: Flow, entry: Entry, most: int) -> bool:
    return flow.seats_used + entry.seats > most and flow.seats_used > 0
