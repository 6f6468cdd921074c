"""One backend of the core: how many seats there are, whose they are, and who may borrow them for how long.

Every pool owns a share. A pool that has work gets at least what it owns; what a pool does not use is lent, because
queries cannot be stopped cheaply only to requests that are predicted to end within a bound, and never all of it. So a
seat that a dashboard needs comes back within seconds. Which pool is served next is decided like everything else that
is shared here, by start-time fair queuing over predicted work: in the long run every pool with work has its share.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Literal

from broker.domain.pool import BackendLimits, PoolName
from broker.policy.admission.fair_queue import Entry
from broker.policy.admission.limit import LimitPolicy, StaticLimit
from broker.policy.admission.pool import Pool
from broker.policy.admission.values import BackendLoad, Outcome, Tuning

ROUNDING = 1e-9
"""Two whole seats are two whole seats, whatever is left of them in floating point."""
MEMORY_SHARE = 0.8
"""Part of a backend's memory that predicted peaks may fill; predictions are wrong, and sorts are not all there is."""
_by_start = attrgetter("start")


@dataclass(frozen=True, slots=True)
class BackendSpec:
    """A backend, the pools whose requests it serves, and the policy that sets its limit."""

    name: str
    pools: tuple[PoolName, ...]
    limits: BackendLimits
    policy: LimitPolicy


Fit = Literal["yes", "pool_full", "no_seat", "too_wide", "not_lent"]
"""Whether a request may start now, and if not, what it waits for.

``pool_full``: its pool has as many requests in flight as it may. ``no_seat``: no seat is free. ``too_wide``: seats are
free, but not enough of them, or not enough memory. ``not_lent``: the free seats belong to other pools, which do not
lend them to this request.
"""


class Backend:
    """Seats and memory of one backend, shared by pools."""

    def __init__(self, spec: BackendSpec, pools: Mapping[PoolName, Pool], tuning: Tuning) -> None:
        self._max_debt = tuning.max_debt
        self.hold_after = tuning.hold_after
        self.name = spec.name
        self.limits = spec.limits
        self.policy = spec.policy
        self.pools: Sequence[Pool] = [pools[name] for name in spec.pools]
        self.sharing: Sequence[Pool] = [pool for pool in self.pools if not pool.own_seats]
        self.own: Sequence[Pool] = [pool for pool in self.pools if pool.own_seats]
        self._alone = len(self.sharing) < 2
        self._single = len(self.pools) < 2
        self.listens = type(spec.policy) is not StaticLimit
        """Whether its policy is to hear what starts and ends, and decides at times: all but the static one do."""
        self.leased: int | None = None
        self.limit = 0
        self.used = 0
        self.memory_used = 0
        self.virtual = 0.0
        self.held: Entry | None = None
        """A wide request that has waited so long for its seats that nobody else may take them."""
        self.blocked: Entry | None = None
        """The request whose turn it is and which has no room, since ``blocked_since``."""
        self.blocked_since = 0.0
        self.memory_limit = MEMORY_SHARE * spec.limits.memory if spec.limits.memory else math.inf
        self.resize()

    def resize(self) -> bool:
        """Takes over the limit of the policy, within the lease; returns whether anything changed."""
        before = self.limit
        limit = self.policy.limit
        self.limit = limit if self.leased is None else min(limit, self.leased)
        if self.limit == before:
            return False
        total = sum(pool.limits.share for pool in self.sharing) or 1.0
        room = self.limit - 1  # guards never take the last seat from whoever has work
        for pool in sorted(self.sharing, key=lambda p: -p.limits.share):
            owned = self.limit * pool.limits.share / total
            pool.entitled = max(1, round(owned))
            kept = max(pool.limits.reserved, int(owned - owned * pool.limits.lendable + ROUNDING))
            pool.guard = max(0, min(kept, pool.entitled, room)) if len(self.sharing) > 1 else 0
            room -= pool.guard
        return True

    def fit(self, pool: Pool, entry: Entry) -> Fit:
        """Whether a request of a pool may start now."""
        if len(pool.running) >= pool.limits.in_flight:
            return "pool_full"
        if not pool.own_seats and self.used >= self.limit:
            return "no_seat"
        return self.room(pool, entry)

    def room(self, pool: Pool, entry: Entry) -> Fit:
        """The same where not all seats are taken, and not all that the pool may have."""
        if pool.own_seats:
            return "yes"
        free = self.limit - self.used - entry.seats
        if free < 0 or (
            entry.memory and self.memory_used and self.memory_used + entry.memory > self.memory_limit
        ):
            return "too_wide"
        if self.held is not None and self.held is not entry and free < self.held.seats:
            return "too_wide"
        return "yes" if self._alone or self._lent(pool, entry, free) else "not_lent"

    def full(self, pool: Pool) -> bool:
        """Whether no request of a pool may start now, whatever it is like."""
        return len(pool.running) >= pool.limits.in_flight or (not pool.own_seats and self.used >= self.limit)

    def _lent(self, pool: Pool, entry: Entry, free: int) -> bool:
        """Whether the others let a pool have seats for a request that leaves ``free`` ones."""
        after = pool.seats_used + entry.seats
        borrowing = after > pool.entitled
        if borrowing and after > pool.limits.borrow * pool.entitled and len(self.sharing) > 1:
            return False
        for other in self.sharing:
            if other is pool:
                continue
            if borrowing and entry.p90 > other.limits.reclaim:
                return False
            kept = other.guard - other.seats_used
            if kept > 0:
                free -= kept
        return free >= 0

    def longest(self, pool: Pool) -> float:
        """How long a request of a pool for one seat and no memory may be predicted to take (p90) to be lent it.

        Infinite too where that is not what decides.
        """
        if self._alone or pool.own_seats or self.held is not None or self.full(pool):
            return math.inf
        after = pool.seats_used + 1
        borrowing = after > pool.entitled
        if borrowing and after > pool.limits.borrow * pool.entitled:
            return -math.inf
        free, longest = self.limit - self.used - 1, math.inf
        for other in self.sharing:
            if other is pool:
                continue
            if borrowing and other.limits.reclaim < longest:
                longest = other.limits.reclaim
            if (kept := other.guard - other.seats_used) > 0:
                free -= kept
        return longest if free >= 0 else -math.inf

    def activate(self, pool: Pool) -> None:
        """A pool that was idle has work again: it saved nothing up meanwhile."""
        pool.start = max(pool.start, self.virtual)

    def occupy(self, pool: Pool, entry: Entry, now: float) -> None:
        """Gives seats and memory, and charges the pool."""
        pool.occupy(entry, now)
        self.memory_used += entry.memory
        if pool.own_seats:
            return
        self.used += entry.seats
        if self.listens:
            self.policy.started(entry.request.id, entry.request.predicted.p50, entry.seats, now)
        if self.blocked is not None or self.held is not None:
            self.unblock(entry)
        if self._single:
            return  # it takes turns with nobody
        if self.virtual < pool.start:  # noqa: PLR1730 - a call costs more than comparing
            self.virtual = pool.start
        pool.start += entry.cost / pool.limits.share

    def release(self, pool: Pool, entry: Entry, outcome: Outcome, seconds: float, now: float) -> None:
        """Takes them back, and corrects the charge."""
        self.memory_used -= entry.memory
        if pool.own_seats:
            pool.release(entry, outcome, seconds, now, 1.0)
            return
        self.used -= entry.seats
        if self.listens:
            self.policy.ended(entry.request.id, outcome, seconds, now)
        work = pool.release(entry, outcome, seconds, now, self.policy.progress)
        if self._single:
            return
        share, virtual = pool.limits.share, self.virtual
        bound = self._max_debt / share
        start = pool.start + (work - entry.cost) / share
        if start < (least := virtual - bound):
            start = least
        elif start > (most := virtual + bound):
            start = most
        pool.start = start

    def recheck(self) -> Entry | None:
        """The request for which seats are held, if it has room now, whoever else would be next.

        Seats are held no longer for one that waits for something else by now: for its pool, or for a loan.
        """
        held = self.held
        if held is not None:
            pool = next(pool for pool in self.pools if pool.name is held.request.pool)
            fit = self.fit(pool, held)
            if fit == "yes":
                return held
            if fit in ("not_lent", "pool_full"):
                self.held = self.blocked = None
        return None

    def unblock(self, entry: Entry) -> None:
        """A request that starts or waits no more blocks nobody, and no seat is held for it."""
        if self.held is entry:
            self.held = None
        if self.blocked is entry:
            self.blocked = None

    def in_turn(self) -> Sequence[Pool]:
        """The pools with waiters that may have room, in the order of service."""
        pools = self.pools if self.used < self.limit else self.own
        if not pools:
            return pools
        if self._single:
            pool = pools[0]
            return pools if pool.waiting and len(pool.running) < pool.limits.in_flight else ()
        waiting = [pool for pool in pools if pool.waiting and len(pool.running) < pool.limits.in_flight]
        if len(waiting) > 1:
            waiting.sort(key=_by_start)
        return waiting

    def rate(self, pool: Pool) -> float:
        """Seat-seconds of predicted work that the backend does for a pool in a second, as things are.

        Pools that have waiters divide, by share, what the others leave.
        """
        cap = pool.limits.in_flight
        if pool.own_seats:
            return cap
        rate: float = self.limit
        if not self._alone:
            rate = max(min(pool.entitled, rate), self._divided(pool))
        return (cap if cap < rate else rate) * self.policy.progress  # noqa: FURB136 - a call costs more

    def _divided(self, pool: Pool) -> float:
        """The seats that are left to a pool by those that nobody waits for, divided with the others."""
        seats, shares = self.limit, pool.limits.share
        for other in self.sharing:
            if other is pool:
                continue
            if other.waiting:
                shares += other.limits.share
            else:
                seats -= max(other.seats_used, other.guard)
        return seats * pool.limits.share / shares

    def wait(self, pool: Pool, entry: Entry, more: float = 0.0) -> float:
        """Seconds until a request that waits, or joins now, starts, when no room is left.

        The work ahead, with what comes ``more`` of its tenant before it, and, on average, one request's that must end
        first, over the speed at which work is done.
        """
        rate = self.rate(pool)
        if rate <= 0.0:
            return math.inf
        flow = entry.flow
        ahead = flow.queue.ahead(flow, entry.rank, more)
        first = pool.mean_work if self._alone else self.first(pool, rate)
        return (ahead + (first or entry.work)) / rate

    def first(self, pool: Pool, rate: float) -> float:
        """The work that must end first before a pool's next request, on average; 0 while nothing is known.

        It is one of its own, done at its ``rate``. Of a pool that has nothing running it is whichever ends first of
        the others', since a seat that it owns comes to it: what its own work took when it last had some tells nothing,
        and could keep it out for as long as the others are busy.
        """
        if self._alone or pool.running or pool.own_seats or not self.used:
            return pool.mean_work
        work = sum([other.mean_work * other.seats_used for other in self.sharing])
        return work / self.used * rate / (self.limit * self.policy.progress)

    def load(self) -> BackendLoad:
        """The backend in numbers."""
        demand = tuple((pool.name, pool.seats_used + pool.waiting) for pool in self.sharing)
        return BackendLoad(
            self.name, self.limit, self.policy.wished, self.limits.seats, self.used, self.policy.progress,
            self.memory_used, demand,
        )  # fmt: skip


def alone(pool: Pool, tuning: Tuning) -> Backend:
    """A backend for a pool that shares its seats with nobody."""
    seats = pool.limits.in_flight
    spec = BackendSpec(pool.name.value, (pool.name,), BackendLimits(seats), StaticLimit(seats))
    return Backend(spec, {pool.name: pool}, tuning)
