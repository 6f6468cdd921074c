"""The broker's own protection, and the door."""

from __future__ import annotations

import asyncio

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.trace import NoOpTracerProvider

from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.pool import PoolLimits, TenantLimits
from broker.domain.principal import Criticality, Principal
from broker.policy.admission.scheduler import Scheduler
from broker.policy.brownout import STANDS
from broker.runtime.admission import SAME_WORDS
from broker.runtime.guard import Door, Guard
from broker.runtime.loop import LagMonitor
from broker.runtime.meter import Meter
from broker.telemetry.instruments import Telemetry
from tests.support.metrics import read
from tests.support.seats import POOL, ask, hold, shell
from tests.support.virtual_time import VirtualClock, run

ALICE = Principal("alice", "a")
BOB = Principal("bob", "b")
CAROL = Principal("carol", "c")
BOSS = Principal("boss", "a", criticality=Criticality.CRITICAL_PLUS)


class Machine:
    """A guard whose memory the test sets, on virtual time."""

    def __init__(self, telemetry: Telemetry | None = None) -> None:
        self.share = 0.1
        self.cuts: list[BrokerError] = []
        self.now = 0.0
        self.guard = Guard(self, telemetry or Telemetry.off(), lambda: self.share, self.cut)  # type: ignore[arg-type] # half a clock

    def monotonic(self) -> float:
        return self.now

    def cut(self, error: BrokerError) -> int:
        self.cuts.append(error)
        return 1_000

    def live(self, seconds: float, lag: float = 0.0) -> None:
        for _ in range(round(seconds * 10)):
            self.now += 0.1
            self.guard.observe(lag)


def test_a_slow_loop_turns_away_who_can_be_shed() -> None:
    machine = Machine()
    machine.live(3.0, lag=0.08)
    guard = machine.guard
    assert guard.refusal(POOL, Criticality.CRITICAL) is None
    error = guard.refusal(POOL, Criticality.SHEDDABLE_PLUS)
    assert error is not None
    assert error.reason is ErrorReason.OVERLOADED
    assert error.retry_after == 1.0
    assert error.message == (
        "This server is too busy to take more calls: its timers are 80 ms late, where 50 ms are allowed. "
        "Retry after 1 s; another server may answer."
    )
    assert error.metadata == {
        "pool": "dashboard",
        "stage": "door",
        "limiting_factor": "loop_lag",
        "measured": "0.080",
        "limit": "0.05",
    }
    machine.live(5.0)
    assert guard.refusal(POOL, Criticality.SHEDDABLE) is None


def test_what_the_start_of_a_process_takes_turns_nobody_away() -> None:
    async def main() -> None:
        clock = VirtualClock()
        lag = LagMonitor(clock, Telemetry.off(), interval=0.1)
        guard = Guard(clock, Telemetry.off(), lambda: 0.1, lambda _error: 0)

        async def late() -> None:
            for _ in range(30):
                lag._due -= 0.5
                await asyncio.sleep(0.1)

        lag.start()
        await late()
        guard.watch(lag)
        assert lag.p99 == 0.0
        await asyncio.sleep(3.0)
        assert guard.refusal(POOL, Criticality.SHEDDABLE) is None
        await late()
        assert guard.refusal(POOL, Criticality.SHEDDABLE) is not None
        guard.close()
        lag.stop()

    run(main())


async def test_a_stuck_loop_fails_the_health_checks() -> None:
    machine = Machine()
    await machine.guard.check()
    machine.live(5.0, lag=0.4)
    with pytest.raises(BrokerError, match="400 ms late"):
        await machine.guard.check()
    assert machine.guard.refusal(POOL, Criticality.CRITICAL) is not None
    assert machine.guard.refusal(POOL, Criticality.CRITICAL_PLUS) is None
    machine.live(5.0)
    await machine.guard.check()


def test_short_memory_ends_one_large_stream_at_a_time() -> None:
    machine = Machine()
    machine.live(1.0)
    assert not machine.guard.posture.degrade
    machine.share = 0.97
    machine.live(3.0)
    assert 2 <= len(machine.cuts) <= 3, "once for each reading, not for each sample of the lag"
    assert machine.cuts[0].reason is ErrorReason.OVERLOADED
    assert machine.cuts[0].metadata["limiting_factor"] == "memory"
    error = machine.guard.refusal(POOL, Criticality.CRITICAL)
    assert error is not None
    assert "97% is in use, where 90% is allowed" in error.message


def test_steps_are_told_as_metrics() -> None:
    reader = InMemoryMetricReader()
    meters = MeterProvider([reader], shutdown_on_exit=False)
    machine = Machine(Telemetry(NoOpTracerProvider(), meters))
    seen = []
    for share, lag in ((0.2, 0.0), (0.2, 0.1), (0.92, 0.0), (0.96, 0.0)):
        machine.share = share
        machine.live(5.0, lag)
        values = read(reader)
        seen.append((values["querybroker.guard.step"][()], values["querybroker.memory.share"][()]))
    assert seen == [(0, 0.2), (1, 0.2), (2, 0.92), (3, 0.96)]
    machine.guard.close()
    assert "querybroker.guard.step" not in read(reader)
    meters.shutdown()


def test_the_door_asks_the_guard_first_and_then_the_quota() -> None:
    async def main() -> None:
        reader = InMemoryMetricReader()
        meters = MeterProvider([reader], shutdown_on_exit=False)
        telemetry = Telemetry(NoOpTracerProvider(), meters)
        limits = {POOL: PoolLimits(5, 5, 1, 1)}
        core = Scheduler(limits, 1, (), {"a": TenantLimits(in_flight=1)})
        admission = shell(core, telemetry)
        machine = Machine()
        door = Door(machine.guard, admission, limits)
        assert door.refusal(POOL, ALICE, 10.0) is None
        async with admission.permit(ask("1")):
            error = door.refusal(POOL, ALICE, 10.0)
            assert error is not None
            assert error.reason is ErrorReason.TENANT_QUOTA
            assert error.metadata["tenant_share"] == "1.000"
            machine.share = 0.95
            machine.live(1.0)
            error = door.refusal(POOL, ALICE, 10.0)
            assert error is not None
            assert error.metadata["limiting_factor"] == "memory"
            assert Door(None, admission, limits).refusal(POOL, BOB, 10.0) is None
        assert door.refusal(POOL, BOSS, 10.0) is None
        assert read(reader)["querybroker.admission.refusals"] == {
            ("tenant_in_flight", "dashboard", "TENANT_QUOTA", "door"): 1,
            ("memory", "dashboard", "OVERLOADED", "door"): 1,
        }
        admission.close()
        meters.shutdown()

    run(main())


def test_who_would_wait_too_long_whatever_they_ask_is_not_read() -> None:
    async def main() -> None:
        limits = {POOL: PoolLimits(1, 5, 1, 1, wait_fraction=0.25)}
        admission = shell(Scheduler(limits, 1))
        door = Door(None, admission, limits)
        await hold(admission, ask("0", 100.0), 2.0)
        async with admission.permit(ask("1", 100.0)):
            with pytest.raises(BrokerError) as read_first:
                await hold(admission, ask("2", 5.0), 1.0)
            error = door.refusal(POOL, ALICE, 5.0)
            assert error is not None
            assert error.reason is read_first.value.reason
            assert error.metadata["limiting_factor"] == "wait_budget"
            assert error.metadata.items() >= {"stage": "arrival", "expected_wait_seconds": "2.000"}.items()
            assert door.refusal(POOL, ALICE, 50.0) is None, "it may wait longer"
            assert admission.state()[0].refused_count == 2
        assert door.refusal(POOL, ALICE, 5.0) is None, "a seat is free"

    run(main())


def test_who_may_be_answered_without_a_seat_is_let_in_and_the_strain_is_known() -> None:
    async def main() -> None:
        limits = {POOL: PoolLimits(1, 5, 1, 1, wait_fraction=0.25)}
        tenants = {"a": TenantLimits(in_flight=1), "b": TenantLimits(rate=1.0, burst=1.0)}
        admission, machine, held = shell(Scheduler(limits, 1, (), tenants)), Machine(), True
        door = Door(machine.guard, admission, limits)
        door.open_to(lambda pool: held and pool is POOL)
        await hold(admission, ask("0", 100.0), 2.0)
        assert admission.strain(POOL, CAROL, 2.0) == 0.0, "there is a seat"
        async with admission.permit(ask("1", 100.0)):
            assert admission.strain(POOL, CAROL, 1.0) == pytest.approx(2.0), "she would be refused"
            assert admission.strain(POOL, CAROL, 3.0) == 0.0, "nobody waits"
            waiter = asyncio.create_task(hold(admission, ask("2", 100.0, tenant="c"), 2.0))
            await asyncio.sleep(0)
            wait = admission.strain(POOL, CAROL, 1.0)
            assert wait >= 2.0
            assert admission.strain(POOL, CAROL, 1.5 * wait) == 0.0, "nobody has for long"
            await asyncio.sleep(STANDS)
            assert admission.strain(POOL, CAROL, 1.5 * wait) == pytest.approx(2 / 3)
            assert admission.strain(POOL, CAROL, 2.1 * wait) == 0.0, "below a half"
            waiter.cancel()
            await asyncio.wait([waiter])
            assert door.refusal(POOL, ALICE, 5.0) is None, (
                "neither the wait nor what her tenant has in flight matters"
            )
            held = False
            assert door.refusal(POOL, ALICE, 5.0) is not None
            held = True
            machine.share = 0.99
            machine.live(1.0)
            assert door.refusal(POOL, ALICE, 5.0) is not None, "the server itself is in trouble"
        admission.drain()
        assert Door(None, admission, limits).refusal(POOL, BOSS, 5.0) is not None

    run(main())


def test_answers_without_a_seat_count_against_the_rate_alone() -> None:
    async def main() -> None:
        clock = VirtualClock()
        meter = Meter({"a": TenantLimits(in_flight=1, rate=1.0, burst=2.0)}, TenantLimits(), clock)
        assert [meter.take(POOL, ALICE) for _ in range(2)] == [None, None]
        refused = meter.take(POOL, ALICE)
        assert refused is not None
        assert refused.reason is ErrorReason.TENANT_QUOTA
        assert refused.retry_after == pytest.approx(1.0)
        assert refused.metadata.items() >= {"limiting_factor": "tenant_rate", "tenant": "a"}.items()
        assert all(meter.take(POOL, BOB) is None for _ in range(100))
        await asyncio.sleep(1.0)
        assert meter.take(POOL, ALICE) is None

    run(main())


def test_refusals_of_a_tenant_within_a_moment_are_told_in_the_same_words() -> None:
    async def main() -> None:
        limits = {POOL: PoolLimits(1, 5, 1, 1, wait_fraction=0.25)}
        admission = shell(Scheduler(limits, 1))
        door = Door(None, admission, limits)
        await hold(admission, ask("0", 100.0), 2.0)
        async with admission.permit(ask("1", 100.0)):
            first = door.refusal(POOL, ALICE, 5.0)
            assert door.refusal(POOL, ALICE, 4.99) is first
            assert door.refusal(POOL, BOB, 5.0) is not first, "it names the tenant"
            assert door.refusal(POOL, ALICE, 3.0) is not first, "the deadline is another"
            await asyncio.sleep(SAME_WORDS)
            assert door.refusal(POOL, ALICE, 5.0) is not first

    run(main())
