"""The circuit breaker on a clock of the test's own."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.state import Breaker
from broker.policy.breaker import BreakerSettings, Change, CircuitBreaker, Rejected, Ticket

SETTINGS = BreakerSettings(
    in_a_row=3,
    window=10.0,
    least_calls=8,
    failure_rate=0.5,
    shortest_open=0.1,
    first_open=1.0,
    longest_open=8.0,
    trials=3,
    successes=2,
    trial_wait=0.25,
)
REFUSED = "connection refused"


def breaker(random: float = 0.5, settings: BreakerSettings = SETTINGS) -> CircuitBreaker:
    return CircuitBreaker(settings, lambda: random)


def leave(of: CircuitBreaker, now: float) -> Ticket:
    """Leave that must be given."""
    ticket = of.admit(now)
    assert isinstance(ticket, Ticket)
    return ticket


def refusal(of: CircuitBreaker, now: float) -> Rejected:
    """A rejection that must come."""
    rejected = of.admit(now)
    assert isinstance(rejected, Rejected)
    return rejected


def state(of: CircuitBreaker) -> Breaker:
    """The state, which a type checker takes for settled once it was compared."""
    return of.state


def unreachable(of: CircuitBreaker, now: float, times: int = 1) -> None:
    for _ in range(times):
        of.unreachable(REFUSED, now, now)


def opened(random: float = 0.5, now: float = 100.0, settings: BreakerSettings = SETTINGS) -> CircuitBreaker:
    made = breaker(random, settings)
    unreachable(made, now, settings.in_a_row)
    assert state(made) is Breaker.OPEN
    return made


def test_connections_that_cannot_be_made_open_it_and_it_says_why() -> None:
    made = breaker()
    unreachable(made, 100.0, 2)
    assert (made.state, made.cause) == (Breaker.CLOSED, "")
    unreachable(made, 100.0)
    (change,) = made.news()
    assert (change.before, change.after) == (Breaker.CLOSED, Breaker.OPEN)
    assert (change.reason, change.cause, change.open_for) == (Change.FAILURES_IN_A_ROW, REFUSED, 0.5)
    rejected = refusal(made, 100.2)
    assert (rejected.state, rejected.cause) == (Breaker.OPEN, REFUSED)
    assert (rejected.since, rejected.retry_after) == pytest.approx((0.2, 0.3))
    assert made.news() == ()


@pytest.mark.parametrize("connection", [True, False])
def test_a_success_between_them_ends_the_row(connection: bool) -> None:
    made = breaker()
    for now in range(2):
        unreachable(made, float(now), 2)
        if connection:
            made.reached(float(now))
        else:
            made.succeeded(leave(made, float(now)), float(now))
    assert state(made) is Breaker.CLOSED


def test_lost_calls_open_it_by_their_share_not_by_their_number() -> None:
    made = breaker()
    for now in range(7):
        made.failed(leave(made, 0.1 * now), "lost", 0.1 * now)
        assert state(made) is Breaker.CLOSED  # too few calls to tell
    made.failed(leave(made, 0.8), "lost", 0.8)
    assert made.news()[0].reason is Change.FAILURE_RATE

    busy = breaker()
    for now in range(100):
        ticket = leave(busy, 0.01 * now)
        if now % 5 > 2:
            busy.failed(ticket, "lost", 0.01 * now)
        else:
            busy.succeeded(ticket, 0.01 * now)
    assert state(busy) is Breaker.CLOSED


def test_failures_are_forgotten_with_the_window() -> None:
    made = breaker()
    for _ in range(7):
        made.failed(leave(made, 50.0), "lost", 50.0)
    made.failed(leave(made, 61.0), "lost", 61.0)
    assert state(made) is Breaker.CLOSED


def test_trials_go_through_one_at_a_time_until_enough_have_succeeded() -> None:
    made = opened()
    first = leave(made, 100.5)
    assert first.trial
    assert refusal(made, 100.5).retry_after == 0.25
    made.succeeded(first, 100.6)
    assert state(made) is Breaker.HALF_OPEN
    second = leave(made, 100.6)
    made.succeeded(second, 100.7)
    assert state(made) is Breaker.CLOSED
    assert not leave(made, 100.7).trial
    assert [news.reason for news in made.news()][1:] == [Change.OPEN_TIME_OVER, Change.TRIALS_SUCCEEDED]


def test_who_only_asks_whether_it_is_shut_takes_no_leave() -> None:
    made = breaker()
    assert made.shut(99.0) is None
    made = opened()
    rejected = made.shut(100.4)
    assert rejected is not None
    assert rejected.retry_after == refusal(made, 100.4).retry_after
    assert made.shut(100.5) is None, "somebody has to try"
    assert leave(made, 100.5).trial
    assert made.shut(100.5) is not None, "but not two at a time"


@pytest.mark.parametrize("connecting", [True, False])
def test_a_failed_trial_opens_it_for_longer(connecting: bool) -> None:
    made, now = opened(random=0.999), 100.0
    waits = []
    for _ in range(6):
        waits.append(refusal(made, now).retry_after)
        now += waits[-1]
        ticket = leave(made, now)
        if connecting:
            made.unreachable("still away", now, now)
            made.released(ticket, now)
        else:
            made.failed(ticket, "still away", now)
        assert made.cause == "still away"
    assert waits == pytest.approx([0.999, 1.998, 3.996, 7.992, 7.992, 7.992])


def test_trials_that_tell_nothing_are_used_up() -> None:
    made = opened()
    for _ in range(SETTINGS.trials):
        assert state(made) is not Breaker.CLOSED
        made.released(leave(made, 101.0), 101.0)
    assert made.news()[-1].reason is Change.TRIALS_USED_UP
    assert made.news() == ()
    assert refusal(made, 101.0).retry_after == 0.5  # no longer than before: nothing was learned


def test_open_times_are_spread_over_the_whole_ceiling_but_never_none() -> None:
    waits = [refusal(opened(random), 100.0).retry_after for random in (0.0, 0.05, 0.5, 0.999)]
    assert waits == pytest.approx([0.1, 0.1, 0.5, 0.999])


def test_evidence_from_before_a_change_is_ignored() -> None:
    made = breaker()
    old = leave(made, 99.0)
    unreachable(made, 100.0, 3)
    trial = leave(made, 100.5)
    made.succeeded(old, 100.6)
    made.failed(old, "older", 100.6)
    made.unreachable("a slow connection", 99.0, 100.6)  # begun before
    assert state(made) is Breaker.HALF_OPEN
    made.succeeded(trial, 100.7)
    assert state(made) is Breaker.HALF_OPEN
    made.succeeded(leave(made, 100.8), 100.8)
    assert state(made) is Breaker.CLOSED


def test_a_relapse_goes_on_with_the_ceiling_and_a_long_health_resets_it() -> None:
    def closed_again(made: CircuitBreaker, now: float) -> None:
        for _ in range(2):
            made.succeeded(leave(made, now), now)

    made = opened(random=0.999)
    closed_again(made, 101.0)
    unreachable(made, 102.0, 3)
    assert refusal(made, 102.0).retry_after == pytest.approx(1.998)
    closed_again(made, 104.0)
    unreachable(made, 120.0, 3)
    assert refusal(made, 120.0).retry_after == pytest.approx(0.999)


def test_who_got_leave_before_it_opened_is_turned_back_at_the_door() -> None:
    made = breaker()
    assert made.barred(99.0) is None
    unreachable(made, 100.0, 3)
    rejected = made.barred(100.2)
    assert rejected is not None
    assert rejected.cause == REFUSED
    assert rejected.retry_after == pytest.approx(0.3)
    late = made.barred(200.0)  # the time is over, but trials have leave of their own
    assert late is not None
    assert late.retry_after == 0.1
    assert leave(made, 200.0).trial
    assert made.barred(200.0) is None


EVENTS = st.lists(
    st.tuples(
        st.floats(0.0, 3.0),
        st.sampled_from(["admit", "ok", "failed", "released", "unreachable", "reached"]),
        st.integers(0, 5),
    ),
    max_size=200,
)


def happen(made: CircuitBreaker, event: str, which: int, now: float, held: list[Ticket]) -> None:
    """One event; tickets under way are in ``held``."""
    if event == "admit":
        got = made.admit(now)
        if isinstance(got, Ticket):
            held.append(got)
        else:
            assert 0.0 <= got.retry_after <= SETTINGS.longest_open
            assert got.state is not Breaker.CLOSED
    elif event == "unreachable":
        made.unreachable(REFUSED, max(0.0, now - which), now)
    elif event == "reached":
        made.reached(now)
    elif held:
        ticket = held.pop(which % len(held))
        if event == "ok":
            made.succeeded(ticket, now)
        elif event == "failed":
            made.failed(ticket, "lost", now)
        else:
            made.released(ticket, now)


@given(EVENTS, st.floats(0.0, 1.0, exclude_max=True))
def test_whatever_happens_trials_are_single_waits_are_bounded_and_it_comes_back(
    events: list[tuple[float, str, int]], random: float
) -> None:
    made, now = breaker(random), 0.0
    held: list[Ticket] = []
    last = Breaker.CLOSED
    for seconds, event, which in events:
        now += seconds
        happen(made, event, which, now, held)
        for change in made.news():
            assert change.before is last
            last = change.after
            assert (change.before, change.after) in {
                (Breaker.CLOSED, Breaker.OPEN),
                (Breaker.OPEN, Breaker.HALF_OPEN),
                (Breaker.HALF_OPEN, Breaker.OPEN),
                (Breaker.HALF_OPEN, Breaker.CLOSED),
            }
        assert last is made.state
        assert sum(t.trial and t.period == made._period for t in held) <= 1
    for ticket in held:
        made.released(ticket, now)
    now += SETTINGS.longest_open  # whatever came before, a backend that works is used again
    for _ in range(2):
        made.succeeded(leave(made, now), now)
    assert state(made) is Breaker.CLOSED


def test_scaling_all_times_scales_the_waits() -> None:
    slow = replace(SETTINGS, window=100.0, shortest_open=1.0, first_open=10.0, longest_open=80.0)
    for random in (0.0, 0.3, 0.9):
        quick_wait = refusal(opened(random), 100.0).retry_after
        slow_wait = refusal(opened(random, settings=slow), 100.0).retry_after
        assert slow_wait == pytest.approx(10 * quick_wait)
