"""The stretch controller decision by decision: what moves the limit, and what must not."""

from __future__ import annotations

import pytest

from broker.domain.pool import BackendLimits, LimitMode
from broker.policy.admission.stretch import StretchLimit
from broker.policy.admission.values import Outcome, Pressure, Signal


class Driver:
    """Keeps so many queries running that take ``slower`` times what they are predicted to take."""

    def __init__(self, seats: int = 20, mode: LimitMode = LimitMode.ADAPTIVE, now: float = 1000.0) -> None:
        self.policy = StretchLimit(BackendLimits(seats, floor=2, ceiling=60, mode=mode))
        self.now = now
        self.count = 0
        self.running: list[tuple[float, str]] = []

    def start(self, predicted: float = 1.0, seats: int = 1) -> str:
        self.count += 1
        key = f"q{self.count}"
        self.policy.started(key, predicted, seats, self.now)
        return key

    def run(self, seconds: float, slower: float = 1.0, used: float = 1.0, predicted: float = 1.0) -> None:
        """Time passes with ``used`` of the limit in use, in steps of a tenth of a second."""
        end = self.now + seconds
        while self.now < end - 1e-9:
            while len(self.running) < used * self.policy.limit:
                self.running.append((self.now, self.start(predicted)))
            self.now += 0.1
            for begun, key in list(self.running):
                if self.now - begun >= slower - 1e-6:
                    self.running.remove((begun, key))
                    self.policy.ended(key, Outcome.SUCCESS, self.now - begun, self.now)
            due = self.policy.next_tick()
            if due is not None and due <= self.now:
                self.policy.tick(used >= 1.0, self.now)

    def pressed(self, seconds: float, news: Pressure, slower: float = 1.0, used: float = 1.0) -> None:
        """The same with news each second."""
        for _ in range(round(seconds)):
            self.policy.signal(news, self.now)
            self.run(1.0, slower, used)


def test_full_speed_with_all_seats_in_use_grows_to_the_ceiling() -> None:
    driver = Driver()
    assert driver.policy.limit == 20
    driver.run(10)
    assert driver.policy.limit > 23
    driver.run(60)
    assert driver.policy.limit == 60
    assert driver.policy.progress == pytest.approx(1.0, abs=0.02)


def test_full_speed_with_seats_to_spare_changes_nothing() -> None:
    driver = Driver()
    driver.run(60, used=0.8)
    assert driver.policy.limit == 20


def test_a_little_slow_whatever_their_number_keeps_nothing_down() -> None:
    driver = Driver()
    driver.run(60, slower=1.1)
    assert driver.policy.limit > 20


def test_slow_queries_cut_to_what_is_done_at_full_speed() -> None:
    driver = Driver()
    driver.run(5, slower=2.0)
    assert 10 <= driver.policy.limit <= 15
    assert driver.policy.progress == pytest.approx(0.5, abs=0.05)


def test_slow_queries_among_free_seats_change_nothing() -> None:
    driver = Driver()
    driver.run(30, slower=2.0, used=0.5)
    assert driver.policy.limit == 20


def test_queries_at_work_are_evidence_before_they_end() -> None:
    driver = Driver()
    driver.run(10, used=0.95)
    before = driver.policy.limit
    driver.run(15, slower=100.0)
    assert driver.policy.limit < 0.8 * before


def test_what_was_cut_short_counts_as_at_least_as_long() -> None:
    driver = Driver()
    for _ in range(30):
        ids = [driver.start(1.0) for _ in range(20)]
        driver.now += 2.0
        for key in ids:
            driver.policy.ended(key, Outcome.DROPPED, 2.0, driver.now)
        driver.policy.tick(True, driver.now)
    assert driver.policy.limit < 15


@pytest.mark.parametrize(("outcome", "predicted"), [(Outcome.IGNORED, 1.0), (Outcome.SUCCESS, 0.0)])
def test_callers_faults_and_unknown_predictions_are_no_samples(outcome: Outcome, predicted: float) -> None:
    driver = Driver()
    for _ in range(30):
        ids = [driver.start(predicted) for _ in range(20)]
        driver.now += 0.9
        for key in ids:
            driver.policy.ended(key, outcome, 9.0, driver.now)
        driver.policy.tick(True, driver.now)
    assert driver.policy.limit == 20
    assert driver.policy.progress == 1.0


def test_a_decision_is_due_each_second_or_after_eight_queries() -> None:
    driver = Driver()
    assert driver.policy.next_tick() is None
    ids = [driver.start() for _ in range(8)]
    assert driver.policy.next_tick() == driver.now + 1.0
    begun, driver.now = driver.now, driver.now + 0.02
    for key in ids[:7]:
        driver.policy.ended(key, Outcome.SUCCESS, 0.02, driver.now)
    assert driver.policy.next_tick() == begun + 1.0
    driver.policy.ended(ids[7], Outcome.SUCCESS, 0.02, driver.now)
    assert driver.policy.next_tick() == begun + 0.05


def test_the_speed_of_an_idle_backend_is_learned_while_it_is_nearly_idle() -> None:
    driver = Driver()
    driver.run(200, slower=2.0, used=0.4)
    assert driver.policy.baseline == pytest.approx(-0.69, abs=0.1)
    driver.run(30, slower=2.0)
    assert driver.policy.limit >= 20


def test_nothing_is_learned_while_others_keep_the_backend_busy() -> None:
    driver = Driver()
    driver.pressed(100, Pressure(active=18), slower=2.0, used=0.4)
    assert driver.policy.baseline == 0.0


def test_hard_signals_cut_at_most_once_per_runtime() -> None:
    driver = Driver()
    driver.run(30, slower=4.0, used=0.5, predicted=4.0)
    for _ in range(3):
        driver.policy.signal(Signal.CONNECTION_REFUSED, driver.now)
    assert driver.policy.limit == 14
    driver.policy.signal(Signal.OUT_OF_MEMORY, driver.now + 3.9)
    assert driver.policy.limit == 14
    driver.policy.signal(Signal.REPLICA_LOST, driver.now + 4.1)
    assert driver.policy.limit == 9
    driver.policy.signal(Signal.RECOVERED, driver.now + 5)
    assert driver.policy.limit == 20


def test_signals_never_lead_below_the_floor() -> None:
    driver = Driver()
    for i in range(40):
        driver.policy.signal(Signal.REPLICA_LOST, driver.now + 10.0 * i)
    assert driver.policy.limit == 2


def test_memory_that_runs_out_stops_admission_until_there_is_some() -> None:
    driver = Driver()
    driver.run(3)
    limit = driver.policy.limit
    driver.policy.signal(Pressure(memory=0.91), driver.now)
    assert driver.policy.limit == 0
    driver.policy.signal(Pressure(memory=0.87), driver.now + 1)
    assert driver.policy.limit == 0
    driver.policy.signal(Pressure(memory=0.84), driver.now + 2)
    assert driver.policy.limit == limit
    driver.policy.signal(Pressure(memory=0.89), driver.now + 3)
    assert driver.policy.limit == limit


def test_a_stop_ends_when_nothing_more_is_heard() -> None:
    driver = Driver()
    driver.run(3)
    driver.policy.signal(Pressure(memory=0.95), driver.now)
    driver.policy.tick(True, driver.now + 4.9)
    assert driver.policy.limit == 0
    driver.policy.tick(True, driver.now + 5.1)
    assert driver.policy.limit > 0


@pytest.mark.parametrize(
    "news",
    [
        Pressure(cpu=0.97),
        Pressure(active=20, lock_waiting=5),
        Pressure(active=20, io_waiting=15),
    ],
)
def test_a_backend_that_says_that_it_is_full_gets_no_more(news: Pressure) -> None:
    driver = Driver()
    driver.pressed(30, news)
    assert driver.policy.limit == 20
    driver.run(30)
    assert driver.policy.limit > 20


@pytest.mark.parametrize(
    "news",
    [
        Pressure(cpu=0.9),
        Pressure(active=20, lock_waiting=4),
        Pressure(active=3, lock_waiting=3),
        Pressure(active=20, io_waiting=14),
        Pressure(lock_waiting=20),
    ],
)
def test_a_backend_that_is_merely_busy_gets_more(news: Pressure) -> None:
    driver = Driver()
    driver.pressed(30, news)
    assert driver.policy.limit > 20


def test_a_convoy_of_locks_cuts_whatever_the_speed() -> None:
    driver = Driver()
    driver.pressed(5, Pressure(active=20, lock_waiting=12))
    assert driver.policy.limit < 15


def test_what_the_backend_says_is_why_queries_are_slow() -> None:
    """Slow however few there are, and the processors are busy: somebody else's load, no wrong predictions."""
    told, untold = Driver(40), Driver(40)
    told.pressed(60, Pressure(cpu=1.0), slower=2.0)
    untold.run(60, slower=2.0)
    assert told.policy.bias == pytest.approx(0.0, abs=0.05)
    assert told.policy.limit < 5
    assert untold.policy.bias < -0.3
    assert untold.policy.limit > 10


def test_without_evidence_the_limit_is_the_nominal_one() -> None:
    driver = Driver()
    driver.run(5, slower=2.0)
    assert driver.policy.limit < 20
    driver.policy.tick(False, driver.now + 25)
    assert driver.policy.limit < 20
    for _, key in driver.running:
        driver.policy.ended(key, Outcome.IGNORED, 0.1, driver.now)
    driver.policy.tick(False, driver.now + 60)
    assert driver.policy.limit == 20
    assert driver.policy.progress == 1.0


def test_a_static_limit_only_measures() -> None:
    driver = Driver(mode=LimitMode.STATIC)
    driver.run(20, slower=2.0)
    driver.policy.signal(Signal.REPLICA_LOST, driver.now)
    driver.policy.signal(Pressure(memory=0.99), driver.now)
    assert (driver.policy.limit, driver.policy.wished) == (20, 20)
    assert driver.policy.progress == pytest.approx(0.5, abs=0.05)


def test_a_shadow_only_wishes() -> None:
    driver = Driver(mode=LimitMode.SHADOW)
    driver.run(20, slower=2.0)
    assert driver.policy.limit == 20
    assert driver.policy.wished < 20


def test_wide_queries_count_with_their_seats() -> None:
    driver = Driver()
    for _ in range(20):
        ids = [driver.start(1.0, seats=4) for _ in range(5)]
        driver.now += 0.95
        for key in ids:
            driver.policy.ended(key, Outcome.SUCCESS, 0.95, driver.now)
        driver.policy.tick(True, driver.now)
    assert driver.policy.limit > 20
