"""Wide requests, memory, and whoever passes them while they have no room."""

from __future__ import annotations

import pytest

from broker.policy.admission.dispatch import SCANNED_FLOWS, SCANNED_WAITERS
from broker.policy.admission.scheduler import Scheduler
from broker.policy.admission.values import Admitted, Outcome, Quantiles, Queued, Tuning
from tests.support.scheduling import (
    DASHBOARD,
    JOB,
    Adjustable,
    admitted_ids,
    ask,
    limits,
    offer_all,
    shared,
    takes,
)

FAR = 1e6
SEATS = 40  # a request may be as wide as 15 % of them: six


def busy(
    ends: dict[float, int],
    tuning: Tuning | None = None,
    *,
    policy: Adjustable | None = None,
    memory: int = 0,
) -> Scheduler:
    """A backend of forty seats on which so many requests run as end at each time; they are named ``time/number``."""
    core = shared(SEATS, {DASHBOARD: limits()}, tuning=tuning, policy=policy, memory=memory)
    for seconds, count in ends.items():
        asked = [ask(f"{seconds}/{n}", f"r{n}", FAR, takes(seconds)) for n in range(count)]
        assert all(isinstance(decision, Admitted) for decision in offer_all(core, asked))
    return core


def wide(core: Scheduler, seats: float = 6.0, now: float = 0.0) -> None:
    assert isinstance(core.offer(ask("wide", "w", FAR, takes(1.0), seats=seats), now)[0], Queued)


def end(core: Scheduler, id: str, now: float) -> list[str]:
    return admitted_ids(core.finish(id, Outcome.SUCCESS, 1.0, now))


@pytest.mark.parametrize(
    ("asked", "given"), [(0.2, 1), (1.0, 1), (1.4, 1), (1.6, 2), (5.0, 5), (6.0, 6), (30.0, 6)]
)
def test_a_request_is_as_wide_as_it_asks_up_to_a_part_of_the_seats(asked: float, given: int) -> None:
    core = shared(SEATS, {DASHBOARD: limits()})
    core.offer(ask("1", deadline=FAR, predicted=takes(1.0), seats=asked), 0.0)
    assert core.backends()[0].seats_used == core.loads()[0].seats_used == given
    assert core.state(0.0)[0].tenants[0].seats_used == given
    core.finish("1", Outcome.SUCCESS, 1.0, 1.0)
    assert core.backends()[0].seats_used == core.loads()[0].seats_used == 0


def test_a_small_backend_has_narrow_requests_only() -> None:
    core = shared(6, {DASHBOARD: limits()})
    core.offer(ask("1", deadline=FAR, seats=4.0), 0.0)
    assert core.backends()[0].seats_used == 1


def test_a_wide_request_starts_when_it_has_all_its_seats() -> None:
    core = busy({5.0: 36})
    wide(core)
    assert end(core, "5.0/0", 5.0) == []
    assert end(core, "5.0/1", 5.0) == ["wide"]


def test_who_ends_before_the_wide_one_could_start_goes_first() -> None:
    core = busy({5.0: 36})
    wide(core)
    quick = core.offer(ask("quick", "q", FAR, takes(5.0)), 0.0)
    assert [type(decision) for decision in quick] == [Queued, Admitted]
    assert [type(decision) for decision in core.offer(ask("slow", "s", FAR, takes(5.5)), 0.0)] == [Queued]
    assert core.loads()[0].queue_length == 2


def test_who_passes_is_judged_by_its_high_prediction() -> None:
    core = busy({5.0: 36})
    wide(core)
    assert admitted_ids(core.offer(ask("unsure", "q", FAR, Quantiles(1.0, 2.0, 9.0)), 0.0)) == []


def test_the_start_of_a_wide_one_is_when_enough_others_have_ended() -> None:
    core = busy({2.0: 1, 4.0: 1, 9.0: 35})
    wide(core, 5.0)  # three are free, two more end until the fourth second
    assert admitted_ids(core.offer(ask("three", "a", FAR, takes(4.0)), 0.0)) == ["three"]
    assert admitted_ids(core.offer(ask("nine", "b", FAR, takes(8.0)), 0.0)) == []


def test_a_slow_backend_puts_the_start_off() -> None:
    core = busy({5.0: 36}, policy=Adjustable(SEATS, 0.5))
    wide(core)
    assert admitted_ids(core.offer(ask("ten", "q", FAR, takes(10.0)), 0.0)) == ["ten"]


def test_after_a_while_seats_are_held_for_the_wide_one() -> None:
    core = busy({5.0: 36}, Tuning(hold_after=1.0))
    wide(core)
    assert admitted_ids(core.offer(ask("early", "q", FAR, takes(0.5)), 0.9)) == ["early"]
    assert admitted_ids(core.offer(ask("late", "q", FAR, takes(0.5)), 1.0)) == []
    assert end(core, "early", 1.1) == []
    assert end(core, "5.0/0", 1.2) == []
    assert end(core, "5.0/1", 1.3) == ["wide"]
    assert end(core, "5.0/2", 1.4) == ["late"]


def test_seats_beyond_the_held_ones_are_free_for_all() -> None:
    core = busy({5.0: 30, 9.0: 9}, Tuning(hold_after=1.0))
    wide(core, 4.0)
    offer_all(core, [ask(name, name, FAR, takes(50.0)) for name in ("a", "b")])
    started = [end(core, f"5.0/{n}", 1.5) for n in range(5)]
    assert started == [[], [], ["wide"], ["a"], ["b"]]


def test_seats_beside_those_that_are_held_go_to_quick_ones() -> None:
    core = busy({5.0: 35}, Tuning(hold_after=1.0), memory=1000)
    core.offer(ask("heavy", "h", FAR, takes(9.0), memory=700), 0.0)
    core.offer(
        ask("wide", "w", FAR, takes(1.0), seats=2.0, memory=700), 0.0
    )  # four seats are free, no memory is
    asked = [core.offer(ask(name, name, FAR, takes(0.5)), 1.0) for name in ("a", "b", "c")]
    assert list(map(admitted_ids, asked)) == [["a"], ["b"], []]
    assert admitted_ids(core.offer(ask("d", "d", FAR, takes(50.0)), 1.0)) == []
    assert end(core, "heavy", 1.5) == ["wide", "c"]


@pytest.mark.parametrize("leave", ["cancel", "timeout"])
def test_a_wide_one_that_leaves_gives_way_at_once(leave: str) -> None:
    core = busy({5.0: 36})
    wide_one = ask("wide", "w", 9.0, takes(1.0), seats=6.0)
    queued = core.offer(wide_one, 0.0)[0]
    assert isinstance(queued, Queued)
    core.offer(ask("slow", "s", FAR, takes(20.0)), 0.0)
    decisions = core.cancel("wide", 2.0) if leave == "cancel" else core.tick(queued.until)
    assert admitted_ids(decisions) == ["slow"]
    assert [type(d) for d in core.offer(ask("next", "s", FAR, takes(20.0)), 5.0)] == [Admitted]


def test_nobody_is_refused_beside_free_seats_because_of_one_that_has_left() -> None:
    core = busy({5.0: 36})
    wide(core)
    core.cancel("wide", 1.0)
    assert [type(d) for d in core.offer(ask("1", "s", 20.0, takes(19.0)), 1.0)] == [Admitted]


def test_one_that_has_started_blocks_nobody() -> None:
    core = busy({5.0: 34})
    core.offer(ask("a", "a", FAR, takes(1.0), seats=4.0), 0.0)
    core.offer(ask("wide", "w", FAR, takes(1.0), seats=3.0), 0.0)
    assert end(core, "5.0/0", 1.0) == ["wide"]
    assert core.finish("5.0/1", Outcome.SUCCESS, 1.0, 1.0) == ()
    assert [type(d) for d in core.offer(ask("1", "s", 20.0, takes(19.0)), 1.0)] == [Admitted]


def test_memory_is_a_second_kind_of_seat() -> None:
    core = shared(10, {DASHBOARD: limits()}, memory=1000)  # of which 800 may be filled
    asked = [ask(str(n), str(n), FAR, takes(1.0), memory=300) for n in range(3)]
    assert [type(d) for d in offer_all(core, asked)] == [Admitted, Admitted, Queued]
    assert core.backends()[0].memory_used == 600
    assert [type(d) for d in core.offer(ask("none", "x", FAR, takes(0.5)), 0.0)] == [Queued, Admitted]
    assert end(core, "0", 1.0) == ["2"]
    for name in ("1", "2", "none"):
        end(core, name, 2.0)
    assert core.backends()[0].memory_used == 0


def test_who_ends_before_there_is_memory_again_goes_first() -> None:
    core = shared(10, {DASHBOARD: limits()}, memory=1000)
    for name, seconds, memory in (("a", 2.0, 500), ("b", 9.0, 300)):
        core.offer(ask(name, name, FAR, takes(seconds), memory=memory), 0.0)
    core.offer(ask("heavy", "h", FAR, takes(1.0), memory=500), 0.0)
    assert admitted_ids(core.offer(ask("quick", "q", FAR, takes(2.0)), 0.0)) == ["quick"]
    assert admitted_ids(core.offer(ask("slow", "s", FAR, takes(4.0)), 0.0)) == []


def test_memory_may_be_filled_to_the_last_byte() -> None:
    core = shared(10, {DASHBOARD: limits()}, memory=1000)
    asked = [ask("1", deadline=FAR, memory=500), ask("2", deadline=FAR, memory=300)]
    assert [type(d) for d in offer_all(core, asked)] == [Admitted, Admitted]


def test_what_needs_more_memory_than_there_is_runs_alone() -> None:
    core = shared(10, {DASHBOARD: limits()}, memory=1000)
    assert isinstance(core.offer(ask("huge", deadline=FAR, memory=5000), 0.0)[0], Admitted)
    assert isinstance(core.offer(ask("small", "b", deadline=FAR, memory=1), 0.0)[0], Queued)
    assert end(core, "huge", 1.0) == ["small"]
    assert isinstance(core.offer(ask("again", deadline=FAR, memory=5000), 1.0)[0], Queued)


def test_memory_is_charged_as_the_seats_that_it_is_worth() -> None:
    core = shared(10, {DASHBOARD: limits()}, memory=1000)
    core.offer(ask("1", "a", FAR, takes(2.0), memory=400), 0.0)  # half of the memory: five seats' worth
    core.finish("1", Outcome.SUCCESS, 2.0, 2.0)
    core.offer(ask("2", "b", FAR, takes(2.0)), 2.0)
    core.finish("2", Outcome.SUCCESS, 2.0, 4.0)
    assert [t.share for t in core.state(4.0)[0].tenants] == pytest.approx([5 / 6, 1 / 6], rel=0.02)


def test_a_pool_of_its_own_seats_is_not_kept_out_by_memory() -> None:
    core = shared(10, {DASHBOARD: limits(), JOB: limits(2, share=0.0)}, memory=1000)
    core.offer(ask("1", deadline=FAR, memory=700), 0.0)
    assert isinstance(core.offer(ask("2", deadline=FAR, memory=700, pool=JOB), 0.0)[0], Admitted)
    assert core.backends()[0].memory_used == 1400


def test_dispatch_looks_past_a_bounded_number_of_requests_without_room() -> None:
    core = shared(10, {DASHBOARD: limits(), JOB: limits()})
    running = [ask(f"j{n}", f"j{n}", FAR, takes(9.0), JOB) for n in range(5)]
    offer_all(core, running)
    long = [ask(f"w{n}", f"w{n % 3}", FAR, takes(9.0), JOB) for n in range(3 * SCANNED_WAITERS)]
    assert all(isinstance(d, Queued) for d in offer_all(core, long))
    # A quick one of another tenant may borrow at once; nobody of those before it may.
    assert isinstance(core.offer(ask("quick", "q", FAR, takes(1.0), JOB), 0.0)[0], Admitted)
    assert SCANNED_FLOWS * SCANNED_WAITERS <= 64


def test_a_tenant_leaves_a_part_of_the_seats_to_others_while_they_wait() -> None:
    core = shared(8, {DASHBOARD: limits(tenant_share=0.75)})
    asked = [ask(f"a{n}", "a", FAR, takes(1.0)) for n in range(12)]
    assert sum(isinstance(d, Admitted) for d in offer_all(core, asked)) == 8  # alone it may have all
    core.cancel("a11", 0.0)
    offer_all(core, [ask(name, name[0], FAR, takes(90.0)) for name in ("b0", "b1", "c0", "c1")])
    # After two turns of the others the tags of a are the smallest, and it has six seats of eight: its part.
    assert [end(core, f"a{n}", 0.1)[0] for n in range(2)] == ["b0", "c0"]
    assert [end(core, f"a{n}", 0.1)[0] for n in range(2, 5)] == ["a8", "a9", "a10"]


def test_a_tenant_beyond_its_part_stands_back_even_when_it_has_had_least() -> None:
    core = shared(4, {DASHBOARD: limits(tenant_share=0.5)})
    offer_all(core, [ask(f"a{n}", "a", FAR, takes(0.1)) for n in range(6)])
    offer_all(core, [ask(f"b{n}", "b", FAR, takes(50.0)) for n in range(3)])
    offer_all(core, [ask(f"c{n}", "c", FAR, takes(50.0)) for n in range(3)])
    order = [end(core, f"a{n}", 0.1 + n)[0] for n in range(4)]
    assert [name[0] for name in order] == ["b", "c", "a", "a"]


def test_the_time_to_hold_goes_on_while_all_seats_are_taken() -> None:
    core = busy({5.0: 37}, Tuning(hold_after=1.0))
    wide(core)
    quick = [ask(f"q{n}", "q", FAR, takes(0.5)) for n in range(4)]
    assert [core.offer(each, 0.1)[-1].id for each in quick] == ["q0", "q1", "q2", "q3"]
    assert core.backends()[0].seats_used == SEATS
    assert end(core, "q0", 1.05) == []


def test_one_whose_pool_is_full_blocks_nobody() -> None:
    pools = {DASHBOARD: limits(), JOB: limits(2, reclaim=9.0)}
    core = shared(SEATS, pools)
    offer_all(core, [ask(f"d{n}", f"d{n}", FAR, takes(1.0)) for n in range(37)])
    core.offer(ask("j", "j", FAR, takes(1.0), JOB), 0.0)
    core.offer(ask("wide", "w", FAR, takes(1.0), JOB, seats=3.0), 0.0)
    assert admitted_ids(core.offer(ask("quick", "q", FAR, takes(0.5), JOB), 0.0)) == ["quick"]
    assert [type(d) for d in core.offer(ask("last", "x", 1.01, takes(1.0)), 0.0)] == [Admitted]


def test_the_time_to_hold_begins_when_the_wide_one_has_no_room() -> None:
    core = busy({5000.0: 36}, Tuning(hold_after=1.0))
    wide(core, now=100.0)
    asked = [core.offer(ask(f"{at}", "q", FAR, takes(0.5)), at) for at in (100.9, 101.0)]
    assert list(map(admitted_ids, asked)) == [["100.9"], []]


def test_a_request_for_two_seats_blocks_like_a_wider_one() -> None:
    core = busy({5.0: 39})
    wide(core, 2.0)
    assert admitted_ids(core.offer(ask("slow", "s", FAR, takes(9.0)), 0.0)) == []


def test_one_for_which_seats_are_held_starts_when_it_has_room_whoever_else_would_be_next() -> None:
    core = shared(10, {DASHBOARD: limits(), JOB: limits()}, memory=1000, tuning=Tuning(hold_after=1.0))
    core.offer(ask("big", "x", FAR, takes(50.0), JOB, memory=700), 0.0)
    offer_all(core, [ask(f"d{n}", f"d{n}", FAR, takes(50.0)) for n in range(5)])
    core.offer(ask("held", "h", FAR, takes(50.0), JOB, memory=300), 0.0)
    core.offer(
        ask("other", "o", FAR, takes(50.0)), 1.5
    )  # waits behind the one for which seats are held by now
    assert end(core, "big", 2.0)[0] == "held"
