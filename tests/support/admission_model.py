"""A model of the admission core that knows the rules by itself and checks every decision against them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from broker.domain.pool import PoolName
from broker.policy.admission.scheduler import Scheduler
from broker.policy.admission.values import (
    AdmissionRequest,
    Admitted,
    Decision,
    Killed,
    Outcome,
    Queued,
    RefusalReason,
    Refused,
    Signal,
    Stage,
)
from tests.support.admission_events import (
    LIMITED,
    TENANTS,
    Arrive,
    Charge,
    Drain,
    End,
    Event,
    Pass,
    Resize,
    World,
    predicted,
)
from tests.support.admission_rules import Rules

POOLS = tuple(PoolName)


@dataclass
class Model:
    """Feeds events and checks every decision against what it knows by itself."""

    world: World
    scale: float = 1.0
    names: tuple[str, ...] = TENANTS
    now: float = 0.0
    limited: str = LIMITED
    log: list[Decision] = field(default_factory=list)
    draining: bool = False
    leased: int | None = None
    requests: dict[str, AdmissionRequest] = field(default_factory=dict)
    exempt: set[str] = field(default_factory=set)
    until: dict[str, float] = field(default_factory=dict)
    running: dict[str, float] = field(default_factory=dict)
    killed: set[str] = field(default_factory=set)
    ended: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.core, self.policy = self.world.core(self.scale, self.limited)
        self.rules = Rules(self.world, self.core)
        self._virtual: list[float] = []

    def play(self, script: list[Event]) -> None:
        for event in script:
            self.step(event)
            self.check()

    def step(self, event: Event) -> None:
        match event:
            case Arrive():
                self.arrive(event)
            case End(pick, outcome):
                under_way = [*self.running, *self.until, *self.exempt]
                if under_way:
                    self.end(under_way[pick % len(under_way)], outcome)
            case Pass(seconds, punctual):
                self.pass_time(seconds * self.scale, punctual=punctual)
            case Resize(seats, leased):
                if self.world.seats:
                    self.resize(seats, leased=leased)
            case Charge(tenant, seconds):
                self.core.charge(POOLS[0], self.names[tenant], seconds * self.scale, self.now)
            case Drain():
                self.draining = True
                self.accept(self.core.drain(self.now))
                assert not self.until

    def pass_time(self, seconds: float, *, punctual: bool) -> None:
        self.now += seconds
        wakeup = self.core.next_wakeup()
        if punctual and wakeup is not None and wakeup <= self.now:
            self.accept(self.core.tick(self.now))
            assert all(until > self.now for until in self.until.values())
            again = self.core.next_wakeup()
            assert again is None or again > self.now

    def resize(self, seats: int, *, leased: bool) -> None:
        if leased:
            self.leased = None if seats > self.world.seats else seats
            decisions = self.core.lease("db", self.leased, self.now)
        else:
            self.policy.limit = seats
            decisions = self.core.signal("db", Signal.RECOVERED, self.now)
        self.rules.limit = min(self.policy.limit, self.leased or self.policy.limit)
        self.accept(decisions)

    def arrive(self, event: Arrive) -> None:
        request = AdmissionRequest(
            str(len(self.requests)), self.names[event.tenant], POOLS[event.pool],
            self.now + event.slack * self.scale, event.criticality, predicted(event.p50 * self.scale),
            event.seats, event.memory, event.attempt, event.group, event.exempt,
        )  # fmt: skip
        self.requests[request.id] = request
        idle = not self.running and not self.until
        if not request.exempt:
            self.rules.arrives(request, self.now)
        decisions = self.core.offer(request, self.now)
        first = decisions[0]
        assert first.id == request.id
        if isinstance(first, Refused):
            self.rules.refused_at_arrival(first, request, self.now)
            member = request.load_group and first.reason is not RefusalReason.DEADLINE_TOO_SHORT
            overloaded = first.reason is RefusalReason.OVERLOADED
            assert not (idle and overloaded and not member), "nobody is refused for load beside idle seats"
        self.accept(decisions)

    def end(self, id: str, outcome: Outcome | None) -> None:
        self.until.pop(id, None)
        since = self.running.pop(id, self.now)
        held = id in self.exempt or id in self.rules.holding
        self.exempt.discard(id)
        self.rules.leaves(id)
        self.ended.add(id)
        if outcome is None or not held:
            self.accept(self.core.cancel(id, self.now))
        else:
            self.accept(self.core.finish(id, outcome, self.now - since, self.now))

    def accept(self, decisions: tuple[Decision, ...]) -> None:
        self.log.extend(decisions)
        for decision in decisions:
            assert decision.id not in self.ended, "a request ends once"
            request = self.requests[decision.id]
            match decision:
                case Killed():
                    assert decision.id in self.running, "only running work is stopped"
                    assert decision.id not in self.killed, "it is told once"
                    assert decision.chance < 0.02
                    self.killed.add(decision.id)
                case Queued():
                    assert decision.id not in self.until, "a request is queued once"
                    assert decision.until <= max(self.now, request.deadline_at - request.predicted.p50)
                    self.until[decision.id] = decision.until
                    self.rules.waits(request)
                case Admitted() if request.exempt:
                    self.exempt.add(decision.id)
                case Admitted():
                    assert decision.id not in self.running, "a request runs once"
                    assert not self.draining
                    assert self.now < request.deadline_at, "nobody is admitted after the deadline"
                    if decision.id in self.until:
                        assert self.now < self.until.pop(decision.id), "a wait ends in time"
                    self.rules.starts(request, decision.limit)
                    self.running[decision.id] = self.now
                case Refused():
                    assert decision.id not in self.running, "an admitted request ends by its permit"
                    waited = self.until.pop(decision.id, None) is not None
                    assert waited == (decision.stage is not Stage.ARRIVAL) or request.load_group
                    self.rules.leaves(decision.id)
                    self.ended.add(decision.id)

    def check(self) -> None:
        self.rules.seats_are_conserved()
        waiting = [self.requests[name] for name in self.until]
        for load in self.core.loads():
            queued = sum(request.pool is load.pool for request in waiting)
            assert load.queue_length == queued <= self.world.pools[load.pool].queue
        if not self.draining:
            self.rules.no_seat_is_idle(self.until, self.now)
        wakeup = self.core.next_wakeup()
        earliest = min(self.until.values(), default=None)
        assert (wakeup is None) == (earliest is None), "timers run while somebody waits, and only then"
        assert wakeup is None or earliest is None or wakeup <= earliest
        virtual = self.rules.virtual_times()
        assert all(a <= b for a, b in zip(self._virtual, virtual, strict=False)), "virtual time is monotone"
        self._virtual = virtual
        for state in self.core.state(self.now):
            assert sum(t.seats_used for t in state.tenants) == state.seats_used
            assert sum(t.queue_length for t in state.tenants) == state.queue_length

    def finish_all(self) -> None:
        while self.running or self.until or self.exempt:
            self.end(next(iter([*self.running, *self.until, *self.exempt])), Outcome.SUCCESS)
            self.check()
        assert self.ended == set(self.requests), "every request ends"
        nothing_left(self.core)


def nothing_left(core: Scheduler) -> None:
    """That a core in which nothing waits or runs holds nothing for anybody, inside where a leak does not show."""
    assert core.next_wakeup() is None
    assert not core._exempt
    book = core._book
    assert not book.entries
    assert not book._timeouts
    assert not any(group.waiting for group in book.groups._groups.values())
    usage: Counter[int] = Counter(each.in_flight for each in book.tenants._usage.values())
    assert set(usage) <= {0}, "quotas are given back"
    for pool in book.pools.values():
        assert not pool.running
        assert (pool.seats_used, pool.waiting) == (0, 0)
        for queue in pool.queue.levels:
            assert (queue.work, queue.waiting_flows) == (0, 0)
        for flow in pool.queue.flows():
            assert (flow.seats_used, flow.work, flow.waiters) == (0, 0.0, [])
    for backend in set(book.backends.values()):
        assert (backend.used, backend.memory_used, backend.held, backend.blocked) == (0, 0, None, None)
