"""Rivals in the simulator: in the order in which such schemes are known to come, under load and beside it."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from broker.simulation.result import Result
from broker.simulation.rivals.catalog import RIVALS
from broker.simulation.run import simulate
from broker.simulation.scenario import Population, Retry, Scenario, Step, Work


def run(name: str, load: float, *steps: Step) -> Result:
    people = Population("people", Work(0.3), load=load, retry=Retry.NAIVE)
    scenario = Scenario("load", (people,), seconds=25.0, warmup=10.0, steps=steps)
    return simulate(scenario, 1, RIVALS[name])


@pytest.fixture(scope="module")
def overloaded() -> Mapping[str, float]:
    return {name: run(name, 5.0).figures["goodput"] for name in RIVALS}


def test_without_a_wait_budget_an_overloaded_database_works_for_nobody(
    overloaded: Mapping[str, float],
) -> None:
    assert overloaded["no_control"] < 0.02
    assert overloaded["fifo"] < 0.05


def test_adaptive_lifo_keeps_an_overloaded_database_useful(overloaded: Mapping[str, float]) -> None:
    assert overloaded["codel"] > 0.95


def test_limiters_made_for_short_and_equal_requests_lose_much_on_long_and_varied_ones(
    overloaded: Mapping[str, float],
) -> None:
    assert overloaded["vegas"] < 0.4
    assert overloaded["vegas_core"] < 0.4
    assert overloaded["aimd"] < 0.75
    assert overloaded["aimd_core"] < 0.75


def test_nobody_beats_the_clairvoyant(overloaded: Mapping[str, float]) -> None:
    assert overloaded["clairvoyant"] > 0.99
    assert max(overloaded, key=lambda name: overloaded[name]) == "clairvoyant"


def test_with_room_to_spare_everybody_serves_but_those_who_keep_too_small_a_limit() -> None:
    served = {name: run(name, 0.5).figures["served"] for name in RIVALS}

    small = {"vegas", "vegas_core", "gradient2", "gradient2_core", "aimd", "aimd_core"}
    assert all(share > 0.995 for name, share in served.items() if name not in small)
    assert served["vegas"] < 0.9


def test_the_oracle_gives_up_at_once_what_is_lost() -> None:
    limits = run("oracle", 2.0, Step(20.0, slots=16.0)).samples.limit

    assert (limits[19], limits[21]) == (32.0, 16.0)
