"""The recorded log: later queries are classified right by what earlier ones taught, and predictions are calibrated."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.policy.class_rules import ClassLimits
from tests.bench.classification import LEVELS, LIMITS, Seen, coverage, play, population, scaled, share
from tests.bench.parts.query_log import KEPT, Entry, read, write


@pytest.fixture(scope="module")
def log() -> list[Entry]:
    return read()


@pytest.fixture(scope="module")
def seen(log: list[Entry]) -> list[Seen]:
    return play(log, LIMITS)


def test_at_least_95_of_100_held_out_queries_are_in_the_right_class(seen: list[Seen]) -> None:
    assert len(seen) >= 5_000
    assert share(seen, LIMITS) >= 0.95


def test_every_class_is_filled_so_that_guessing_would_not_do(seen: list[Seen]) -> None:
    rows = population(seen, LIMITS)
    assert all(min(within, beyond) > 0.25 for _, within, beyond in rows)


@pytest.mark.parametrize("level", LEVELS)
def test_quantiles_cover_what_they_promise(seen: list[Seen], level: str) -> None:
    assert coverage(seen, level) == pytest.approx(LEVELS[level], abs=0.03)


def test_known_questions_far_from_the_end_of_a_class_cost_no_round_trip(seen: list[Seen]) -> None:
    known = [each for each in seen if each.basis == "history"]
    assert sum(each.asked for each in known) / len(known) < 0.2


def test_the_products_own_classes_hold_on_a_larger_database(log: list[Entry]) -> None:
    found = play(scaled(log, 1000.0), ClassLimits())
    assert share(found, ClassLimits()) >= 0.95


def test_a_log_is_written_as_it_is_read(log: list[Entry], tmp_path: Path) -> None:
    write(log, tmp_path / "again.csv.xz")
    assert read(tmp_path / "again.csv.xz") == log
    assert KEPT.stat().st_size <= 300_000
