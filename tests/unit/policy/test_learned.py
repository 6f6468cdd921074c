"""Learned state as bytes: all of it comes back, half of it never, and several add up."""

from __future__ import annotations

import zlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.estimate import Estimate
from broker.domain.request import RequestKind
from broker.policy.classify import Classifier, Run, Subject
from broker.policy.history import FORGET
from broker.policy.learned import CorruptStateError, absorb, dump, pieces
from broker.policy.shape import Shape

SHAPE = Shape(measures=2, dimensions=1)


def subject(name: str, cost: float | None = None) -> Subject:
    estimate = Estimate(cost, 10, 8, scan_cost=cost, read_rows=1000.0) if cost is not None else None
    return Subject(RequestKind.EXPLORE, name, estimate, SHAPE)


def taught(seed: int = 0, questions: int = 40) -> Classifier:
    """A classifier with histories, of which every second has an estimate, and one that was busy."""
    classifier = Classifier()
    for i in range(questions):
        asked = subject(f"q{seed}-{i}", 100.0 * (i + 1) if i % 2 else None)
        for step in range(3):
            classifier.observe(asked, Run(0.001 * (i + 1) * (1 + step / 10), i, 8 * i), 5.0)
    return classifier


def restored(*classifiers: Classifier, age: float = 0.0) -> Classifier:
    found = Classifier()
    for each in classifiers:
        absorb(found, dump(each, 5.0), age, 1000.0)
    return found


def test_predictions_are_the_same_after_a_restart() -> None:
    before = taught()
    after = restored(before)
    assert len(after.histories) == 40
    for name, cost in (("q0-3", None), ("q0-4", None), ("new", 800.0), ("new", None)):
        old = before.classify(subject(name, cost), 5.0)
        new = after.classify(subject(name, cost), 1000.0)
        assert new.classification.basis is old.classification.basis
        assert new.classification.samples == old.classification.samples
        assert new.quantiles.p50 == pytest.approx(old.quantiles.p50, rel=0.02)
        assert new.quantiles.p10 == pytest.approx(old.quantiles.p10, rel=0.05)
        assert new.quantiles.p90 == pytest.approx(old.quantiles.p90, rel=0.05)


def test_the_clock_of_the_old_process_does_not_matter_but_the_age_of_its_knowledge_does() -> None:
    old = restored(taught(), age=2 * FORGET)
    hurried = replace(subject("q0-4"), time_left=0.0)
    fresh = restored(taught()).classify(hurried, 1000.0).quantiles.p10
    assert old.classify(hurried, 1000.0).quantiles.p10 == pytest.approx(fresh / 4)


def test_several_processes_add_up() -> None:
    both = restored(taught(0), taught(1))
    assert len(both.histories) == 80
    assert both.model.ridge.count == pytest.approx(2 * taught().model.ridge.count)
    again = restored(taught(), taught())
    assert again.classify(subject("q0-2"), 1000.0).classification.samples == 6


def test_what_is_known_twice_changes_nothing_but_its_weight() -> None:
    once, twice = restored(taught()), restored(taught(), taught())
    first, second = (each.classify(subject("q0-3"), 1000.0).quantiles for each in (once, twice))
    assert second.p50 == pytest.approx(first.p50, rel=0.1)


def test_memory_is_bounded_over_many_restarts() -> None:
    classifier = taught()
    for _ in range(30):
        classifier = restored(classifier, classifier)
    assert len(dump(classifier, 0.0)) < 50_000
    assert classifier.model.ridge.count <= 8192.0
    assert classifier.classify(subject("q0-3"), 1000.0).quantiles.p50 == pytest.approx(0.0044, rel=0.15)


def test_a_full_memory_stays_small_and_is_made_in_small_pieces() -> None:
    classifier = taught(questions=300)
    made = list(pieces(classifier, 5.0))
    assert len(made) >= 300 // 16
    assert sum(map(len, made)) < 300 * 400


@given(st.integers(0, 2000), st.binary(max_size=4))
def test_a_state_that_was_damaged_is_refused_as_a_whole(place: int, noise: bytes) -> None:
    data = dump(taught(questions=4), 5.0)
    place %= len(data)
    damaged = data[:place] + noise + data[place + len(noise) + 1 :]
    if damaged == data:
        return
    classifier = Classifier()
    with pytest.raises(CorruptStateError):
        absorb(classifier, damaged, 0.0, 0.0)
    assert len(classifier.histories) == 0
    assert classifier.model.ridge.count == 0.0


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ('"samples":3', '"samples":-3'),
        ('"samples":3', '"samples":"many"'),
        ('"samples":3', '"samples":1e999'),
        ('"ceiling":null', '"ceiling":[]'),
        ('"classes"', '"class"'),
        ('"explore"', '"explorer"'),
        ('"square":[[', '"square":[[],['),
        ('"variance":', '"variance":-'),
        ('"coverage":[', '"coverage":[0.5,'),
        ("}}", "}"),
    ],
)
def test_numbers_and_names_that_cannot_be_are_refused(good: str, bad: str) -> None:
    text = zlib.decompress(dump(taught(questions=4), 5.0)).decode()
    assert good in text
    with pytest.raises(CorruptStateError):
        absorb(Classifier(), zlib.compress(text.replace(good, bad, 1).encode()), 0.0, 0.0)
