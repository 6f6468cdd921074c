import math
from dataclasses import replace
from itertools import count, pairwise

import pytest

from broker.policy.admission.values import Quantiles
from broker.simulation.clients import TOKENS, Budget, Source, offered_rate
from broker.simulation.draws import Draws, Sizes
from broker.simulation.recorder import cell_count
from broker.simulation.result import quantile
from broker.simulation.scenario import Database, Population, Predictor, Predicts, Retry, Scenario, Stage, Work

USERS = Population("users", Work(0.5, 0.5), rate=50.0)


def source(population: Population, *stages: Stage, seed: int = 1) -> Source:
    scenario = Scenario("s", (population,), seconds=1000.0, stages=stages)
    return Source(0, scenario, seed, count(1), cell_count(scenario.ends))


def arrivals(of: Source, until: float) -> list[float]:
    at, found = of.first(), []
    while at < until:
        found.append(at)
        at = of.following(at)
    return found


def test_arrivals_come_at_their_rate_and_at_random() -> None:
    found = arrivals(source(USERS), 200.0)
    gaps = [later - sooner for sooner, later in pairwise(found)]

    assert len(found) == pytest.approx(10_000, rel=0.03)
    assert quantile(gaps, 0.5) == pytest.approx(math.log(2) / 50, rel=0.05)  # the median of exponential gaps


def test_stages_change_the_rate_from_their_instant_on() -> None:
    found = arrivals(source(USERS, Stage(10.0, 0.0), Stage(20.0, 4.0), Stage(30.0, 2.0, ("others",))), 40.0)

    assert sum(at < 10 for at in found) == pytest.approx(500, rel=0.15)
    assert not [at for at in found if 10 <= at < 20]
    assert sum(20 <= at < 30 for at in found) == pytest.approx(2000, rel=0.1)
    assert sum(30 <= at < 40 for at in found) == pytest.approx(2000, rel=0.1)


def test_a_load_is_a_share_of_the_capacity_whatever_tenants_ask_for() -> None:
    people = replace(USERS, rate=0.0, load=2.0, tenants=2, sizes=(1.0, 3.0), demands=(3.0, 1.0))
    scenario = Scenario("s", (people,), databases=(Database(slots=10),))

    assert offered_rate(people, scenario) * people.work.mean * 1.5 == pytest.approx(20.0)


def test_dashboards_refresh_all_at_once_each_load_a_group_of_panels() -> None:
    of = source(replace(USERS, rate=10.0, panels=10, period=5.0))
    first, second = of.arrive(0.0), of.arrive(5.0)

    assert (of.first(), of.following(0.0)) == (0.0, 5.0)
    assert len(first) == 50
    assert sorted({call.group for call in (*first, *second)}) == sorted(f"users/{n}" for n in range(1, 11))
    assert {call.offered for call in first} == {0.0}


def test_panels_of_a_load_are_of_one_tenant() -> None:
    of = source(replace(USERS, panels=10, tenants=5))
    tenants = [{call.tenant for call in of.arrive(0.0)} for _ in range(50)]

    assert all(len(each) == 1 for each in tenants)
    assert len(set.union(*tenants)) == 5


def test_tenants_ask_by_their_demands() -> None:
    of = source(replace(USERS, tenants=2, demands=(9.0, 1.0)))
    names = [of.single(0.0).tenant for _ in range(5000)]

    assert names.count("users-0") == pytest.approx(4500, rel=0.03)


def test_impatient_clients_leave_before_their_deadline() -> None:
    of = source(replace(USERS, patience=1.0, timeout=3.0))
    leaves = [call.leaves for _ in range(4000) for call in of.arrive(0.0)]

    assert max(leaves) == 3.0
    assert sum(at < 1.0 for at in leaves) == pytest.approx(4000 * (1 - math.exp(-1)), rel=0.05)


def test_a_client_without_a_deadline_never_leaves() -> None:
    call = source(replace(USERS, timeout=math.inf)).single(7.0)

    assert (call.deadline, call.leaves) == (math.inf, math.inf)


def test_a_naive_client_tries_three_times_each_with_a_whole_deadline() -> None:
    of = source(replace(USERS, retry=Retry.NAIVE, timeout=3.0))
    first = of.single(0.0)

    assert of.retry(first, None, 1.0, timed_out=False) == (1.1, 4.1)

    second = first.again(2, 1.1, 4.1)

    assert of.retry(second, None, 4.1, timed_out=True) == pytest.approx((4.3, 7.3))
    assert of.retry(second.again(3, 4.3, 7.3), 0.1, 5.0, timed_out=False) is None
    assert (second.arrived, second.offered, second.attempt) == (0.0, 1.1, 1)


def test_a_polite_client_waits_as_told_and_keeps_its_deadline() -> None:
    of = source(replace(USERS, retry=Retry.POLITE, timeout=3.0))
    call = of.single(0.0)
    instants = [again for _ in range(20) if (again := of.retry(call, 0.5, 1.0, timed_out=False)) is not None]

    assert all(1.5 <= at <= 1.6 and deadline == 3.0 for at, deadline in instants)
    assert len({at for at, _ in instants}) == 20


def test_a_polite_client_gives_up_without_a_hint_or_time_or_after_a_timeout() -> None:
    of = source(replace(USERS, retry=Retry.POLITE, timeout=3.0))
    call = of.single(0.0)

    assert of.retry(call, None, 1.0, timed_out=False) is None
    assert of.retry(call, 5.0, 1.0, timed_out=False) is None
    assert of.retry(call, 0.1, 3.0, timed_out=True) is None


def test_a_retry_budget_ends_retries_and_successes_fill_it() -> None:
    budget = Budget()
    granted = sum(budget.failed() for _ in range(200))

    assert granted == TOKENS / 2 - 1
    for _ in range(1000):
        budget.succeeded()
    assert budget.tokens == pytest.approx(TOKENS)
    assert budget.failed()


def drawn(predictor: Predictor) -> list[tuple[float, Quantiles]]:
    sizes = Sizes(Work(1.0, 1.0), predictor, Draws(1, "sizes"))
    return [sizes.draw() for _ in range(20_000)]


def share(pairs: list[tuple[float, Quantiles]], below: str) -> float:
    under = [work < float(getattr(predicted, below)) for work, predicted in pairs]
    return sum(under) / len(pairs)


@pytest.mark.parametrize(
    "predictor", [Predictor(sigma=0.5), Predictor(Predicts.ABSENT), Predictor(sigma=3.0)]
)
def test_predictions_are_calibrated_also_among_those_predicted_cheap(predictor: Predictor) -> None:
    pairs = drawn(predictor)
    cheap = sorted(pairs, key=lambda pair: pair[1].p50)[:5000]

    for chosen in (pairs, cheap):
        assert share(chosen, "p10") == pytest.approx(0.1, abs=0.02)
        assert share(chosen, "p50") == pytest.approx(0.5, abs=0.03)
        assert share(chosen, "p90") == pytest.approx(0.9, abs=0.02)


def test_a_noisy_predictor_is_most_wrong_where_it_predicts_least() -> None:
    pairs = drawn(Predictor(Predicts.NOISY, sigma=1.0))
    cheap = sorted(pairs, key=lambda pair: pair[1].p50)[:5000]

    assert share(pairs, "p50") == pytest.approx(0.5, abs=0.03)
    assert share(cheap, "p50") < 0.3


def test_a_bias_multiplies_every_prediction_and_leaves_the_work() -> None:
    right, biased = drawn(Predictor()), drawn(Predictor(bias=0.7))

    assert [work for work, _ in right] == [work for work, _ in biased]
    assert [p.p50 * 0.7 for _, p in right] == pytest.approx([p.p50 for _, p in biased])


def test_perfect_predictions_tell_the_work() -> None:
    assert all(work == predicted.p50 for work, predicted in drawn(Predictor(sigma=0.0)))


def test_work_has_the_median_and_the_spread_it_is_given() -> None:
    works = [work for work, _ in drawn(Predictor())]

    assert quantile(works, 0.5) == pytest.approx(1.0, rel=0.05)
    assert sum(works) / len(works) == pytest.approx(Work(1.0, 1.0).mean, rel=0.05)


def test_streams_of_one_name_and_seed_are_the_same_and_others_are_not() -> None:
    def numbers(seed: int, name: str) -> list[float]:
        draws = Draws(seed, name)
        return [draws.uniform(), draws.normal(), draws.exponential(2.0)]

    assert numbers(1, "a") == numbers(1, "a")
    assert numbers(1, "a") != numbers(2, "a")
    assert numbers(1, "a") != numbers(1, "b")
