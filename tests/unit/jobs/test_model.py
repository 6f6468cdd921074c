"""Every history of the small model of the job layer: with its guards nothing goes wrong, without one something does."""

from __future__ import annotations

import pytest

from tests.support.job_model import GUARDS, SECOND, Model, search

RARE = frozenset({"requeue", "release", "overdue"})


def test_two_workers_and_two_jobs_are_never_wrong() -> None:
    """Claims, ends, pauses, crashes, cancels and reaping in every order."""
    model = Model(crash_limit=1, restarts=0, most_fence=2, without=RARE)
    worlds, wrong, path = search(model, jobs=2, workers=2)
    assert wrong is None, path
    assert worlds > 5_000


def test_one_job_is_never_wrong_with_rarer_steps_and_workers_that_come_back() -> None:
    worlds, wrong, path = search(Model(crash_limit=1, restarts=1, most_fence=2), jobs=1, workers=2)
    assert wrong is None, path
    assert worlds > 2_000


@pytest.mark.parametrize("guard", sorted(GUARDS - SECOND))
def test_a_guard_that_is_away_is_found(guard: str) -> None:
    model = Model(GUARDS - {guard}, crash_limit=1, restarts=0, most_fence=3)
    _, wrong, path = search(model, jobs=1, workers=2)
    assert wrong is not None
    assert path


@pytest.mark.parametrize("guard", sorted(SECOND))
def test_a_second_lock_is_not_needed_while_the_first_one_holds(guard: str) -> None:
    _, wrong, path = search(
        Model(GUARDS - {guard}, crash_limit=1, restarts=0, most_fence=2), jobs=1, workers=2
    )
    assert wrong is None, path
