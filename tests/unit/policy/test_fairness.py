"""Jain's index over a sliding window."""

from __future__ import annotations

import pytest

from broker.policy.fairness import MOST_TENANTS, WINDOW, Fairness, jain


@pytest.mark.parametrize(
    ("values", "index"),
    [([], 1.0), ([3.0], 1.0), ([0.0, 0.0], 1.0), ([2.0, 2.0], 1.0), ([1.0, 0.0], 0.5), ([3.0, 1.0], 0.8)],
)
def test_the_index(values: list[float], index: float) -> None:
    assert jain(values) == pytest.approx(index)


def test_only_who_waited_in_the_window_counts() -> None:
    fairness = Fairness()
    for tenant, seconds in (("a", 3.0), ("b", 1.0), ("idle", 100.0)):
        fairness.served(tenant, seconds, 1.0)
    fairness.waited("a", 1.0)
    fairness.waited("b", 2.0)
    assert fairness.index == 1.0, "decided when a slice ends"
    fairness.turn(5.0)
    assert fairness.index == pytest.approx(0.8)
    fairness.turn(WINDOW)
    assert fairness.index == pytest.approx(0.8)
    fairness.turn(WINDOW + 10.0)
    assert fairness.index == 1.0


def test_work_longer_than_the_window_counts_as_much_as_the_window() -> None:
    fairness = Fairness()
    for tenant, seconds in (("a", 1_000.0), ("b", WINDOW)):
        fairness.served(tenant, seconds, 1.0)
        fairness.waited(tenant, 1.0)
    fairness.turn(5.0)
    assert fairness.index == 1.0


def test_memory_is_bounded() -> None:
    fairness = Fairness()
    for number in range(2 * MOST_TENANTS):
        fairness.waited(str(number), 1.0)
        fairness.served(str(number), number % 30, 1.0)
    fairness.turn(5.0)
    assert fairness.index == pytest.approx(jain(number % 30 for number in range(MOST_TENANTS)))
