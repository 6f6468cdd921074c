"""What the shared state of a fleet grants, whoever asks for what and when."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from broker.domain.fleet import Beat, Reading
from broker.policy.fleet_ledger import Ledger
from broker.policy.leases import TTL
from tests.support.fleet import member

STEPS = st.lists(
    st.tuples(st.floats(0.0, 2.0), st.integers(0, 5), st.integers(0, 60), st.booleans()),
    min_size=1,
    max_size=60,
)


def beat(name: str, target: int, *, limit: float = 32.0, revision: int = 0, probe: bool = False) -> Beat:
    return Beat("primary", member(name, target), target, limit, revision, probe, extra=1)


@given(STEPS)
def test_leases_never_add_up_to_more_than_the_limit(steps: list[tuple[float, int, int, bool]]) -> None:
    ledger, now = Ledger(), 0.0
    for pause, who, target, leaves in steps:
        now += pause
        if leaves:
            ledger.leave(f"b{who}")
        else:
            reading = ledger.beat(beat(f"b{who}", target), now)
            assert reading.seats <= target
        assert sum(leased.seats for leased in ledger.leases("primary", now)) <= 32


def test_a_lease_grows_only_when_another_has_shrunk() -> None:
    ledger = Ledger()
    assert ledger.beat(beat("a", 32), 0.0).seats == 32
    assert ledger.beat(beat("b", 16), 0.1).seats == 0
    assert ledger.beat(beat("a", 16), 1.0).seats == 16
    assert ledger.beat(beat("b", 16), 1.1).seats == 16


def test_a_member_that_is_silent_loses_its_lease_and_one_that_leaves_does_so_at_once() -> None:
    ledger = Ledger()
    ledger.beat(beat("a", 20), 0.0)
    ledger.beat(beat("b", 12), 0.0)
    ledger.leave("b")
    assert ledger.beat(beat("c", 32), 1.0).seats == 12
    reading = ledger.beat(beat("c", 32), TTL)
    assert reading.seats == 32
    assert [leased.report.member for leased in reading.members] == ["c"]


def test_the_limit_moves_once_a_second_and_only_for_those_who_knew_it() -> None:
    ledger = Ledger()
    first = ledger.beat(beat("a", 1, limit=32.0), 0.0)
    assert (first.limit, first.revision) == (32.0, 1)

    def propose(limit: float, seen: Reading, now: float) -> Reading:
        return ledger.beat(beat("a", 1, limit=limit, revision=seen.revision), now)

    assert propose(20.0, first, 0.5).limit == 32.0
    moved = propose(20.0, first, 1.0)
    assert (moved.limit, moved.revision) == (20.0, 2)
    assert propose(10.0, first, 2.0).limit == 20.0
    same = propose(20.0, moved, 2.0)
    assert (same.limit, same.revision) == (20.0, 2)
    assert propose(10.0, moved, 2.1).limit == 10.0


def test_one_member_at_a_time_tries_more_and_others_do_not_pay_for_it() -> None:
    ledger = Ledger()
    ledger.beat(beat("a", 16), 0.0)
    ledger.beat(beat("b", 16), 0.0)
    holder = ledger.beat(beat("a", 17, probe=True), 1.0)
    other = ledger.beat(beat("b", 17, probe=True), 1.0)
    assert (holder.seats, holder.probing) == (17, True)
    assert (other.seats, other.probing) == (16, False)
    still = ledger.beat(beat("a", 17), 2.0)
    assert (still.seats, still.probing) == (17, True)
    over = ledger.beat(beat("a", 16), 1.0 + TTL)
    assert (over.seats, over.probing) == (16, False)
    assert ledger.beat(beat("b", 17, probe=True), 1.0 + TTL).probing


def test_there_are_as_many_seats_as_members_at_least() -> None:
    ledger = Ledger()
    granted = [ledger.beat(beat(f"b{i}", 1, limit=2.0), 0.0).seats for i in range(5)]
    assert granted == [1] * 5


def test_readers_see_themselves_first_and_what_others_told() -> None:
    ledger = Ledger()
    ledger.beat(beat("a", 3), 0.0)
    told = replace(beat("b", 4), report=member("b", 9, running=5, progress=0.5))
    ledger.beat(told, 0.0)
    reading = ledger.beat(beat("a", 3), 1.0)
    assert [leased.report.member for leased in reading.members] == ["a", "b"]
    assert reading.members[1].report == told.report
    assert reading.members[1].seats == 4
    assert ledger.beat(beat("a", 3), 20.0).turn == 2


def test_what_was_lost_begins_anew() -> None:
    ledger = Ledger()
    ledger.beat(beat("a", 32), 0.0)
    ledger.forget()
    assert ledger.leases("primary", 0.0) == []
    assert ledger.beat(beat("b", 8, limit=24.0), 0.5).limit == 24.0
