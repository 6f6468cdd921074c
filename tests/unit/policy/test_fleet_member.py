"""Members and the store together: many of them on one virtual clock, with stores that are lost and come back."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from broker.domain.fleet import Claim, MemberKind, Report, Usage
from broker.domain.pool import PoolName
from broker.policy.fleet_ledger import Ledger
from broker.policy.fleet_member import Charges, Membership, Meter
from broker.policy.leases import TTL

LIMIT = 32


@dataclass
class Process:
    """A process that begins at an instant, wants seats, and uses what it may of them; no query ends too late."""

    name: str
    wants: int
    phase: float
    membership: Membership = field(default_factory=lambda: Membership("primary"))
    joined: bool = False

    def seats(self, now: float) -> int:
        seats = self.membership.seats(LIMIT, now)
        return LIMIT if seats is None else seats

    def running(self, now: float) -> int:
        """It begins to serve with its first seat."""
        return min(self.wants, self.seats(now)) if self.joined else 0

    def report(self, now: float) -> Report:
        claims = (Claim(PoolName.DASHBOARD, self.wants, 1.0, 0.2),)
        return Report(self.name, MemberKind.BROKER, "h", self.running(now), 1.0, LIMIT, LIMIT, LIMIT, claims)

    def beat(self, ledger: Ledger | None, now: float) -> None:
        asked = self.membership.ask(self.report(now), now)
        if ledger is None:
            self.membership.lose()
        else:
            self.membership.take(ledger.beat(asked, now), now)
            self.joined = self.joined or not self.membership.waiting


def run(processes: list[Process], ledger: Ledger | None, begin: float, end: float) -> list[int]:
    """Seconds of a fleet in tenths; gives what all of them run at every tenth. Each beats once a second."""
    totals = []
    for tenth in range(round(begin * 10), round(end * 10)):
        now = tenth / 10
        for process in processes:
            if tenth % 10 == round(process.phase * 10):
                process.beat(ledger, now)
        totals.append(sum(process.running(now) for process in processes))
    return totals


def fleet(wants: list[int]) -> list[Process]:
    chance = random.Random(1)
    return [Process(f"b{i:02}", want, chance.randrange(10) / 10) for i, want in enumerate(wants)]


def test_one_process_alone_has_no_lease() -> None:
    (only,) = fleet([100])
    run([only], Ledger(), 0, 5)
    assert only.membership.seats(LIMIT, 5.0) is None
    run([only], None, 5, 60)
    assert only.membership.seats(LIMIT, 60.0) is None


def test_a_newcomer_waits_until_the_others_have_made_room() -> None:
    ledger = Ledger()
    first, second = fleet([100, 100])
    run([first], ledger, 0, 5)
    totals = run([first, second], ledger, 5, 10)
    assert (first.running(10.0), second.running(10.0)) == (16, 16)
    assert max(totals) <= LIMIT


def test_twenty_busy_processes_use_the_limit_and_no_more_and_share_it_evenly() -> None:
    processes = fleet([40] * 20)
    ledger = Ledger()
    run(processes, ledger, 0, 4)
    totals = run(processes, ledger, 4, 204)
    assert max(totals) <= LIMIT
    assert sum(totals) / len(totals) >= 0.95 * LIMIT
    used = dict.fromkeys((process.name for process in processes), 0)
    for tenth in range(2040, 4040):
        now = tenth / 10
        for process in processes:
            if tenth % 10 == round(process.phase * 10):
                process.beat(ledger, now)
            used[process.name] += process.running(now)
    values = list(used.values())
    assert sum(values) ** 2 / (len(values) * sum(value**2 for value in values)) >= 0.98


def test_work_that_moves_takes_its_seats_along() -> None:
    ledger = Ledger()
    left, right = fleet([100, 0])
    run([left, right], ledger, 0, 5)
    assert left.seats(5.0) >= 28
    left.wants, right.wants = 0, 100
    assert max(run([left, right], ledger, 5, 30)) <= LIMIT
    assert right.seats(30.0) >= 28


@pytest.mark.parametrize("forgets", [False, True])
def test_without_the_store_they_keep_to_the_limit_and_go_on(forgets: bool) -> None:
    processes = fleet([100, 60, 40, 20, 0, 0])
    ledger = Ledger()
    run(processes, ledger, 0, 10)
    lost = run(processes, None, 10, 70)
    assert max(lost) <= LIMIT * 1.2
    # Two of six are idle, and their equal parts with them.
    assert min(lost) >= 4 * (LIMIT // 6)
    assert [process.seats(70.0) for process in processes] == [6, 6, 5, 5, 5, 5]
    assert all(process.membership.lapsed(70.0) for process in processes)
    if forgets:
        ledger.forget()
    back = run(processes, ledger, 70, 90)
    assert max(back) <= LIMIT * 1.2
    assert back[-1] >= LIMIT - 2


def test_a_process_that_never_heard_of_the_fleet_is_one_of_those_started_with_it() -> None:
    membership = Membership("primary", expected=4)
    assert membership.seats(LIMIT, 0.0) == 8
    assert Membership("primary").seats(LIMIT, 0.0) is None
    assert Membership("primary", expected=40).seats(LIMIT, 0.0) == 1


def test_a_process_that_dies_leaves_its_seats_after_the_time_of_a_lease() -> None:
    ledger = Ledger()
    survivor, victim = fleet([100, 100])
    run([survivor, victim], ledger, 0, 10)
    run([survivor], ledger, 10, 10 + TTL - 0.1)
    assert survivor.seats(10 + TTL - 0.1) == 16
    run([survivor], ledger, 13, 16)
    assert survivor.membership.seats(LIMIT, 16.0) is None


def test_whoever_got_less_asks_again_soon() -> None:
    ledger = Ledger()
    first, second = fleet([100, 100])
    first.beat(ledger, 0.0)
    second.beat(ledger, 0.1)
    second.beat(ledger, 0.2)
    assert second.membership.unsettled
    assert not first.membership.unsettled


def test_whoever_sees_others_come_or_go_asks_again_soon() -> None:
    ledger = Ledger()
    first, second = fleet([0, 0])
    first.beat(ledger, 0.0)
    second.beat(ledger, 0.1)
    for unsettled in (True, False):
        first.beat(ledger, 1.0)
        assert first.membership.unsettled is unsettled
    ledger.leave(second.name)
    for unsettled in (True, False):
        first.beat(ledger, 2.0)
        assert first.membership.unsettled is unsettled


def test_the_meter_forgets_who_was_idle_and_tells_of_the_heaviest() -> None:
    meter = Meter(window=10.0, most=2)
    for tenant, seconds in (("a", 1.0), ("b", 3.0), ("c", 2.0), ("b", 1.0)):
        meter.add(PoolName.DASHBOARD, tenant, seconds, now=0.0)
    meter.add(PoolName.DASHBOARD, "c", 0.5, now=5.0)
    assert [(u.tenant, u.seconds) for u in meter.usage(5.0)] == [("b", 4.0), ("c", 2.5)]
    assert [u.tenant for u in meter.usage(12.0)] == ["c"]
    meter.add(PoolName.DASHBOARD, "a", 0.25, now=12.0)
    assert [(u.tenant, u.seconds) for u in meter.usage(12.0)] == [("c", 2.5), ("a", 0.25)]


def test_only_what_was_used_since_the_last_reading_is_charged() -> None:
    charges = Charges()

    def told(name: str, **used: float) -> Report:
        usage = tuple(Usage(PoolName.DASHBOARD, tenant, seconds) for tenant, seconds in used.items())
        return Report(name, MemberKind.BROKER, "h", 0, 1.0, 1, 1, 1, (), usage)

    def grown(*reports: Report) -> list[tuple[str, float]]:
        return [(u.tenant, u.seconds) for u in charges.since(reports)]

    assert grown(told("x", a=100.0)) == []
    assert grown(told("x", a=101.5, b=2.0)) == [("a", 1.5), ("b", 2.0)]
    assert grown(told("x", a=101.5, b=2.0), told("y", a=7.0)) == []
    assert grown(told("x", b=2.5), told("y", a=8.0)) == [("b", 0.5), ("a", 1.0)]
    assert grown(told("x", a=0.25, b=2.5)) == [("a", 0.25)]
    assert grown(told("x", a=0.25, b=1.0)) == [("b", 1.0)]
