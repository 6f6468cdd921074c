"""The brown-out dial: how many go down, who, and which queues are a reason."""

from __future__ import annotations

import pytest

from broker.policy.brownout import BEGINS, STANDS, Standing, cohort, dial, goes_down


@pytest.mark.parametrize(
    ("strain", "share"),
    [(0.0, 0.0), (BEGINS, 0.0), (0.75, 0.5), (0.9, 0.8), (1.0, 1.0), (7.0, 1.0), (float("inf"), 1.0)],
)
def test_the_share_grows_from_half_of_the_budget_to_all_of_it(strain: float, share: float) -> None:
    assert dial(strain) == pytest.approx(share)


def test_who_goes_down_goes_down_at_every_higher_strain() -> None:
    keys = [f"key {i}" for i in range(2_000)]
    before: set[str] = set()
    for strain in (0.5, 0.6, 0.75, 0.9, 1.0):
        down = {key for key in keys if goes_down(key, strain)}
        assert before <= down
        assert len(down) / len(keys) == pytest.approx(dial(strain), abs=0.04)
        before = down
    assert before == set(keys)
    assert all(0.0 <= cohort(key) < 1.0 for key in keys)


def seen(*found: tuple[float, int]) -> list[bool]:
    """Whether the queue stands, each time that so many were found waiting."""
    standing = Standing()
    return [standing.stands("dashboard", length, now) for now, length in found]


def test_a_queue_stands_when_it_is_never_seen_empty_for_a_while() -> None:
    steps = [(0.1 * i, 1) for i in range(10)]
    stands = seen(*steps)
    assert stands == [now >= STANDS for now, _ in steps]
    assert not any(seen(*((now, 0) for now, _ in steps))), "all seats are in use, and nobody waits"


def test_a_burst_is_not_a_queue_that_stands() -> None:
    assert seen((0.0, 9), (0.4, 5), (0.45, 0), (0.5, 7), (0.9, 3), (1.0, 1)) == [False] * 5 + [True]


def test_what_was_not_seen_for_long_begins_anew() -> None:
    assert seen((0.0, 9), (0.4, 9), (0.6, 9), (1.2, 9), (1.6, 9), (1.7, 9)) == [
        False, False, True, False, False, True,
    ]  # fmt: skip


def test_every_queue_stands_for_itself() -> None:
    standing = Standing()
    standing.stands("a", 1, 0.0)
    standing.stands("b", 1, 0.4)
    assert standing.stands("a", 1, 0.5)
    assert not standing.stands("b", 1, 0.5)
