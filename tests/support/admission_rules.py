"""The rules of the admission core for seats, written down a second time, plainly and without regard to speed."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from broker.domain.pool import PoolLimits, PoolName
from broker.domain.principal import Criticality
from broker.policy.admission.dispatch import SCANNED_WAITERS
from broker.policy.admission.scheduler import Scheduler
from broker.policy.admission.values import AdmissionRequest, RefusalReason, Refused
from tests.support.admission_events import World


@dataclass
class Asked:
    """A request as it arrived, with its place in the order of its tenant."""

    request: AdmissionRequest
    width: int
    rank: tuple[float, ...]


class Rules:
    """Who holds what, who may have what. ``limit`` is that of the shared backend."""

    def __init__(self, world: World, core: Scheduler) -> None:
        self.world = world
        self.core = core
        self.limit = world.seats
        self.asked: dict[str, Asked] = {}
        self.holding: dict[str, Asked] = {}
        self._before = 0

    def own(self, pool: PoolName) -> bool:
        return not self.world.seats or self.world.pools[pool].share == 0

    def sharing(self) -> dict[PoolName, PoolLimits]:
        return {name: limits for name, limits in self.world.pools.items() if not self.own(name)}

    def owned(self) -> dict[PoolName, int]:
        total = sum(limits.share for limits in self.sharing().values())
        return {
            name: max(1, round(self.limit * limits.share / total)) for name, limits in self.sharing().items()
        }

    def kept(self) -> dict[PoolName, int]:
        """Seats of each pool that nobody else may have, greatest share first; one is for whoever has work."""
        room, owned, kept = self.limit - 1, self.owned(), {}
        total = sum(limits.share for limits in self.sharing().values())
        for name, limits in sorted(self.sharing().items(), key=lambda item: -item[1].share):
            unlent = math.floor(round(self.limit * limits.share / total * (1 - limits.lendable), 6))
            kept[name] = max(0, min(max(limits.reserved, unlent), owned[name], room))
            room -= kept[name]
        return kept

    def used(self, pool: PoolName) -> int:
        return sum(each.width for each in self.holding.values() if each.request.pool is pool)

    def total(self) -> int:
        return sum(self.used(pool) for pool in self.sharing())

    def memory(self) -> int:
        return sum(each.request.memory for each in self.holding.values())

    def arrives(self, request: AdmissionRequest, now: float) -> None:
        seats = (
            self.world.pools[request.pool].in_flight if self.own(request.pool) else self.owned()[request.pool]
        )
        widest = max(1, int(0.15 * seats))
        width = min(widest, max(1, round(request.seats)))
        rank = (min(request.attempt, 3), now + self.budget(request, now), int(request.id))
        self.asked[request.id] = Asked(request, width, rank)

    def budget(self, request: AdmissionRequest, now: float) -> float:
        predicted = request.predicted
        work = math.sqrt(predicted.p50 * predicted.p90)
        return self.world.pools[request.pool].wait_fraction * max(0.0, request.deadline_at - now - work)

    def refused_at_arrival(self, refused: Refused, request: AdmissionRequest, now: float) -> None:
        if refused.reason is RefusalReason.DEADLINE_TOO_SHORT and not request.load_group:
            assert request.predicted.p10 > request.deadline_at - now
        if refused.limiting_factor == "wait_budget" and not request.load_group:
            assert refused.expected_wait > refused.allowed_wait == self.budget(request, now)
        if refused.limiting_factor == "queue":
            assert self.core.loads()[list(PoolName).index(request.pool)].queue_length >= refused.limit - 10

    def waits(self, request: AdmissionRequest) -> None:
        assert request.id not in self.holding

    def starts(self, request: AdmissionRequest, limit: int) -> None:
        """Checks that there is room, by the rules, and takes it."""
        pool, each = request.pool, self.asked[request.id]
        running = sum(other.request.pool is pool for other in self.holding.values())
        assert running < self.world.pools[pool].in_flight, "requests in flight are capped"
        if not self.own(pool):
            assert limit == self.limit
            assert self.total() + each.width <= self.limit, "no seat is given twice"
            held = self.memory()
            if request.memory and held and self.world.memory:
                assert held + request.memory <= 0.8 * self.world.memory
            assert self.lent(each), "seats of other pools are borrowed by the rules"
        self.holding[request.id] = each

    def leaves(self, id: str) -> None:
        self.asked.pop(id, None)
        self.holding.pop(id, None)

    def lent(self, each: Asked) -> bool:
        pool, limits = each.request.pool, self.world.pools[each.request.pool]
        owned, kept = self.owned(), self.kept()
        after = self.used(pool) + each.width
        others = [name for name in self.sharing() if name is not pool]
        if after > owned[pool] and others:
            # How long it is expected to take is taken from the core, which learns it where nothing is predicted.
            p90 = self.core._book.entries[each.request.id].p90
            if after > limits.borrow * owned[pool]:
                return False
            if any(p90 > self.world.pools[name].reclaim for name in others):
                return False
        free = self.limit - self.total() - each.width
        return free >= sum(max(0, kept[name] - self.used(name)) for name in others)

    def seats_are_conserved(self) -> None:
        for load in self.core.loads():
            assert load.seats_used == self.used(load.pool)
            if self.own(load.pool):
                assert load.seats_used <= load.seat_limit
        for backend in self.core.backends():
            assert backend.limit == self.limit
            assert backend.seats_used == self.total()
            assert backend.memory_used == self.memory()
            assert backend.seats_used <= max(backend.limit, self._before), (
                "only what ran before is beyond the limit"
            )
            self._before = backend.seats_used

    def no_seat_is_idle(self, until: Mapping[str, float], now: float) -> None:
        """That nobody waits who may start, unless a wide request stands before the seats.

        Looked at are, like by the core, the first few of every tenant and level that has not its part yet.
        """
        waiting: dict[tuple[PoolName, Criticality], dict[str, list[Asked]]] = defaultdict(
            lambda: defaultdict(list)
        )
        waiters = [self.asked[name] for name in until]
        for each in waiters:
            request = each.request
            waiting[request.pool, request.criticality][request.tenant].append(each)
        if any(self.blocked(each) for each in waiters if not self.own(each.request.pool)):
            return
        for (pool, _), tenants in waiting.items():
            limits = self.world.pools[pool]
            if sum(each.request.pool is pool for each in self.holding.values()) >= limits.in_flight:
                continue
            for members in tenants.values():
                for each in sorted(members, key=lambda each: each.rank)[:SCANNED_WAITERS]:
                    if len(tenants) > 1 and self.over_share(pool, each):
                        break
                    late = until[each.request.id] <= now
                    assert late or not self.own(pool), "no seat is idle while somebody waits"
                    if not late and self.total() + each.width <= self.limit:
                        assert not self.lent(each), "no seat is idle while somebody waits who may have it"

    def over_share(self, pool: PoolName, each: Asked) -> bool:
        """Whether a tenant would have more than its part at the level of a request."""
        limits, who = self.world.pools[pool], (pool, each.request.tenant, each.request.criticality)
        has = sum(
            other.width
            for other in self.holding.values()
            if (other.request.pool, other.request.tenant, other.request.criticality) == who
        )
        seats = limits.in_flight if self.own(pool) else max(self.owned()[pool], self.used(pool))
        return bool(has) and has + each.width > max(1, int(limits.tenant_share * seats))

    def blocked(self, each: Asked) -> bool:
        """Whether seats are free and a request needs more of them, or more memory, than there is."""
        if self.total() >= self.limit:
            return False
        wide = self.total() + each.width > self.limit
        memory = self.memory()
        heavy = each.request.memory and memory and memory + each.request.memory > 0.8 * self.world.memory
        return wide or bool(heavy and self.world.memory)

    def virtual_times(self) -> list[float]:
        """Of every queue and backend."""
        book = self.core._book
        queues = [level.virtual for pool in book.pools.values() for level in pool.queue.levels]
        return [*queues, *(backend.virtual for backend in book.backends.values())]
