"""The client's throttle on a clock of the test's own, and clients with it around a broker that can do only so much."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field, replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from querybroker.errors import QueryBrokerError
from querybroker.throttle import Sent, Throttle, Throttled, ThrottleSettings, chosen, is_refusal

FULL = QueryBrokerError("UNAVAILABLE", "full", reason="OVERLOADED")
# Without the two ways back, so that the share alone is seen.
BARE = ThrottleSettings(interval=float("inf"), run=1_000_000)


@dataclass
class Time:
    """A clock and a die."""

    now: float = 1_000.0
    die: float = 0.0

    def throttle(self, settings: ThrottleSettings = BARE) -> Throttle:
        return Throttle(settings, clock=lambda: self.now, chance=lambda: self.die)


def asked(throttle: Throttle, accepted: int, refused: int) -> list[Throttled]:
    """Makes calls, the refused ones first; those that were not sent."""
    held = []
    for number in range(refused + accepted):
        sent = throttle.ask()
        if isinstance(sent, Throttled):
            held.append(sent)
        elif number < refused:
            sent.failed(FULL)
        else:
            sent.accepted()
    return held


def share(throttle: Throttle) -> float:
    with throttle._lock:
        return throttle._share()


def test_nothing_is_held_back_before_there_is_enough_to_tell() -> None:
    throttle = Time().throttle()
    assert asked(throttle, accepted=0, refused=20) == []
    (held,) = asked(throttle, accepted=0, refused=1)
    assert (held.sent, held.refused, held.window) == (21, 21, 120.0)
    assert held.share == 0.95


@pytest.mark.parametrize(
    ("accepted", "refused", "expected"),
    [
        (100, 0, 0.0),
        (67, 33, 0.0),  # a third refused is what K = 1.5 lets through
        (50, 50, (100 - 75) / 101),
        (10, 90, (100 - 15) / 101),
        (0, 100, 0.95),
    ],
)
def test_the_share_that_is_held_back(accepted: int, refused: int, expected: float) -> None:
    time = Time(die=0.9999)  # all are sent
    throttle = time.throttle()
    asked(throttle, accepted, refused)
    assert share(throttle) == pytest.approx(expected)


def test_a_call_counts_when_it_is_sent_and_as_accepted_until_it_is_refused() -> None:
    throttle = Time().throttle()
    under_way = [throttle.ask() for _ in range(50)]
    assert all(isinstance(sent, Sent) for sent in under_way)
    assert share(throttle) == 0.0
    for sent in under_way[:40]:
        assert isinstance(sent, Sent)
        sent.failed(FULL)
        sent.accepted()  # what comes later does not count
    assert share(throttle) == pytest.approx((50 - 15) / 51)


def test_calls_that_were_held_back_count_as_not_accepted() -> None:
    time = Time(die=0.9999)
    throttle = time.throttle()
    asked(throttle, accepted=50, refused=50)
    before = share(throttle)
    time.die = 0.0
    assert len(asked(throttle, accepted=100, refused=0)) == 100
    assert share(throttle) > before


def test_the_window_forgets() -> None:
    time = Time(die=0.9999)
    throttle = time.throttle()
    asked(throttle, accepted=0, refused=100)
    time.now += 60.0
    late = throttle.ask()
    time.now += 61.0
    asked(throttle, accepted=1, refused=0)
    assert share(throttle) == 0.0
    assert isinstance(late, Sent)
    late.failed(FULL)
    assert throttle._refused == 1
    time.now += 1_000.0
    asked(throttle, accepted=1, refused=0)
    late.failed(FULL)
    assert throttle._refused == 0


def test_the_window_is_twice_the_runtime_of_long_calls() -> None:
    time = Time(die=0.9999)
    throttle = time.throttle()
    for seconds in [1.0] * 20 + [200.0] * 12:
        sent = throttle.ask()
        assert isinstance(sent, Sent)
        time.now += seconds
        sent.accepted()
    assert throttle._window == 400.0


def test_a_call_goes_out_every_second_and_a_run_of_answers_clears_the_memory() -> None:
    time = Time(die=0.0)
    throttle = time.throttle(ThrottleSettings())
    held = asked(throttle, accepted=0, refused=200)
    assert len(held) == 180
    for _ in range(4):
        assert isinstance(throttle.ask(), Throttled)
        time.now += 1.0
        sent = throttle.ask()
        assert isinstance(sent, Sent)
        sent.accepted()
        assert isinstance(throttle.ask(), Throttled)
    time.now += 1.0
    assert asked(throttle, accepted=1, refused=0) == []
    assert asked(throttle, accepted=30, refused=0) == []


def test_a_refusal_breaks_the_run() -> None:
    time = Time(die=0.9999)
    throttle = time.throttle(ThrottleSettings())
    asked(throttle, accepted=0, refused=100)
    for _ in range(10):
        asked(throttle, accepted=4, refused=1)
    assert share(throttle) > 0.0


@pytest.mark.parametrize(
    ("code", "reason", "refusal"),
    [
        ("UNAVAILABLE", "OVERLOADED", True),
        ("UNAVAILABLE", "STORE_UNAVAILABLE", True),
        ("UNAVAILABLE", "QUEUE_TIMEOUT", True),
        ("UNAVAILABLE", "", True),  # not reached at all
        ("RESOURCE_EXHAUSTED", "TENANT_QUOTA", True),
        ("RESOURCE_EXHAUSTED", "", False),  # an answer larger than the client takes
        ("UNAVAILABLE", "DRAINING", False),
        ("UNAVAILABLE", "WORKER_LOST", False),
        ("DEADLINE_EXCEEDED", "DEADLINE_TOO_SHORT", False),
        ("DEADLINE_EXCEEDED", "", False),
        ("INVALID_ARGUMENT", "INVALID_REQUEST", False),
        ("INTERNAL", "INTERNAL", False),
    ],
)
def test_what_is_a_refusal(code: str, reason: str, refusal: bool) -> None:
    assert is_refusal(QueryBrokerError(code, "", reason=reason)) is refusal


def test_a_client_has_one_of_its_own_a_shared_one_or_none() -> None:
    shared = Throttle()
    assert chosen(shared) is shared
    assert chosen(given=False) is None
    assert isinstance(chosen(given=True), Throttle)
    assert chosen(given=True) is not chosen(given=True)


EVENTS = st.lists(
    st.tuples(st.floats(0.0, 30.0), st.sampled_from(["ask", "accept", "refuse"]), st.integers(0, 9)),
    max_size=300,
)


@given(EVENTS, st.floats(0.0, 1.0, exclude_max=True))
def test_whatever_happens_the_sums_are_those_of_the_slices(
    events: list[tuple[float, str, int]], die: float
) -> None:
    time = Time(die=die)
    throttle = time.throttle(ThrottleSettings())
    under_way: list[Sent] = []
    for seconds, event, which in events:
        time.now += seconds
        if event == "ask":
            sent = throttle.ask()
            if isinstance(sent, Sent):
                under_way.append(sent)
            else:
                assert 0.0 < sent.share <= 0.95
                assert sent.sent >= 20
        elif under_way:
            sent = under_way.pop(which % len(under_way))
            if event == "accept":
                sent.accepted()
            else:
                sent.failed(FULL)
        assert throttle._calls == sum(s.calls for s in throttle._slices)
        assert throttle._refused == sum(s.refused for s in throttle._slices)
        assert 0 <= throttle._refused <= throttle._calls


@dataclass
class Crowd:
    """Clients that ask at random, ``load`` times what a broker can answer, and are refused at once beyond that."""

    clients: int = 20
    capacity: float = 100.0
    latency: float = 0.5
    settings: ThrottleSettings = field(default_factory=ThrottleSettings)
    seed: int = 1

    def run(self, loads: list[tuple[float, float]]) -> list[list[tuple[int, int, int]]]:
        """For each phase (load, seconds) the calls, the calls sent and those accepted, second by second."""
        random, time = Random(self.seed), Time(0.0)
        throttles = [
            Throttle(self.settings, clock=lambda: time.now, chance=random.random) for _ in range(self.clients)
        ]
        answers: list[tuple[float, int, Sent]] = []
        room, number, phases = 0.0, 0, []
        for load, seconds in loads:
            begin = time.now
            told = [[0, 0, 0] for _ in range(int(seconds))]
            while True:
                step = random.expovariate(self.capacity * load)
                at = time.now + step
                if at >= begin + seconds:
                    break
                while answers and answers[0][0] <= at:
                    time.now, _, sent = heapq.heappop(answers)
                    sent.accepted()
                time.now, room = at, min(0.2 * self.capacity, room + step * self.capacity)
                count = told[int(at - begin)]
                count[0] += 1
                got = random.choice(throttles).ask()
                if isinstance(got, Throttled):
                    continue
                count[1] += 1
                if room < 1.0:
                    got.failed(FULL)
                    continue
                room, number = room - 1.0, number + 1
                count[2] += 1
                heapq.heappush(answers, (at + random.expovariate(1 / self.latency), number, got))
            time.now = begin + seconds
            phases.append([(a, b, c) for a, b, c in told])
        return phases


def sums(seconds: list[tuple[int, int, int]]) -> tuple[int, int, int]:
    calls, sent, accepted = (sum(column) for column in zip(*seconds, strict=True))
    return calls, sent, accepted


@pytest.mark.parametrize("seed", range(3))
def test_ten_times_the_load_arrives_as_less_than_three_times_and_the_broker_stays_busy(seed: int) -> None:
    calm, peak, after = Crowd(seed=seed).run([(0.8, 20), (10, 60), (0.8, 30)])
    calls, sent, _ = sums(calm)
    assert sent == calls  # nobody is held back for nothing
    calls, sent, accepted = sums(peak[10:])
    assert calls / accepted > 9.5
    assert sent / accepted < 3.0
    assert accepted >= 0.98 * 100.0 * 50
    calls, _, accepted = sums(after[10:])
    assert accepted >= 0.95 * calls


def test_without_the_two_ways_back_the_broker_is_spared_long_after() -> None:
    """What they are for: the window alone remembers the storm for as long as it lasts."""
    plain = replace(ThrottleSettings(), interval=float("inf"), run=1_000_000)
    *_, after = Crowd(settings=plain).run([(10, 60), (0.8, 30)])
    calls, _, accepted = sums(after[10:])
    assert accepted < 0.5 * calls
