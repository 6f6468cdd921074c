"""What holds for the admission core whatever happens: a model watches every event and every decision."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace

from hypothesis import example, given, settings
from hypothesis import strategies as st

from broker.domain.pool import PoolLimits, PoolName
from broker.policy.admission.scheduler import Scheduler
from broker.policy.admission.values import (
    AdmissionRequest,
    Admitted,
    Decision,
    Outcome,
    Quantiles,
    Queued,
    Refused,
)

POOLS = (PoolName.DASHBOARD, PoolName.EXPLORATION)
TENANTS = ("a", "b", "c", "d")


@dataclass(frozen=True)
class Arrive:
    tenant: int
    pool: int
    slack: float
    p50: float


@dataclass(frozen=True)
class End:
    """Finishes (or, without an outcome, cancels) the ``pick``-th request under way."""

    pick: int
    outcome: Outcome | None


@dataclass(frozen=True)
class Pass:
    """Time passes; a timer that is not ``punctual`` comes later than it should."""

    seconds: float
    punctual: bool


@dataclass(frozen=True)
class Drain:
    pass


Event = Arrive | End | Pass | Drain
# Times are exact in binary, so that scaled and shifted runs compare equal.
arrivals = st.builds(
    Arrive,
    tenant=st.integers(0, 3), pool=st.sampled_from([0, 0, 0, 1]),
    slack=st.sampled_from([0.25, 2.0, 8.0, 64.0, 1024.0]), p50=st.sampled_from([0.0, 0.25, 1.0, 4.0]),
)  # fmt: skip
ends = st.builds(End, st.integers(0, 30), st.sampled_from([*Outcome, None]))
passes = st.builds(Pass, st.sampled_from([0.25, 0.5, 2.0, 16.0]), st.booleans())
weighted = st.sampled_from([arrivals] * 6 + [ends, passes]).flatmap(
    lambda kind: kind
)  # one_of has no weights
crowds = st.lists(weighted, min_size=20, max_size=80)
after = st.lists(st.one_of(st.just(Drain()), arrivals, ends, passes), max_size=8)
events = st.builds(lambda crowd, rest: [*crowd, *rest], crowds, after)
bounds = st.builds(
    PoolLimits,
    in_flight=st.sampled_from([1, 1, 2, 3]), queue=st.sampled_from([0, 2, 8, 30]),
    connections=st.just(1), workers=st.just(1),
    wait_fraction=st.sampled_from([0.125, 0.25, 1.0]), tenant_queue=st.sampled_from([1, 4, 20]),
)  # fmt: skip


@dataclass
class Model:
    """Feeds events and checks every decision against what it knows by itself."""

    limits: PoolLimits
    scale: float = 1.0
    names: tuple[str, ...] = TENANTS
    now: float = 0.0
    log: list[Decision] = field(default_factory=list)
    draining: bool = False
    requests: dict[str, AdmissionRequest] = field(default_factory=dict)
    waiting: dict[tuple[PoolName, str], list[str]] = field(default_factory=lambda: defaultdict(list))
    until: dict[str, float] = field(default_factory=dict)
    running: dict[str, float] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    turns: dict[tuple[PoolName, str], dict[str, int]] = field(default_factory=lambda: defaultdict(dict))

    def __post_init__(self) -> None:
        self.core = Scheduler(dict.fromkeys(POOLS, self.limits), seed=1)

    def play(self, script: list[Event]) -> None:
        for event in script:
            self.step(event)
            self.check()

    def step(self, event: Event) -> None:
        match event:
            case Arrive():
                self.arrive(event)
            case End(pick, outcome):
                under_way = [*self.running, *self.until]
                if under_way:
                    self.end(under_way[pick % len(under_way)], outcome)
            case Pass(seconds, punctual):
                self.now += seconds * self.scale
                wakeup = self.core.next_wakeup()
                if punctual and wakeup is not None and wakeup <= self.now:
                    self.accept(self.core.tick(self.now))
                    assert all(until > self.now for until in self.until.values())
            case Drain():
                self.draining = True
                self.accept(self.core.drain(self.now))
                assert not self.until

    def arrive(self, event: Arrive) -> None:
        p50 = event.p50 * self.scale
        request = AdmissionRequest(
            str(len(self.requests)),
            self.names[event.tenant],
            POOLS[event.pool],
            self.now + event.slack * self.scale,
            predicted=Quantiles(p50 / 2, p50, p50 * 2),
        )
        self.requests[request.id] = request
        decisions = self.core.offer(request, self.now)
        assert decisions[0].id == request.id
        self.accept(decisions)

    def end(self, id: str, outcome: Outcome | None) -> None:
        if id in self.running and outcome is not None:
            since = self.running.pop(id)
            self.ended.add(id)
            self.accept(self.core.finish(id, outcome, self.now - since, self.now))
            return
        waited = id in self.until
        self.running.pop(id, None)
        if waited:
            self.leave(id)
        self.ended.add(id)
        self.accept(self.core.cancel(id, self.now))

    def leave(self, id: str) -> None:
        request = self.requests[id]
        self.waiting[request.pool, request.tenant].remove(id)
        del self.until[id]

    def accept(self, decisions: tuple[Decision, ...]) -> None:
        self.log.extend(decisions)
        for decision in decisions:
            assert decision.id not in self.ended, "a request ends once"
            assert decision.id not in self.running, "an admitted request ends by its permit"
            request = self.requests[decision.id]
            key = request.pool, request.tenant
            match decision:
                case Queued():
                    assert decision.id not in self.until, "a request is queued once"
                    if not self.waiting[key]:
                        self.turns[key] = {}
                    self.waiting[key].append(decision.id)
                    self.until[decision.id] = decision.until
                case Admitted():
                    assert not self.draining
                    assert self.now < request.deadline_at, "nobody is admitted after the deadline"
                    if decision.id in self.until:
                        self.served(key, decision)
                    self.running[decision.id] = self.now
                case Refused():
                    if decision.id in self.until:
                        self.leave(decision.id)
                    self.ended.add(decision.id)

    def served(self, key: tuple[PoolName, str], decision: Admitted) -> None:
        assert self.waiting[key][0] == decision.id, "first come, first served inside a tenant"
        assert self.now < self.until[decision.id], "a wait ends within its budget"
        for (pool, tenant), counts in self.turns.items():
            if pool == key[0] and tenant != key[1] and self.waiting[pool, tenant]:
                counts[key[1]] = counts.get(key[1], 0) + 1
                assert counts[key[1]] <= 1, "no tenant has two turns while another waits for its own"
        self.turns[key] = {}
        self.leave(decision.id)

    def check(self) -> None:
        for load in self.core.loads():
            running = [each for each in self.running if self.requests[each].pool is load.pool]
            queued = sum(len(ids) for (pool, _), ids in self.waiting.items() if pool is load.pool)
            assert (load.seats_used, load.queue_length) == (len(running), queued)
            assert load.seats_used <= load.seat_limit, "seats are conserved"
            assert load.queue_length <= self.limits.queue
            assert not queued or load.seats_used == load.seat_limit, "no seat is idle while somebody waits"
        wakeup = self.core.next_wakeup()
        assert wakeup == min(self.until.values(), default=None), "nobody waits without a timer"
        for state in self.core.state(self.now):
            assert sum(t.seats_used for t in state.tenants) == state.seats_used
            assert sum(t.queue_length for t in state.tenants) == state.queue_length

    def finish_all(self) -> None:
        while self.running or self.until:
            self.end(next(iter([*self.running, *self.until])), Outcome.SUCCESS)
            self.check()
        assert self.ended == set(self.requests)
        assert self.core.next_wakeup() is None


@settings(max_examples=250, deadline=None)
@given(limits=bounds, script=events)
def test_every_request_ends_once_and_seats_are_conserved(limits: PoolLimits, script: list[Event]) -> None:
    model = Model(limits)
    model.play(script)
    model.finish_all()


@settings(max_examples=60, deadline=None)
@given(limits=bounds, script=events)
def test_the_same_events_give_the_same_log(limits: PoolLimits, script: list[Event]) -> None:
    first, second = Model(limits), Model(limits)
    first.play(script)
    second.play(script)
    assert first.log == second.log


@settings(max_examples=60, deadline=None)
@given(limits=bounds, script=events)
@example(
    PoolLimits(1, 8, 1, 1),
    [Arrive(0, 0, 8, 1), Arrive(1, 0, 8, 1), Pass(1, punctual=True), End(0, Outcome.SUCCESS)],
)
def test_a_slower_world_decides_the_same(limits: PoolLimits, script: list[Event]) -> None:
    plain, slow = Model(limits), Model(limits, scale=4.0)
    plain.play(script)
    slow.play(script)
    scaled = [
        replace(d, wait=4 * d.wait, expected_wait=4 * d.expected_wait)
        for d in plain.log
        if isinstance(d, Admitted)
    ]
    assert [d for d in slow.log if isinstance(d, Admitted)] == scaled
    assert [(type(d), d.id) for d in slow.log] == [(type(d), d.id) for d in plain.log]


@settings(max_examples=60, deadline=None)
@given(limits=bounds, script=events, names=st.permutations(TENANTS))
def test_names_of_tenants_do_not_matter(limits: PoolLimits, script: list[Event], names: list[str]) -> None:
    plain, renamed = Model(limits), Model(limits, names=tuple(names))
    plain.play(script)
    renamed.play(script)
    assert plain.log == renamed.log


@settings(max_examples=60, deadline=None)
@given(limits=bounds, script=events)
def test_the_hour_does_not_matter(limits: PoolLimits, script: list[Event]) -> None:
    early, late = Model(limits), Model(limits, now=4096.0)
    early.play(script)
    late.play(script)
    shifted = [replace(d, until=d.until + 4096.0) if isinstance(d, Queued) else d for d in early.log]
    assert late.log == shifted
    states = [model.core.state(model.now) for model in (early, late)]
    assert states[0] == states[1]


def test_the_scripts_reach_every_decision() -> None:
    seen: set[str] = set()

    @settings(max_examples=250, deadline=None, derandomize=True, database=None)
    @given(limits=bounds, script=events)
    def play(limits: PoolLimits, script: list[Event]) -> None:
        model = Model(limits)
        model.play(script)
        seen.update(
            f"{d.reason} {d.stage}" if isinstance(d, Refused) else type(d).__name__ for d in model.log
        )

    play()
    assert seen == {
        "Admitted",
        "Queued",
        "OVERLOADED arrival",
        "OVERLOADED queue",
        "TENANT_QUOTA arrival",
        "DEADLINE_TOO_SHORT arrival",
        "DEADLINE_TOO_SHORT queue",
        "DEADLINE_TOO_SHORT dispatch",
        "QUEUE_TIMEOUT queue",
        "QUEUE_TIMEOUT dispatch",
        "DRAINING arrival",
        "DRAINING queue",
    }
