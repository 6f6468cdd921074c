"""The division of seats between members: sums, fairness, minimum, how much moves, and what a lost store leaves."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.fleet import Report
from broker.policy.leases import TTL, Holding, Want, allocate, decayed, divide, equal_part
from tests.support.fleet import member, worker

LIMITS = st.integers(1, 400)
DEMANDS = st.integers(0, 500)


@st.composite
def fleets(draw: st.DrawFn, wished: int = 400) -> list[Report]:
    brokers = draw(st.lists(st.tuples(DEMANDS, DEMANDS), min_size=1, max_size=20))
    workers = draw(st.lists(DEMANDS, max_size=5))
    return [
        *(member(f"b{i}", *demand, wished=wished) for i, demand in enumerate(brokers)),
        *(worker(f"w{i}", demand, wished=wished) for i, demand in enumerate(workers)),
    ]


def jain(values: list[int]) -> float:
    return sum(values) ** 2 / (len(values) * sum(value**2 for value in values))


@given(LIMITS, fleets(), st.integers(0, 1000))
def test_leases_are_whole_seats_that_add_up_to_the_limit_and_nobody_has_none(
    limit: int, fleet: list[Report], turn: int
) -> None:
    leases = allocate(limit, fleet, turn)
    assert set(leases) == {report.member for report in fleet}
    assert min(leases.values()) >= 1
    assert sum(leases.values()) == max(limit, len(fleet))


@given(LIMITS, fleets(), st.integers(0, 1000), st.randoms(use_true_random=False))
def test_members_agree_however_they_read_the_rows(
    limit: int, fleet: list[Report], turn: int, random: object
) -> None:
    shuffled = list(fleet)
    random.shuffle(shuffled)  # type: ignore[attr-defined] # a Random
    assert allocate(limit, shuffled, turn) == allocate(limit, fleet, turn)


@given(st.integers(1, 20), LIMITS, st.integers(0, 100))
def test_members_that_want_the_same_get_the_same(count: int, limit: int, turn: int) -> None:
    leases = allocate(limit, [member(f"b{i}", 500, wished=400) for i in range(count)], turn)
    assert max(leases.values()) - min(leases.values()) <= 1


def test_seats_that_cannot_be_divided_take_turns() -> None:
    fleet = [member(f"b{i:02}", 500) for i in range(20)]
    total: Counter[str] = Counter()
    for turn in range(20):
        total.update(allocate(32, fleet, turn))
    assert jain(list(total.values())) > 0.999


@given(LIMITS, fleets())
def test_whoever_wants_a_lot_of_a_pool_has_an_equal_part_of_it(limit: int, fleet: list[Report]) -> None:
    greedy = replace(member("greedy", 500, 500, wished=400))
    leases = allocate(limit, [*fleet, greedy])
    brokers = [report for report in fleet if report.member.startswith("b")]
    of_its_pools = 0.8 if any(report.member.startswith("w") for report in fleet) else 1.0
    # One seat is lost to each member that must have one, and one to rounding.
    least = limit * of_its_pools / (len(brokers) + 1) - 1
    assert leases["greedy"] >= min(least, limit - len(fleet) - 1)


@given(LIMITS, fleets(), st.integers(0, 19), st.integers(1, 20))
def test_a_small_change_of_one_demand_moves_few_seats(
    limit: int, fleet: list[Report], which: int, change: int
) -> None:
    before = allocate(limit, fleet)
    at = which % len(fleet)
    first, *rest = fleet[at].claims
    changed = replace(fleet[at], claims=(replace(first, seats=first.seats + change), *rest))
    after = allocate(limit, [*fleet[:at], changed, *fleet[at + 1 :]])
    moved = sum(abs(after[name] - before[name]) for name in before)
    # Fair parts move by at most twice the change for each level of the division; rounding by a seat for each member.
    assert moved <= 4 * change + 2 * len(fleet)


def test_an_idle_member_leaves_its_part_to_those_with_work_but_keeps_enough_to_begin() -> None:
    leases = allocate(32, [member("busy", 100), member("idle")])
    assert leases["busy"] >= 24
    assert leases["idle"] >= 2


def test_without_any_demand_the_seats_are_spread_by_the_shares_of_the_pools() -> None:
    fleet = [member("a"), member("b"), worker("w")]
    assert allocate(30, fleet, turn=0) == {"a": 13, "b": 12, "w": 5}
    assert allocate(30, fleet, turn=1) == {"a": 12, "b": 13, "w": 5}


def test_jobs_have_their_share_beside_busy_brokers_and_all_that_these_do_not_want() -> None:
    busy = allocate(40, [member("b", 100, 100), worker("w", 100)])
    assert busy == {"b": 32, "w": 8}
    quiet = allocate(40, [member("b", 5), worker("w", 100)])
    assert quiet["w"] > 20
    assert quiet["b"] >= 5


def test_a_member_gets_no_more_than_it_can_use() -> None:
    leases = allocate(32, [member("careful", 100, wished=4), member("b", 100)])
    assert leases == {"careful": 5, "b": 27}


def test_nobody_shares_nothing() -> None:
    assert allocate(32, []) == {}


@given(
    st.floats(0, 1000), st.lists(st.tuples(st.floats(0, 100), st.floats(0.1, 10)), min_size=1, max_size=10)
)
def test_the_division_is_max_min_fair(amount: float, given: list[tuple[float, float]]) -> None:
    wants = [Want(most, weight) for most, weight in given]
    parts = divide(amount, wants)
    assert sum(parts) == pytest.approx(min(amount, sum(want.most for want in wants)), abs=1e-6)
    unsatisfied = [
        part / want.weight for part, want in zip(parts, wants, strict=True) if part < want.most - 1e-6
    ]
    for part, want in zip(parts, wants, strict=True):
        assert part <= want.most + 1e-9
        for level in unsatisfied:
            assert part / want.weight <= level + 1e-6


@given(st.integers(1, 400), st.integers(2, 20), st.integers(0, 1000), st.floats(0, 30))
def test_members_that_lose_the_store_keep_their_sum(limit: int, count: int, turn: int, later: float) -> None:
    fleet = [member(f"b{i}", 40 * i, wished=400) for i in range(count)]
    leases = allocate(limit, fleet, turn)
    parts = {name: equal_part(limit, list(leases), name) for name in leases}
    assert sum(parts.values()) == max(limit, count)
    held = [Holding(seats, parts[name], since=100.0) for name, seats in leases.items()]
    assert sum(holding.at(100.0 + later) for holding in held) <= max(limit, count)


def test_a_lease_is_kept_for_its_time_and_then_becomes_an_equal_part() -> None:
    holding = Holding(seats=24, part=8, since=10.0)
    assert [holding.at(10 + seconds) for seconds in (0, TTL, 1.5 * TTL, 2 * TTL, 100)] == [24, 24, 16, 8, 8]
    assert [holding.lapsed(10 + seconds) for seconds in (0, TTL - 0.1, TTL)] == [False, False, True]
    small = Holding(seats=2, part=8, since=10.0)
    assert [small.at(10 + seconds) for seconds in (TTL, 1.5 * TTL, 2 * TTL)] == [2, 5, 8]
    none = Holding(seats=0, part=1, since=0.0)
    assert [none.at(0.0), none.at(100.0)] == [0, 1]
    assert [equal_part(34.9, ["d", "b", "c", "a"], name) for name in "abcd"] == [9, 9, 8, 8]


def test_demand_rises_at_once_and_falls_slowly() -> None:
    assert decayed(2.0, 10, 1.0) == 10
    assert decayed(10.0, 0, 3.0) == 5
    assert decayed(10.0, 8, 3.0) == 8
