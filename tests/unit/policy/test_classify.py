"""Classes and predictions, from nothing to a history."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.answer import CostClass
from broker.domain.estimate import Estimate
from broker.domain.pool import PoolName
from broker.domain.principal import Criticality
from broker.domain.request import Basis, RequestKind
from broker.policy.admission.values import Quantiles
from broker.policy.class_rules import ClassLimits
from broker.policy.classify import SAMPLE_EVERY, Classified, Classifier, Load, Run, Subject
from broker.policy.history import FORGET

BUSY = Load(occupancy=0.9)


def subject(
    fingerprint: str = "f",
    kind: RequestKind = RequestKind.EXPLORE,
    cost: float | None = None,
    time_left: float = math.inf,
) -> Subject:
    estimate = None if cost is None else Estimate(cost, rows=10, width=8)
    return Subject(kind, fingerprint, estimate, time_left=time_left)


def taught(*seconds: float, kind: RequestKind = RequestKind.EXPLORE) -> Classifier:
    """A classifier that has seen runs of the question ``f``."""
    classifier = Classifier()
    for each in seconds:
        classifier.observe(subject(kind=kind), Run(each, row_count=7, byte_count=70), 0.0)
    return classifier


def effects(classified: Classified) -> dict[str, str]:
    return {factor.name: factor.effect for factor in classified.classification.factors}


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


def test_a_new_question_gets_the_median_of_its_class() -> None:
    classifier = Classifier()
    for i, seconds in enumerate((1.0, 2.0, 9.0)):
        classifier.observe(subject(str(i)), Run(seconds), 0.0)
    classified = classifier.classify(subject("new"), 0.0)
    assert classified.classification.basis is Basis.CLASS_MEDIAN
    assert classified.predicted.duration_p50 == pytest.approx(2.0, rel=0.3)
    assert classified.quantiles.p10 < 1.5
    assert classified.quantiles.p90 > 4.0
    other = classifier.classify(subject("new", RequestKind.DASHBOARD), 0.0)
    assert other.classification.basis is Basis.REQUEST, "classes learn separately"


def test_the_planner_refines_what_the_class_says() -> None:
    classifier = Classifier()
    classifier.observe(subject("old"), Run(5.0), 0.0)
    classified = classifier.classify(subject("new", cost=20_000.0), 0.0)
    assert classified.classification.basis is Basis.PLAN
    assert classified.predicted.duration_p50 == pytest.approx(0.2)
    assert (classified.predicted.row_count, classified.predicted.byte_count) == (10, 80)
    assert classified.quantiles.p10 == pytest.approx(0.02, rel=0.01)
    assert classified.quantiles.p90 == pytest.approx(2.0, rel=0.01)
    assert effects(classified)["plan_model_seconds"] == "calibrated to 0.2 s, between 0.02 s and 2 s"


def test_what_plans_take_is_learned() -> None:
    classifier = Classifier()
    for i in range(200):
        classifier.observe(subject(str(i), cost=1_000.0), Run(0.1), 0.0)
    found = classifier.classify(subject("new", cost=1_000.0), 0.0)
    assert found.predicted.duration_p50 == pytest.approx(0.1, rel=0.1)
    assert found.classification.confidence > 0.5
    assert found.quantiles.p90 < 0.3


def test_one_absurd_estimate_hardly_moves_what_plans_take() -> None:
    classifier = Classifier()
    for i in range(50):
        classifier.observe(subject(str(i), cost=1_000.0), Run(0.01), 0.0)
    classifier.observe(subject("absurd", cost=1_000.0), Run(1e6), 0.0)
    found = classifier.classify(subject("new", cost=1_000.0), 0.0)
    assert found.predicted.duration_p50 == pytest.approx(0.01, rel=0.25)


def test_earlier_runs_of_the_question_beat_the_planner() -> None:
    classifier = taught(2.0, 1.0, 4.0, 3.0, 3.0)
    classified = classifier.classify(subject(), 0.0)
    assert classified.classification.basis is Basis.HISTORY
    assert classified.classification.samples == 5
    assert classified.classification.confidence == pytest.approx(5 / 6)
    assert classified.quantiles.p50 == pytest.approx(3.0, rel=0.15)
    assert 0.8 < classified.quantiles.p10 < 2.0
    assert 3.0 < classified.quantiles.p90 < 6.0
    assert classified.predicted.row_count == 7
    assert classified.predicted.byte_count == pytest.approx(70, rel=0.05)
    assert effects(classified)["history_run_count"] == "decided"


def test_many_equal_runs_are_trusted_closely() -> None:
    found = taught(*[1.0] * 60).classify(subject(), 0.0).quantiles
    assert found.p50 == pytest.approx(1.0, rel=0.02)
    assert found.p10 > 0.9
    assert found.p90 < 1.1


def test_a_question_that_has_changed_is_learned_anew() -> None:
    found = taught(*[10.0] * 60, *[1.0] * 60).classify(subject(), 0.0).quantiles
    assert found.p50 == pytest.approx(1.0, rel=0.2)


def test_the_fastest_time_fades_so_that_work_once_too_slow_is_tried_again() -> None:
    classifier, hurried = taught(8.0), subject(time_left=1.0)
    fresh = classifier.classify(hurried, 0.0).quantiles
    assert classifier.classify(hurried, FORGET).quantiles.p10 == pytest.approx(fresh.p10 / 2)
    assert classifier.classify(hurried, 20 * FORGET).quantiles.p10 < 0.001
    assert classifier.classify(subject(), FORGET).quantiles == fresh, "nobody is in a hurry"


def test_an_exploration_once_too_heavy_is_tried_again_some_day() -> None:
    classifier = taught(100.0)
    assert classifier.classify(subject(), 0.0).job
    assert not classifier.classify(subject(), 4 * FORGET).job


def test_a_run_that_was_cut_short_counts_only_as_a_lower_bound() -> None:
    classifier = Classifier()
    classifier.observe(subject(), Run(1.0, cut_short=True), 0.0)
    assert classifier.classify(subject(), 0.0).quantiles.p50 == pytest.approx(1.0, rel=0.05)
    classifier.observe(subject(), Run(0.5, cut_short=True), 0.0)
    found = classifier.classify(subject(), 0.0)
    assert found.quantiles.p50 == pytest.approx(1.0, rel=0.05)
    assert found.classification.samples == 0
    classifier.observe(subject(), Run(3.0, cut_short=True), 0.0)
    assert classifier.classify(subject(), 0.0).quantiles.p50 > 1.0
    assert classifier.classify(subject("new"), 0.0).classification.basis is Basis.REQUEST


def test_a_run_beside_many_others_teaches_no_time_but_an_upper_bound() -> None:
    classifier = taught(*[1.0] * 20)
    before = classifier.classify(subject(), 0.0).quantiles
    classifier.observe(subject(), Run(9.0, load=BUSY), 0.0)
    assert classifier.classify(subject(), 0.0).quantiles == before, "slower than alone: nothing is learned"
    classifier.observe(subject(), Run(0.1, load=BUSY), 0.0)
    assert classifier.classify(subject(), 0.0).quantiles.p10 < before.p10
    assert classifier.classify(subject("new"), 0.0).quantiles.p50 == pytest.approx(1.0, rel=0.05)


def test_a_busy_database_gives_a_new_question_a_ceiling_and_says_nothing_of_its_class() -> None:
    classifier = Classifier()
    classifier.observe(subject("a", cost=1e6), Run(0.5, load=BUSY), 0.0)
    assert classifier.classify(subject("new"), 0.0).classification.basis is Basis.REQUEST
    found = classifier.classify(subject("a"), 0.0)
    assert found.classification.basis is Basis.PLAN
    assert found.quantiles.p50 == pytest.approx(0.5), (
        "10 s by the planner, but it took half a second among others"
    )


def test_where_the_speed_of_the_database_is_known_times_are_put_right() -> None:
    classifier = Classifier()
    classifier.observe(subject(), Run(4.0, load=Load(0.9, progress=0.25)), 0.0)
    assert classifier.classify(subject(), 0.0).quantiles.p50 == pytest.approx(1.0, rel=0.05)


def test_being_cut_short_beside_many_others_says_nothing() -> None:
    classifier = Classifier()
    classifier.observe(subject(), Run(60.0, cut_short=True, load=BUSY), 0.0)
    assert classifier.classify(subject(), 0.0).classification.basis is Basis.REQUEST


def test_an_exploration_beyond_its_class_is_offered_as_a_job() -> None:
    found = taught(100.0).classify(subject(), 0.0)
    assert found.classification.cost_class is CostClass.JOB
    assert found.job.startswith("It is predicted to take 98.7 s")
    assert "exploration_limit_seconds" in effects(found)
    assert not taught(5.0).classify(subject(), 0.0).job


def test_an_exploration_that_cannot_be_done_in_time_is_offered_as_a_job() -> None:
    classifier = taught(*[5.0] * 10)
    assert "are left" in classifier.classify(subject(time_left=1.0), 0.0).job
    assert not classifier.classify(subject(time_left=6.0), 0.0).job


def test_an_untaught_model_moves_only_what_is_beyond_doubt() -> None:
    classifier = Classifier()
    assert not classifier.classify(subject(cost=1e7), 0.0).job, "100 s, but 10 s would not be a surprise"
    assert classifier.classify(subject(cost=1e9), 0.0).job


def test_a_panel_beyond_a_dashboards_class_runs_as_an_exploration() -> None:
    classifier = taught(20.0, kind=RequestKind.DASHBOARD)
    found = classifier.classify(subject(kind=RequestKind.DASHBOARD), 0.0)
    assert found.classification.cost_class is CostClass.EXPLORATION
    assert found.classification.pool is PoolName.EXPLORATION
    assert not found.job
    assert "dashboard_limit_seconds" in effects(found)


def test_jobs_need_not_be_offered() -> None:
    classifier = Classifier(ClassLimits(offer_job=False))
    classifier.observe(subject(), Run(100.0), 0.0)
    found = classifier.classify(subject(), 0.0)
    assert found.classification.cost_class is CostClass.EXPLORATION
    assert not found.job


def test_the_planner_is_asked_when_nothing_is_known_and_never_about_a_known_question() -> None:
    classifier = Classifier()
    assert classifier.wants_estimate(subject("new"))
    classifier.observe(subject("known"), Run(0.1), 0.0)
    assert not classifier.wants_estimate(subject("known"))
    classifier.keep(subject("kept", cost=10.0), 0.0)
    assert not classifier.wants_estimate(subject("kept"))
    assert classifier.classify(subject("kept"), 0.0).classification.basis is Basis.PLAN


def test_the_planner_is_asked_where_a_class_comes_near_its_end_and_else_now_and_then() -> None:
    far, near = taught(*[0.1] * 50), taught(*[10.0] * 50)
    asked = [far.wants_estimate(subject(str(i))) for i in range(4 * SAMPLE_EVERY)]
    assert sum(asked) == 4
    assert all(near.wants_estimate(subject(str(i))) for i in range(10))


def test_needs_follow_from_the_plan_and_the_caller_is_named_but_decides_nothing() -> None:
    estimate = Estimate(100.0, rows=1, width=8, workers=2, memory=1 << 20)
    asked = Subject(RequestKind.EXPLORE, "f", estimate, criticality=Criticality.SHEDDABLE, payload=200)
    found = Classifier().classify(asked, 0.0)
    assert (found.seats, found.memory, found.predicted.seats) == (3, 1 << 20, 3.0)
    names = ["seats", "memory_bytes", "caller_criticality", "payload_bytes", "complexity"]
    assert set(names) <= set(effects(found))
    assert "sheddable" in effects(found)["caller_criticality"]


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
    load: Load


SEEN = st.builds(
    Seen,
    st.sampled_from("abc"),
    st.floats(0, 1e5),
    st.none() | st.floats(0, 1e12),
    st.booleans(),
    st.builds(Load, st.floats(0, 1), st.floats(0.01, 1)),
)


@given(st.lists(SEEN, max_size=60), st.floats(0, 1e12))
def test_quantiles_are_ordered_whatever_was_seen(seen: list[Seen], cost: float) -> None:
    classifier = Classifier(capacity=2)
    for at, run in enumerate(seen):
        asked = subject(run.fingerprint, cost=run.cost)
        classifier.observe(asked, Run(run.seconds, cut_short=run.cut_short, load=run.load), float(at))
    for name in ("a", "b", "c", "d"):
        for estimate in (None, cost):
            quantiles = classifier.classify(subject(name, cost=estimate), 100.0).quantiles
            assert 0.0 <= quantiles.p10 <= quantiles.p50 <= quantiles.p90 < math.inf
