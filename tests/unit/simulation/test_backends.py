import math
from collections.abc import Sequence

import pytest

from broker.policy.admission.values import Pressure, Quantiles
from broker.simulation.backends.choice import Backend, build, capacity
from broker.simulation.call import Call
from broker.simulation.scenario import Database, Model, Step


def call(number: int, work: float, seats: int = 1, memory: int = 0) -> Call:
    return Call(number, 0, "t", [0.0], work, seats, memory, Quantiles(), 0.0, math.inf)


def ends(backend: Backend) -> list[tuple[int, float]]:
    """Lets everything end, without anything new."""
    found = []
    while backend.next_end < math.inf:
        now = backend.next_end
        found.append((backend.pop(now).number, now))
    return found


def begun(database: Database, works: Sequence[float], memory: int = 0) -> Backend:
    backend = build(database)
    for number, work in enumerate(works, 1):
        backend.start(call(number, work, memory=memory), 0.0)
    return backend


def test_sharing_runs_everything_at_full_speed_while_there_are_slots() -> None:
    backend = begun(Database(slots=3), [1.0, 2.0, 3.0])

    assert ends(backend) == [(1, 1.0), (2, 2.0), (3, 3.0)]
    assert backend.done_by(9.0) == pytest.approx(6.0)


def test_sharing_divides_slots_and_thrashes() -> None:
    # four queries on two slots do 2 / (1 + 0.25) = 1.6 together, 0.4 each: the first two end at 1 / 0.4 = 2.5; then
    # two are left on two slots at full speed
    backend = begun(Database(slots=2, thrash=0.25), [1.0, 1.0, 2.0, 2.0])

    assert ends(backend) == [(1, 2.5), (2, 2.5), (3, 3.5), (4, 3.5)]


def test_without_thrash_four_queries_on_two_slots_take_twice_as_long() -> None:
    assert ends(begun(Database(slots=2, thrash=0), [1.0] * 4)) == [(n, 2.0) for n in range(1, 5)]


def test_a_wide_query_counts_for_its_seats() -> None:
    backend = build(Database(slots=2, thrash=0))
    backend.start(call(1, 1.0, seats=3), 0.0)
    backend.start(call(2, 1.0), 0.0)

    assert backend.done_by(1.0) == pytest.approx(2.0)
    assert ends(backend) == [(1, 2.0), (2, 2.0)]
    assert backend.done_by(3.0) == pytest.approx(4.0)


def test_a_query_that_is_cut_short_leaves_its_speed_to_the_others() -> None:
    backend = build(Database(slots=1, thrash=0))
    first, second = call(1, 1.0), call(2, 1.0)
    backend.start(first, 0.0)
    backend.start(second, 0.0)
    backend.stop(first, 1.0)

    assert backend.active == 1
    assert ends(backend) == [(2, 1.5)]


def test_slots_that_are_halved_and_given_back_move_the_end() -> None:
    backend = build(Database(slots=2, thrash=0))
    for number in (1, 2):
        backend.start(call(number, 4.0), 0.0)
    backend.change(1.0, 1.0, None)
    backend.change(3.0, 2.0, None)

    assert ends(backend) == [(1, 5.0), (2, 5.0)]


def test_a_pause_stops_everything_and_takes_nothing_away() -> None:
    backend = begun(Database(slots=2), [3.0])
    backend.change(1.0, None, 0.0)

    assert backend.next_end == math.inf

    backend.change(21.0, None, 1.0)

    assert ends(backend) == [(1, 23.0)]


def test_a_cold_cache_is_five_times_slower_for_a_minute() -> None:
    backend = begun(Database(slots=2), [15.0])
    backend.change(0.0, None, 0.2)
    backend.change(60.0, None, 1.0)

    assert ends(backend) == [(1, 63.0)]  # 12 s of work in the first minute, 3 s after it


def test_fixed_slots_queue_inside_the_database() -> None:
    backend = begun(Database(model=Model.SLOTS, slots=2), [1.0, 3.0, 1.0, 1.0])

    assert backend.active == 2
    assert ends(backend) == [(1, 1.0), (3, 2.0), (2, 3.0), (4, 3.0)]


def test_a_query_that_waits_inside_the_database_can_be_cut_short() -> None:
    backend = build(Database(model=Model.SLOTS, slots=1))
    calls = [call(number, 1.0) for number in (1, 2, 3)]
    for each in calls:
        backend.start(each, 0.0)
    backend.stop(calls[1], 0.5)

    assert ends(backend) == [(1, 1.0), (3, 2.0)]


def test_more_fixed_slots_begin_what_waits() -> None:
    backend = begun(Database(model=Model.SLOTS, slots=1), [2.0, 2.0])
    backend.change(1.0, 2.0, None)

    assert ends(backend) == [(1, 2.0), (2, 3.0)]


def test_queries_spill_when_their_memory_does_not_fit() -> None:
    # 200 of 100 are used: everything at half the speed until the first two end together
    database = Database(model=Model.SPILL, slots=8, memory=100, spill=1.0)

    assert ends(begun(database, [1.0, 1.0], memory=50)) == [(1, 1.0), (2, 1.0)]

    backend = begun(database, [1.0, 1.0, 2.0, 2.0], memory=50)

    assert backend.pressure() == Pressure(active=4, io_waiting=4, memory=1.0)
    assert ends(backend) == [(1, 2.0), (2, 2.0), (3, 3.0), (4, 3.0)]


def test_memory_of_a_query_that_is_cut_short_is_free_again() -> None:
    backend = build(Database(model=Model.SPILL, slots=8, memory=100, spill=1.0))
    first, second = call(1, 1.0, memory=100), call(2, 1.0, memory=100)
    backend.start(first, 0.0)
    backend.start(second, 0.0)
    backend.stop(first, 1.0)

    assert ends(backend) == [(2, 1.5)]


def test_a_lock_lets_through_what_it_can_and_waiters_make_it_dearer() -> None:
    # half of every query needs the lock: two at full speed; with four, two wait: 2 / (1 + 0.5 * 2) = 1 together
    database = Database(model=Model.CONVOY, slots=8, serial=0.5, handover=0.5)

    assert ends(begun(database, [1.0, 1.0])) == [(1, 1.0), (2, 1.0)]

    backend = begun(database, [1.0] * 4)

    assert backend.pressure() == Pressure(active=4, lock_waiting=2)
    assert ends(backend) == [(n, 4.0) for n in range(1, 5)]


def test_replicas_take_turns_by_their_use_and_a_slow_one_holds_up_its_own() -> None:
    backend = begun(Database(model=Model.REPLICAS, slots=4, nodes=2), [])
    backend.change(0.0, None, 0.5, 1)
    for number in (1, 2, 3):
        backend.start(call(number, 1.0), 0.0)

    assert ends(backend) == [(1, 1.0), (3, 1.0), (2, 2.0)]


def test_a_replica_that_stands_still_gets_nothing_new() -> None:
    backend = build(Database(model=Model.REPLICAS, slots=4, nodes=2))
    backend.change(0.0, None, 0.0, 0)
    for number in (1, 2):
        backend.start(call(number, 1.0), 0.0)

    assert ends(backend) == [(1, 1.0), (2, 1.0)]
    assert backend.full_speed() == 2


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ((), 320.0),
        ((Step(5.0, slots=16),), 240.0),
        ((Step(5.0, speed=0.0), Step(7.5, speed=1.0)), 240.0),
        ((Step(-1.0, slots=8), Step(20.0, slots=1)), 80.0),
        ((Step(5.0, "other", slots=1),), 320.0),
    ],
)
def test_capacity_follows_the_steps(steps: tuple[Step, ...], expected: float) -> None:
    assert capacity(Database(slots=32), steps, 0.0, 10.0) == pytest.approx(expected)


def test_capacity_of_replicas_and_of_a_lock() -> None:
    replicas = Database(model=Model.REPLICAS, slots=8, nodes=4)

    assert capacity(replicas, (Step(5.0, node=1, speed=0.5),), 0.0, 10.0) == pytest.approx(75.0)
    assert capacity(Database(model=Model.CONVOY, slots=8, serial=0.5), (), 0.0, 10.0) == pytest.approx(20.0)
