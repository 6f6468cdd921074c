"""What samples say: medians with queries that are not done, windows, changes."""

from __future__ import annotations

import math
from random import Random
from statistics import fmean

import pytest

from broker.policy.admission.stretch_evidence import (
    LEAST,
    MOST,
    RECENT,
    Evidence,
    Reading,
    Running,
    Sample,
    survival_median,
)


def done(at: float, seconds: float, predicted: float = 1.0, seats: float = 4.0) -> Sample:
    return Sample(at, predicted, seconds, seats, True)


def read(evidence: Evidence, now: float, *running: Running) -> Reading:
    reading = evidence.read(running, 4.0, now)
    assert reading is not None
    return reading


@pytest.mark.parametrize(
    ("spans", "value"),
    [
        ([(1.0, 0.0, True), (2.0, 0.0, True), (3.0, 0.0, True)], 2.0),
        # The one that left at 1 could have ended anywhere later: 2 of 3 remain after 2, 1 of 3 after 3.
        ([(1.0, 0.0, False), (2.0, 0.0, True), (3.0, 0.0, True), (4.0, 0.0, True)], 3.0),
        # Those that came in late were no risk before: at 1 one of two ends.
        ([(1.0, 0.0, True), (1.5, 0.0, False), (9.0, 5.0, True), (9.5, 5.0, True)], 1.0),
        # Nothing has ended: what half of them have reached.
        ([(1.0, 0.0, False), (2.0, 0.0, False), (50.0, 0.0, False)], 2.0),
    ],
)
def test_the_median_of_a_survival_curve(spans: list[tuple[float, float, bool]], value: float) -> None:
    assert survival_median(spans) == value


def test_running_queries_do_not_bend_the_median() -> None:
    """Watched from any instant, a steady stream has the median of its queries; the late ones alone would not."""
    random = Random(5)
    stretches = []
    for trial in range(60):
        evidence, ended, running = Evidence(), [], []
        now = 100.0 * (trial + 1)
        for i in range(200):
            since, seconds = now - 20.0 + i * 0.1, math.exp(random.gauss(0.0, 0.8))
            if since + seconds < now:
                ended.append(done(since + seconds, seconds))
            else:
                running.append(Running(since, 1.0, 1, 0.0))
        for sample in sorted(ended, key=lambda sample: sample.at):
            evidence.add(sample)
        stretches.append(read(evidence, now, *running).stretch)
    assert fmean(stretches) == pytest.approx(0.0, abs=0.03)


def test_too_little_says_nothing() -> None:
    evidence = Evidence()
    for i in range(LEAST - 1):
        evidence.add(done(float(i) / 10, 1.0))
    assert evidence.read([], 4.0, 2.0) is None
    assert evidence.read([Running(1.5, 1.0, 1, 0.0)], 4.0, 2.0) is None
    assert read(evidence, 2.0, Running(0.5, 1.0, 1, 0.0)).stretch == pytest.approx(0.0)


def test_queries_without_a_prediction_are_no_evidence() -> None:
    evidence = Evidence()
    assert evidence.read([Running(0.0, 0.0, 1, 0.0)] * 50, 4.0, 9.0) is None


def test_samples_count_for_twelve_seconds_and_the_latest_at_most() -> None:
    evidence = Evidence()
    for _ in range(30):
        evidence.add(done(0.0, 1.0))
    for _ in range(20):
        evidence.add(done(11.0, 1.0))
    assert read(evidence, 11.9).count == 50
    assert read(evidence, 12.1).count == 20
    for i in range(200):
        evidence.add(done(12.0 + i / 100, 1.0))
    assert evidence.count == MOST
    assert evidence.read([], 4.0, 120.0) is None


def test_long_queries_count_for_longer() -> None:
    evidence = Evidence()
    for i in range(LEAST):
        evidence.add(done(10.0 * i, 30.0, predicted=30.0))
    assert read(evidence, 110.0).count == LEAST
    assert evidence.runtime == 30.0
    assert evidence.read([], 4.0, 400.0) is None


def test_a_change_is_noticed_from_the_latest_alone() -> None:
    random = Random(1)
    evidence = Evidence()
    for i in range(80):
        evidence.add(done(i / 10, 0.05 * math.exp(random.gauss(0.0, 0.5)), predicted=0.05))
    assert read(evidence, 8.0).count == 80
    for i in range(RECENT):
        evidence.add(done(8.0 + i / 10, 0.1 * math.exp(random.gauss(0.0, 0.5)), predicted=0.05))
    reading = read(evidence, 9.6)
    assert reading.count == RECENT
    assert reading.stretch < -0.4
    assert read(evidence, 9.7).count == RECENT


def test_chance_is_no_change() -> None:
    broken = 0
    random = Random(2)
    for _ in range(200):
        evidence = Evidence()
        for i in range(MOST):
            evidence.add(done(i / 10, math.exp(random.gauss(0.0, 0.5))))
        broken += read(evidence, 9.6).count < MOST
    assert broken <= 4


def test_the_load_is_that_beside_which_the_queries_ran() -> None:
    evidence = Evidence()
    for i in range(20):
        evidence.add(done(i / 10, 1.0, seats=16.0))
    assert read(evidence, 2.0).load == pytest.approx(math.log(16 * 20 / 21 + 4 / 21))
