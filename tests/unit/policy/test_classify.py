"""Classes and predictions, from nothing to a history."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.answer import CostClass
from broker.domain.pool import PoolName
from broker.domain.request import Basis, RequestKind
from broker.policy.admission.values import Quantiles
from broker.policy.classify import CLASS_SAMPLES, Classifier, Run, Subject
from broker.policy.history import FORGET, SAMPLES
from broker.ports.store import Estimate


def subject(
    fingerprint: str = "f", kind: RequestKind = RequestKind.EXPLORE, cost: float | None = None
) -> Subject:
    return Subject(kind, fingerprint, None if cost is None else Estimate(cost, rows=10, width=8))


@pytest.mark.parametrize(
    ("kind", "cost_class", "pool"),
    [
        (RequestKind.DASHBOARD, CostClass.DASHBOARD, PoolName.DASHBOARD),
        (RequestKind.EXPLORE, CostClass.EXPLORATION, PoolName.EXPLORATION),
        (RequestKind.JOB, CostClass.JOB, PoolName.JOB),
    ],
)
def test_the_call_proposes_class_and_pool(kind: RequestKind, cost_class: CostClass, pool: PoolName) -> None:
    classified = Classifier().classify(subject(kind=kind), 0.0)
    assert classified.classification.cost_class is cost_class
    assert classified.classification.pool is pool
    assert classified.classification.basis is Basis.REQUEST
    assert classified.quantiles == Quantiles()


def test_a_new_question_gets_the_median_of_its_class_and_may_still_be_a_quick_one() -> None:
    classifier = Classifier()
    for i, seconds in enumerate((1.0, 2.0, 9.0)):
        classifier.observe(subject(str(i)), Run(seconds), 0.0)
    classified = classifier.classify(subject("new"), 0.0)
    assert classified.classification.basis is Basis.CLASS_MEDIAN
    assert classified.quantiles == Quantiles(0.0, 2.0, 9.0)
    other = classifier.classify(subject("new", RequestKind.DASHBOARD), 0.0)
    assert other.classification.basis is Basis.REQUEST, "classes learn separately"


def test_the_planner_refines_what_the_class_says() -> None:
    classifier = Classifier()
    classifier.observe(subject("old"), Run(5.0), 0.0)
    classified = classifier.classify(subject("new", cost=20_000.0), 0.0)
    assert classified.classification.basis is Basis.PLAN
    assert classified.predicted.duration_p50 == pytest.approx(0.2)
    assert (classified.predicted.row_count, classified.predicted.byte_count) == (10, 80)
    assert classified.quantiles.p10 < 0.2 < classified.quantiles.p90
    factors = {factor.name: factor for factor in classified.classification.factors}
    assert factors["planner_cost_units"].value == 20_000.0
    assert factors["planner_cost_units"].effect == "taken as 0.2 s, at 0.01 ms for a unit"


def test_what_a_unit_of_cost_takes_is_learned() -> None:
    classifier = Classifier()
    for i in range(200):
        classifier.observe(subject(str(i), cost=1_000.0), Run(0.1), 0.0)
    assert classifier.seconds_per_unit == pytest.approx(1e-4, rel=0.01)


def test_one_absurd_estimate_hardly_moves_what_a_unit_takes() -> None:
    classifier = Classifier()
    classifier.observe(subject(cost=1.0), Run(1e6), 0.0)
    assert classifier.seconds_per_unit == pytest.approx(1e-5 * 10**0.05)
    classifier.observe(subject(cost=0.0), Run(1.0), 0.0)
    classifier.observe(subject(cost=1.0), Run(0.0), 0.0)
    assert classifier.seconds_per_unit == pytest.approx(1e-5 * 10**0.05)


def test_earlier_runs_of_the_question_beat_the_planner() -> None:
    classifier = Classifier()
    for seconds in (2.0, 1.0, 4.0, 3.0, 3.0):
        classifier.observe(subject(), Run(seconds, row_count=7, byte_count=70), 5.0)
    classified = classifier.classify(subject(cost=1e9), 5.0)
    assert classified.classification.basis is Basis.HISTORY
    assert classified.classification.samples == 5
    assert classified.classification.confidence == pytest.approx(5 / 6)
    assert classified.quantiles == Quantiles(1.0, 3.0, 4.0)
    assert (classified.predicted.row_count, classified.predicted.byte_count) == (7, 70)
    assert [factor.value for factor in classified.classification.factors] == [3.0, 3.0]


def test_a_single_run_is_taken_with_a_wide_margin() -> None:
    classifier = Classifier()
    classifier.observe(subject(), Run(2.0), 0.0)
    assert classifier.classify(subject(), 0.0).quantiles == Quantiles(1.0, 2.0, 4.0)


def test_four_runs_are_taken_as_they_are() -> None:
    classifier = Classifier()
    for seconds in (1.0, 2.0, 2.0, 3.0):
        classifier.observe(subject(), Run(seconds), 0.0)
    assert classifier.classify(subject(), 0.0).quantiles == Quantiles(1.0, 2.0, 3.0)


def test_only_the_last_runs_count() -> None:
    classifier = Classifier()
    classifier.observe(subject(), Run(100.0), 0.0)
    for _ in range(SAMPLES):
        classifier.observe(subject(), Run(1.0), 0.0)
    assert classifier.classify(subject(), 0.0).quantiles == Quantiles(1.0, 1.0, 1.0)
    for _ in range(CLASS_SAMPLES):
        classifier.observe(subject("other"), Run(2.0), 0.0)
    assert classifier.classify(subject("new"), 0.0).quantiles.p50 == 2.0


def test_the_fastest_time_fades_so_that_work_once_too_slow_is_tried_again() -> None:
    classifier = Classifier()
    classifier.observe(subject(), Run(8.0), 0.0)
    assert classifier.classify(subject(), FORGET).quantiles == Quantiles(2.0, 8.0, 16.0)
    assert classifier.classify(subject(), 20 * FORGET).quantiles.p10 < 0.001


def test_a_run_that_was_cut_short_counts_only_as_a_lower_bound() -> None:
    classifier = Classifier()
    classifier.observe(subject(), Run(1.0, cut_short=True), 0.0)
    assert classifier.classify(subject(), 0.0).quantiles.p50 == 1.0
    classifier.observe(subject(), Run(0.5, cut_short=True), 0.0)
    assert classifier.classify(subject(), 0.0).classification.samples == 1
    classifier.observe(subject(), Run(3.0, cut_short=True), 0.0)
    assert classifier.classify(subject(), 0.0).quantiles.p50 == 2.0
    assert classifier.classify(subject("new"), 0.0).classification.basis is Basis.REQUEST


def test_questions_that_nobody_asks_are_forgotten_first() -> None:
    classifier = Classifier(capacity=2)
    for name in ("a", "b"):
        classifier.observe(subject(name), Run(1.0), 0.0)
    classifier.classify(subject("a"), 0.0)
    classifier.observe(subject("c"), Run(1.0), 0.0)
    bases = [classifier.classify(subject(name), 0.0).classification.basis for name in ("a", "b", "c")]
    assert bases == [Basis.HISTORY, Basis.CLASS_MEDIAN, Basis.HISTORY]


@dataclass(frozen=True)
class Seen:
    fingerprint: str
    seconds: float
    cost: float | None
    cut_short: bool


@given(
    st.lists(
        st.builds(
            Seen,
            st.sampled_from("abc"),
            st.floats(0, 1e5),
            st.none() | st.floats(0, 1e12),
            st.booleans(),
        ),
        max_size=60,
    ),
    st.floats(0, 1e12),
)
def test_quantiles_are_ordered_whatever_was_seen(seen: list[Seen], cost: float) -> None:
    classifier = Classifier(capacity=2)
    for at, run in enumerate(seen):
        asked = subject(run.fingerprint, cost=run.cost)
        classifier.observe(asked, Run(run.seconds, cut_short=run.cut_short), float(at))
    for name in ("a", "b", "c", "d"):
        for estimate in (None, cost):
            quantiles = classifier.classify(subject(name, cost=estimate), 100.0).quantiles
            assert 0.0 <= quantiles.p10 <= quantiles.p50 <= quantiles.p90
