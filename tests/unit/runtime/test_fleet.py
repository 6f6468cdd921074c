"""The task that keeps leases: what it tells, what it applies, how it goes on without the store. Virtual time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.fleet import Beat, MemberKind, Reading
from broker.domain.pool import BackendLimits, LimitMode, PoolLimits, PoolName
from broker.domain.state import PoolState, TenantState
from broker.policy.admission.values import BackendLoad
from broker.policy.fleet_ledger import Ledger
from broker.runtime.fleet import SELDOM, Fleet, Terms
from broker.telemetry.instruments import Telemetry
from tests.support.virtual_time import VirtualClock, run, virtual

DASHBOARD, EXPLORATION = PoolName.DASHBOARD, PoolName.EXPLORATION
POOLS = {
    DASHBOARD: PoolLimits(100, 100, 4, 1, share=0.5, lendable=0.8),
    EXPLORATION: PoolLimits(10, 10, 4, 1, share=0.3, lendable=0.5),
}


class FakeSeats:
    """An admission: what it wants, and what it was told."""

    def __init__(self, wants: int = 0, used: int = 0) -> None:
        self.wants, self.used = wants, used
        self.leases: list[tuple[str, int | None]] = []
        self.charged: list[tuple[PoolName, str, float]] = []
        self.progress, self.wished = 1.0, 32

    def backends(self) -> tuple[BackendLoad, ...]:
        demand = ((DASHBOARD, self.wants), (EXPLORATION, 0))
        known = BackendLoad("primary", 32, self.wished, 32, self.used, self.progress, demand=demand)
        return known, BackendLoad("only for estimates", 2, 2, 2, 0)

    def state(self) -> tuple[PoolState, ...]:
        return (PoolState(DASHBOARD, 100, self.used, tenants=(TenantState("acme", 0, self.used),)),)

    def lease(self, backend: str, seats: int | None) -> None:
        self.leases.append((backend, seats))

    def charge(self, pool: PoolName, tenant: str, seconds: float) -> None:
        self.charged.append((pool, tenant, seconds))


class FakeStore:
    """The model of the store on virtual time, which may be away."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.away: ErrorReason | None = None
        self.beats: list[tuple[float, Beat]] = []
        self.left: list[str] = []

    async def beat(self, beats: Sequence[Beat]) -> Mapping[str, Reading]:
        await asyncio.sleep(0)
        now = asyncio.get_running_loop().time()
        self.beats += [(now, beat) for beat in beats]
        if self.away is not None:
            raise BrokerError(self.away, "The store is away.")
        return {beat.backend: self.ledger.beat(beat, now) for beat in beats}

    async def leave(self, member: str) -> None:
        self.left.append(member)
        if self.away is not None:
            raise BrokerError(self.away, "The store is away.")
        self.ledger.leave(member)


def terms(member: str = "a", expected: int = 1, mode: LimitMode = LimitMode.STATIC) -> Terms:
    limits = {"primary": BackendLimits(32, floor=4, ceiling=64, mode=mode)}
    return Terms(member, MemberKind.BROKER, "here", limits, POOLS, expected)


def fleet(store: FakeStore, seats: FakeSeats, own: Terms) -> Fleet:
    return Fleet(store, seats, own, VirtualClock(), Telemetry.off())


@virtual
async def test_alone_it_asks_for_nothing_and_is_told_once_a_second() -> None:
    store, seats = FakeStore(), FakeSeats(wants=3, used=2)
    async with fleet(store, seats, terms()).sharing():
        await asyncio.sleep(3.5)
    assert seats.leases == []
    assert [now for now, _ in store.beats] == [0.0, 1.0, 2.0, 3.0]
    (_, beat), *_ = store.beats
    told = beat.report
    assert (told.member, told.kind, told.host, told.running) == ("a", MemberKind.BROKER, "here", 2)
    assert [(c.pool, c.seats, c.share, round(c.kept, 6)) for c in told.claims] == [
        (DASHBOARD, 3, 0.5, 0.2),
        (EXPLORATION, 0, 0.3, 0.5),
    ]
    assert store.left == ["a"]


@virtual
async def test_what_a_limit_wishes_counts_only_where_it_adapts() -> None:
    for mode, expected in (
        (LimitMode.STATIC, (32, 32, 32)),
        (LimitMode.SHADOW, (32, 32, 32)),
        (LimitMode.ADAPTIVE, (20, 4, 64)),
    ):
        store, seats = FakeStore(), FakeSeats()
        seats.wished, seats.progress = 20, 0.5
        async with fleet(store, seats, terms(mode=mode)).sharing():
            told = store.beats[0][1].report
            assert (told.wished, told.low, told.high) == expected
            assert told.progress == 0.5


@virtual
async def test_two_share_and_the_one_that_stays_has_all_again() -> None:
    store = FakeStore()
    one, two = FakeSeats(wants=100), FakeSeats(wants=100)
    first = fleet(store, one, terms("a"))
    async with first.sharing():
        await asyncio.sleep(0.5)
        async with fleet(store, two, terms("b")).sharing():
            await asyncio.sleep(3.0)
            assert [seats.leases[-1] for seats in (one, two)] == [("primary", 16)] * 2
            told = [(m.instance_id, m.kind, m.backend, m.seats, m.demand) for m in first.state()]
            assert told == [("a", "broker", "primary", 16, 100), ("b", "broker", "primary", 16, 100)]
        await asyncio.sleep(2.0)
        assert one.leases[-1] == ("primary", None)


@virtual
async def test_one_that_was_granted_too_little_asks_again_soon() -> None:
    store = FakeStore()
    async with fleet(store, FakeSeats(wants=100), terms("a")).sharing():
        await asyncio.sleep(0.9)
        async with fleet(store, FakeSeats(wants=100), terms("b")).sharing():
            # Nothing is served before there is a seat to serve with.
            assert round(asyncio.get_running_loop().time(), 2) == 1.4
            await asyncio.sleep(1.5)
    told = [round(now, 2) for now, beat in store.beats if beat.report.member == "b"]
    # Refused at once; the other learns of it at 1.0 and makes room at 1.25; then all is settled.
    assert told == [0.9, 1.15, 1.4, 2.4]


@virtual
async def test_without_the_store_leases_become_equal_parts_and_come_back_with_it() -> None:
    store = FakeStore()
    one, two = FakeSeats(wants=100), FakeSeats(wants=4)
    async with fleet(store, one, terms("a")).sharing(), fleet(store, two, terms("b")).sharing():
        await asyncio.sleep(5.0)
        held = one.leases[-1][1]
        assert held is not None
        assert held > 20
        store.away = ErrorReason.STORE_UNAVAILABLE
        await asyncio.sleep(2.0)
        assert one.leases[-1] == ("primary", held)
        await asyncio.sleep(10.0)
        assert [seats.leases[-1] for seats in (one, two)] == [("primary", 16)] * 2
        store.ledger.forget()
        store.away = None
        await asyncio.sleep(6.0)
        assert one.leases[-1] == ("primary", held)


def test_it_says_once_what_to_do_and_then_seldom_asks(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        store, seats = FakeStore(), FakeSeats()
        store.away = ErrorReason.STORE_REJECTED
        async with fleet(store, seats, terms()).sharing():
            await asyncio.sleep(2.5 * SELDOM)
            assert [now for now, _ in store.beats] == [0.0, SELDOM, 2 * SELDOM]
            assert seats.leases == []
            store.away = None
            await asyncio.sleep(SELDOM)
            store.away = ErrorReason.STORE_UNAVAILABLE
            await asyncio.sleep(5.0)

    with caplog.at_level(logging.WARNING):
        run(scenario())
    assert [record.getMessage() for record in caplog.records] == [
        "seats are not shared with other processes now: The store is away."
    ] * 2


@virtual
async def test_one_of_several_begins_with_its_part_when_the_store_is_away() -> None:
    store, seats = FakeStore(), FakeSeats()
    store.away = ErrorReason.STORE_UNAVAILABLE
    async with fleet(store, seats, terms(expected=4)).sharing():
        assert seats.leases == [("primary", 8)]


@virtual
async def test_those_that_are_started_together_leave_each_other_room() -> None:
    store = FakeStore()
    seats = [FakeSeats(wants=100) for _ in range(4)]
    async with AsyncExitStack() as stack:
        for i, own in enumerate(seats):
            await stack.enter_async_context(fleet(store, own, terms(f"b{i}", expected=4)).sharing())
        assert [own.leases for own in seats] == [[("primary", 8)]] * 4
        assert len(store.beats) == 4


@virtual
async def test_a_broker_and_a_worker_that_begin_together_need_not_wait_for_each_other() -> None:
    store, one, two = FakeStore(), FakeSeats(), FakeSeats()
    broker = replace(terms("b"), portions={"primary": 0.8})
    worker = replace(terms("w"), portions={"primary": 0.2})
    async with fleet(store, two, worker).sharing(), fleet(store, one, broker).sharing():
        assert asyncio.get_running_loop().time() == 0.0
        assert [own.leases for own in (one, two)] == [[("primary", 25)], [("primary", 6)]]
    async with fleet(store, one, broker).sharing():
        await asyncio.sleep(0.5)
        assert one.leases[1:] == [("primary", 25), ("primary", None)]


@virtual
async def test_what_tenants_use_elsewhere_is_charged_here() -> None:
    store = FakeStore()
    one, two = FakeSeats(wants=2, used=2), FakeSeats()
    async with fleet(store, one, terms("a")).sharing(), fleet(store, two, terms("b")).sharing():
        await asyncio.sleep(20.0)
        two.charged.clear()
        await asyncio.sleep(10.0)
        # Two seats for ten seconds.
        assert sum(seconds for _, _, seconds in two.charged) == pytest.approx(20.0, abs=2.01)
    assert one.charged == []
    assert {(pool, tenant) for pool, tenant, _ in two.charged} == {(DASHBOARD, "acme")}


def test_even_a_bug_does_not_keep_leases_from_running_out(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        store = FakeStore()
        one, two = FakeSeats(wants=100), FakeSeats(wants=4)
        async with fleet(store, one, terms("a")).sharing(), fleet(store, two, terms("b")).sharing():
            await asyncio.sleep(5.0)
            one.wants = "many"  # type: ignore[assignment] # whatever goes wrong
            await asyncio.sleep(10.0)
            assert one.leases[-1] == ("primary", 16)
            one.wants = 100
            await asyncio.sleep(3.0)
            assert one.leases[-1] != ("primary", 16)

    run(scenario())
    told = {record.getMessage() for record in caplog.records if record.levelno > logging.INFO}
    assert told == {"the leases could not be renewed"}


@virtual
async def test_nothing_is_told_where_there_is_nothing_to_share() -> None:
    store, seats = FakeStore(), FakeSeats()
    seats.backends = lambda: ()  # type: ignore[method-assign] # one with no backends at all
    async with fleet(store, seats, terms()).sharing():
        await asyncio.sleep(2.0)
    assert store.beats == []
