from array import array
from dataclasses import replace

import pytest

from broker.policy.admission.values import RefusalReason, Stage
from broker.simulation.gates.adaptive import deviation, settles
from broker.simulation.gates.catalog import STUDIES, Outcome, Task, measure, outcomes, rivals_of
from broker.simulation.gates.demand import recovery
from broker.simulation.gates.shapes import USERS
from broker.simulation.gates.values import Figure
from broker.simulation.recorder import CELL, book
from broker.simulation.result import jain, quantile, windows
from broker.simulation.rivals.catalog import RIVALS
from broker.simulation.run import simulate
from broker.simulation.scenario import Database, Population, Predictor, Scenario, Work


def test_work_is_booked_in_the_cells_in_which_it_was_done() -> None:
    row = [0.0] * 4
    book(row, 4.0, 1.0, 3.0)
    book(row, 12.0, 4.0, 16.0)

    assert row == pytest.approx([4.0 + 1.0, 5.0, 5.0, 1.0])


def test_quantiles_are_values_that_occurred() -> None:
    assert [quantile([3.0, 1.0, 2.0, 4.0], share) for share in (0.25, 0.5, 0.51, 1.0)] == [1.0, 2.0, 3.0, 4.0]
    assert quantile([], 0.5) == 0.0


def test_jain_is_one_when_all_are_equal_and_one_nth_when_one_has_everything() -> None:
    assert jain([2.0, 2.0, 2.0]) == 1.0
    assert jain([5.0, 0.0, 0.0, 0.0]) == 0.25
    assert jain([0.0, 0.0]) == 1.0


def test_windows_slide_by_one_cell() -> None:
    assert windows([1.0, 2.0, 3.0, 4.0], 1, 4, 2) == [5.0, 7.0]


def test_figures_of_a_run_that_can_be_counted_by_hand() -> None:
    queries = Population("one", Work(1.0, 0.0), rate=2.0, period=1.0, predictor=Predictor(sigma=0.0))
    scenario = Scenario("two", (queries,), seconds=20.0, warmup=5.0, databases=(Database(slots=4.0),))
    figures = simulate(scenario, 1).figures

    assert figures["requests"] == 30
    assert figures["goodput"] == pytest.approx(0.5)
    assert figures["goodput_worst_10s"] == pytest.approx(0.5)
    assert figures["utilisation"] == pytest.approx(0.5)
    assert (figures["served"], figures["refused"], figures["wait_p99"]) == (1.0, 0.0, 0.0)
    assert (figures["latency_p50"], figures["latency_p99"]) == (1.0, 1.0)
    assert (figures["limit_mean"], figures["limit_deviation"]) == (4.0, 0.0)


def test_refusals_are_counted_by_reason_and_stage() -> None:
    result = simulate(Scenario("s", (replace(USERS, load=4.0),), seconds=30.0, warmup=5.0), 1)
    (tally,) = result.tallies.values()

    assert sum(tally.refusals.values()) == pytest.approx(result.figures["refused"] * tally.attempts)
    assert {stage for _, stage in tally.refusals} <= set(Stage)
    assert max(tally.refusals, key=tally.refusals.__getitem__)[0] is RefusalReason.OVERLOADED


def test_goodput_between_two_instants_is_that_of_its_cells() -> None:
    result = simulate(Scenario("s", (USERS,), seconds=40.0, warmup=10.0), 1)
    halves = [result.goodput(10.0, 25.0), result.goodput(25.0, 40.0)]

    assert result.goodput(10.0, 40.0) == pytest.approx(sum(halves) / 2)
    assert result.goodput(10.0, 40.0) == pytest.approx(result.figures["goodput"])
    assert CELL == 5.0


def test_recovery_counts_seconds_until_most_requests_are_answered() -> None:
    result = simulate(Scenario("s", (USERS,), seconds=40.0, warmup=10.0), 1)
    answered = [0] * 25 + [100] * 30
    spiked = replace(result, arrived=[100] * 55, answered=answered)

    assert recovery(spiked, 20.0) == 5
    assert recovery(spiked, 30.0) == 0
    assert recovery(replace(spiked, answered=[0] * 55), 20.0) == 15


def test_a_limit_has_settled_once_it_stays_in_range() -> None:
    limits = array("d", [32, 20, 32, 18, 17, 16, 15, 16, 40, 40])

    assert settles(limits, 0, 10, 12, 20) == 3
    assert settles(limits, 0, 10, 50, 60) == 10
    assert deviation([14.0, 18.0], 16.0) == pytest.approx(2 / 16)


def test_outcomes_know_which_side_is_worse() -> None:
    high = Outcome(Figure("goodput", "G1", ">=", 0.9), (0.95, 0.8, 0.99))
    low = Outcome(Figure("wait", "G3", "<=", 0.2), (0.1, 0.3, 0.15, 0.05))

    assert (high.median, high.worst, high.holds) == (0.95, 0.8, False)
    assert (low.median, low.worst, low.holds) == (0.15, 0.3, False)
    assert Outcome(Figure("told", "G3"), (5.0,)).holds


@pytest.mark.parametrize("name", ["underload", "leaving", "panels"])
def test_a_study_gives_each_of_its_figures(name: str) -> None:
    study = next(study for study in STUDIES if study.name == name)
    found = measure(Task(name, "broker", 1, 0.05))

    assert found.keys() == {figure.name for figure in study.figures}
    assert [outcome.median for outcome in outcomes(study, [found])] == [found[f.name] for f in study.figures]


def test_studies_have_names_and_figures_of_their_own() -> None:
    names = [figure.name for study in STUDIES for figure in study.figures]

    assert len({study.name for study in STUDIES}) == len(STUDIES)
    assert len(set(names)) == len(names)
    gates = {figure.gate for study in STUDIES for figure in study.figures if figure.bound is not None}
    assert gates >= {"G1", "G2", "G3", "G4", "G5", "G6", "G7", "G8", "G9", "G10", "G12", "G15", "G16"}
    assert all(rival in RIVALS for study in STUDIES for rival in rivals_of(study))
