"""A hundred thousand requests come, end, are given up and drained: nothing of them is left in the core."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from broker.domain.pool import TenantLimits
from broker.domain.principal import Criticality
from broker.policy.admission.scheduler import Scheduler
from broker.policy.admission.values import (
    AdmissionRequest,
    Admitted,
    Decision,
    Outcome,
    Quantiles,
    Queued,
    Refused,
    Signal,
)
from tests.support.admission_model import nothing_left
from tests.support.scheduling import DASHBOARD, EXPLORATION, JOB, Adjustable, limits, shared

REQUESTS, TENANTS, CYCLES = 100_000, 5000, 10
POOLS = (DASHBOARD, EXPLORATION, JOB)


class Crowd:
    """Random callers of one core, more than it can serve; drained now and then, as if the broker were replaced."""

    def __init__(self) -> None:
        self.random = Random(1)
        self.now = 0.0
        self.count = 0
        self.running: list[str] = []
        self.waiting: dict[str, None] = {}
        self.ended = 0
        self.policy = Adjustable(24)

    def core(self) -> Scheduler:
        plain = limits(reserved=1, tenant_share=0.75, queue=800)
        pools = {DASHBOARD: plain, EXPLORATION: replace(plain, lendable=0.5), JOB: replace(plain, share=0.5)}
        few = {f"t{n}": TenantLimits(weight=2.0, in_flight=3, rate=50.0) for n in range(50)}
        return shared(24, pools, memory=10_000, tenants=few, policy=self.policy)

    def request(self) -> AdmissionRequest:
        random, self.count = self.random, self.count + 1
        middle = random.choice((0.0, 0.05, 0.2, 1.0))
        tenant = int(TENANTS * random.random() ** 4)
        return AdmissionRequest(
            str(self.count), f"t{tenant}", random.choice(POOLS), self.now + random.choice((0.1, 2.0, 20.0, 1e9)),
            random.choice(list(Criticality)), Quantiles(middle / 2, middle, 3 * middle),
            random.choice((1.0, 1.0, 1.0, 2.0)), random.choice((0, 0, 0, 800)), random.choice((0, 0, 1)),
            f"g{self.count // 7}" if random.random() < 0.2 else "", random.random() < 0.02,
        )  # fmt: skip

    def take(self, decisions: tuple[Decision, ...]) -> None:
        for decision in decisions:
            match decision:
                case Admitted():
                    self.waiting.pop(decision.id, None)
                    self.running.append(decision.id)
                case Queued():
                    self.waiting[decision.id] = None
                case Refused():
                    self.waiting.pop(decision.id, None)
                    self.ended += 1
                case _:
                    pass  # killed work ends like other work

    def end_one(self, core: Scheduler) -> None:
        random = self.random
        if self.waiting and random.random() < 0.1:
            gone = next(iter(self.waiting))
            del self.waiting[gone]
            self.take(core.cancel(gone, self.now))
        elif self.running:
            ended = self.running.pop(random.randrange(len(self.running)))
            if random.random() < 0.1:
                self.take(core.cancel(ended, self.now))
            else:
                self.take(core.finish(ended, random.choice(list(Outcome)), random.expovariate(5.0), self.now))
        else:
            return
        self.ended += 1

    def live(self, core: Scheduler, until: int) -> None:
        """Requests come, about twice as many as can be served, until there were so many."""
        random = self.random
        while self.count < until:
            self.now += random.expovariate(200.0)
            self.take(core.offer(self.request(), self.now))
            if random.random() < 0.5:
                self.end_one(core)
            due = core.next_wakeup()
            if due is not None and due <= self.now:
                self.take(core.tick(self.now))
            if random.random() < 0.001:
                self.policy.limit = random.randint(1, 40)
                self.take(core.signal("db", Signal.RECOVERED, self.now))


def test_nothing_is_left_of_a_hundred_thousand_requests() -> None:
    crowd = Crowd()
    most = 0
    for cycle in range(1, CYCLES + 1):
        core = crowd.core()
        crowd.live(core, cycle * REQUESTS // CYCLES)
        most = max(most, len(crowd.waiting))
        if cycle % 2:  # half of the brokers are drained with everybody waiting, the others are left alone
            crowd.take(core.drain(crowd.now))
            assert not crowd.waiting
        while crowd.running or crowd.waiting:
            crowd.now += 0.01
            crowd.end_one(core)
            crowd.take(core.tick(crowd.now))
        nothing_left(core)
        assert all(load.seats_used == load.queue_length == 0 for load in core.loads())
        assert core.backends()[0].memory_used == 0
    assert crowd.ended == crowd.count == REQUESTS
    assert most > 50


def test_what_is_remembered_of_those_who_have_gone_is_bounded() -> None:
    crowd = Crowd()
    core = crowd.core()
    crowd.live(core, 30_000)
    book = core._book  # what is remembered does not show outside
    assert len(book._timeouts) <= 1024 + 2 * len(book.entries) + 1
    for pool in book.pools.values():
        for level in pool.queue.levels:
            assert len(level.flows) <= 2 * (1024 + level.waiting_flows)
    assert len(book.groups._groups) <= 4096
