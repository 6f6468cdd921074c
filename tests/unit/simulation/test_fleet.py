"""Brokers that share a simulated database: with leases, without any, with a store that goes away."""

from __future__ import annotations

from dataclasses import replace

from broker.domain.pool import LimitMode
from broker.simulation.cores import own_core
from broker.simulation.engine import Engine
from broker.simulation.fleet import FleetEngine, Outage
from broker.simulation.gates.shapes import USERS
from broker.simulation.result import jain, result_of
from broker.simulation.scenario import Database, Scenario, Step

SLOTS = 64
FLEET = Scenario(
    "fleet",
    (replace(USERS, load=2.0),),
    seconds=60.0,
    warmup=10.0,
    databases=(Database(slots=SLOTS),),
    brokers=8,
)


def test_leases_keep_eight_brokers_to_the_seats_of_one() -> None:
    engine = FleetEngine(FLEET, 1, own_core)
    engine.run()
    assert engine.most == SLOTS
    assert jain(list(engine.useful.values())) > 0.98
    assert result_of(engine, 1).figures["goodput"] > 0.93


def test_without_leases_they_use_eight_times_as_many() -> None:
    engine = Engine(FLEET, 1, own_core)
    engine.run()
    result = result_of(engine, 1)
    assert max(result.samples.used) > 4 * SLOTS
    assert result.figures["goodput"] < 0.9


def test_a_store_that_goes_away_and_forgets_costs_little() -> None:
    engine = FleetEngine(FLEET, 1, own_core, Outage(20.0, 50.0, forgets=True))
    engine.run()
    assert engine.most <= 1.2 * SLOTS
    assert result_of(engine, 1).goodput(20.0, 60.0) > 0.93


def test_an_adaptive_fleet_follows_the_database_as_one() -> None:
    database = Database(slots=SLOTS, mode=LimitMode.ADAPTIVE, pressure=2.0)
    scenario = replace(FLEET, seconds=90.0, databases=(database,), steps=(Step(40.0, slots=SLOTS / 2),))
    engine = FleetEngine(scenario, 1, own_core)
    engine.run()
    result = result_of(engine, 1)
    assert min(result.goodput(10.0, 40.0), result.goodput(50.0, 90.0)) > 0.85
    assert sum(result.samples.used[60:90]) / 30 < 0.8 * SLOTS


def test_the_same_seed_gives_the_same_run() -> None:
    runs = []
    for _ in range(2):
        engine = FleetEngine(replace(FLEET, seconds=20.0), 7, own_core, Outage(12.0, 15.0))
        engine.run()
        runs.append((engine.most, dict(engine.useful)))
    assert runs[0] == runs[1]
