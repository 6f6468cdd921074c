import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from broker.domain.pool import BackendLimits, LimitMode, PoolLimits, PoolName
from broker.policy.admission.events import Configuration, RecordedBackend
from broker.policy.admission.values import (
    AdmissionCore,
    AdmissionRequest,
    Admitted,
    BackendLoad,
    Decision,
    Killed,
    Outcome,
    Queued,
    RefusalReason,
    Refused,
    Stage,
)
from broker.simulation.batch import Job, run
from broker.simulation.cores import configuration_of, own_core
from broker.simulation.gates.shapes import USERS, capacity_steps, four_pools, shared_database
from broker.simulation.invariants import Checked, InvariantError
from broker.simulation.rivals.base import RivalCore
from broker.simulation.rivals.line import Line, Waiter
from broker.simulation.rivals.plain import fifo
from broker.simulation.scenario import Database, Model, Population, Predictor, Retry, Scenario, Work
from broker.simulation.scenario import Stage as LoadStage

POOL = PoolName.EXPLORATION
LIMITS = PoolLimits(in_flight=100, queue=100, connections=0, workers=0)
CONFIGURATION = Configuration({POOL: LIMITS}, 1, (RecordedBackend("db", (POOL,), BackendLimits(seats=2)),))


def request(id: str, tenant: str = "a") -> AdmissionRequest:
    return AdmissionRequest(id, tenant, POOL, 100.0)


class Crooked(RivalCore):
    """A core of two seats, first come first served, that a subclass breaks in one way."""

    def __init__(self) -> None:
        core = fifo(CONFIGURATION)
        self.__dict__.update(core.__dict__)


class Overfull(Crooked):
    def backends(self) -> tuple[BackendLoad, ...]:
        return tuple(replace(load, limit=1) for load in super().backends())


class Leaking(Crooked):
    def cancel(self, id: str, now: float) -> tuple[Decision, ...]:
        return ()


class Idle(Crooked):
    def choose(self, line: Line, now: float) -> Waiter | None:
        return None


class Twice(Crooked):
    def finish(self, id: str, outcome: Outcome, seconds: float, now: float) -> tuple[Decision, ...]:
        decisions = super().finish(id, outcome, seconds, now)
        return decisions + decisions


class Silent(Crooked):
    def offer(self, request: AdmissionRequest, now: float) -> tuple[Decision, ...]:
        super().offer(request, now)
        return ()


class Hasty(Crooked):
    def offer(self, request: AdmissionRequest, now: float) -> tuple[Decision, ...]:
        return (
            Refused(
                request.id, POOL, RefusalReason.OVERLOADED, Stage.ARRIVAL, "wait_budget", 2, 0.0, 1.0, 2.0
            ),
        )


class Stingy(Crooked):
    def offer(self, request: AdmissionRequest, now: float) -> tuple[Decision, ...]:
        return (
            Refused(
                request.id, POOL, RefusalReason.OVERLOADED, Stage.ARRIVAL, "wait_budget", 2, 0.0, 3.0, 2.0
            ),
        )


class Forgetful(Crooked):
    def offer(self, request: AdmissionRequest, now: float) -> tuple[Decision, ...]:
        first, *rest = super().offer(request, now)
        return (replace(first, until=now + 1.0) if isinstance(first, Queued) else first, *rest)


class Deadly(Crooked):
    def tick(self, now: float) -> tuple[Decision, ...]:
        return (Killed("nobody", POOL, 0.0, 1.0),)


class Deaf(Crooked):
    def drain(self, now: float) -> tuple[Decision, ...]:
        return ()


def fill(checked: Checked, count: int = 3) -> None:
    for number in range(count):
        checked.offer(request(f"r{number}"), float(number))


def after_filling(event: Callable[[Checked], object]) -> Callable[[Checked], None]:
    def act(checked: Checked) -> None:
        fill(checked)
        event(checked)

    return act


BROKEN: Mapping[str, tuple[type[Crooked], Callable[[Checked], object]]] = {
    "its limit is 1": (Overfull, fill),
    "1 requests run on db in 2 seats": (Leaking, after_filling(lambda c: c.cancel("r0", 9.0))),
    "r2 of a waits although seats are free": (
        Idle,
        after_filling(lambda c: c.finish("r0", Outcome.SUCCESS, 1.0, 9.0)),
    ),
    "does not wait, and is told": (Twice, after_filling(lambda c: c.finish("r0", Outcome.SUCCESS, 1.0, 9.0))),
    "the first decision is not about it": (Silent, fill),
    "it may": (Hasty, fill),
    "although a seat was free": (Stingy, fill),
    "its time to wait is over": (Forgetful, after_filling(lambda c: c.tick(9.0))),
    "is killed and does not run": (Deadly, lambda c: c.tick(1.0)),
    "although the core drains": (Deaf, after_filling(lambda c: c.drain(9.0))),
    "has not ended": (Crooked, after_filling(lambda c: c.offer(request("r0"), 9.0))),
    "was not running": (Crooked, after_filling(lambda c: c.finish("r2", Outcome.SUCCESS, 1.0, 9.0))),
    "time went back": (Crooked, after_filling(lambda c: c.tick(1.0))),
}


@pytest.mark.parametrize("message", BROKEN)
def test_a_broken_core_is_caught(message: str) -> None:
    kind, act = BROKEN[message]

    with pytest.raises(InvariantError, match=message):
        act(Checked(kind(), CONFIGURATION))


def test_the_core_that_the_broken_ones_are_made_of_is_whole() -> None:
    checked = Checked(Crooked(), CONFIGURATION)
    fill(checked)

    assert checked.finish("r0", Outcome.SUCCESS, 1.0, 9.0) == (Admitted("r2", POOL, 7.0, 0.0, 2),)
    checked.cancel("r1", 9.5)
    checked.drain(10.0)
    assert list(checked.running) == ["r2"]


def test_a_virtual_clock_that_goes_back_is_caught() -> None:
    clock = [5.0]
    checked = Checked(Crooked(), CONFIGURATION, virtual=lambda: tuple(clock))
    fill(checked)
    clock[0] = 4.0

    with pytest.raises(InvariantError, match="virtual time went back"):
        checked.tick(9.0)


SCENARIOS = {
    "overload": Scenario("s", (replace(USERS, load=3.0, retry=Retry.NAIVE),), seconds=8.0, warmup=1.0),
    "spike": Scenario(
        "s",
        (replace(USERS, load=0.8, patience=1.0),),
        seconds=12.0,
        warmup=1.0,
        stages=(LoadStage(4.0, 5.0), LoadStage(6.0, 1.0)),
    ),
    "adaptive": replace(capacity_steps(Predictor(), 3.0, 15.0), seconds=45.0),
    "pools": Scenario(
        "s",
        (
            Population("panels", Work(0.1, 0.6), PoolName.DASHBOARD, load=1.5, tenants=4, panels=5),
            Population(
                "wide", Work(0.5, 0.8, seats=2), PoolName.EXPLORATION, load=1.0, tenants=3, timeout=20.0
            ),
            Population("exports", Work(1.0, 0.8), PoolName.JOB, load=0.5, timeout=math.inf),
        ),
        seconds=6.0,
        warmup=1.0,
        databases=(shared_database(16),),
        pools=four_pools(),
    ),
    "memory": Scenario(
        "s",
        (Population("users", Work(0.3, 0.8, memory=1 << 20), load=2.0, tenants=4),),
        seconds=8.0,
        warmup=1.0,
        databases=(
            Database(model=Model.SPILL, slots=16, memory=8 << 20, mode=LimitMode.ADAPTIVE, pressure=1.0),
        ),
    ),
}


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", SCENARIOS)
def test_the_core_of_the_broker_keeps_every_invariant(name: str, seed: int) -> None:
    result = run(Job(SCENARIOS[name], "broker", seed, check=True))

    assert result.figures["requests"] > 100


def test_checking_changes_nothing() -> None:
    scenario = SCENARIOS["overload"]

    assert run(Job(scenario, "broker", 3, check=True)).figures == run(Job(scenario, "broker", 3)).figures


def test_a_core_drains_to_nothing() -> None:
    scenario = SCENARIOS["pools"]
    configuration = configuration_of(scenario, 1)
    core: AdmissionCore = Checked(own_core(configuration), configuration)
    for number in range(200):
        pool = list(scenario.pools)[number % 3]
        core.offer(AdmissionRequest(str(number), f"t{number % 7}", pool, 100.0), 0.1 * number)
    core.drain(30.0)
    assert isinstance(core, Checked)
    for running in list(core.running):
        core.finish(running, Outcome.SUCCESS, 1.0, 31.0)

    assert not core.waiting
    assert [load.seats_used for load in core.backends()] == [0]
