"""Twenty brokers before one database: what they use together, how evenly, and what is left when their store is lost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from broker.simulation.fleet import FleetEngine, Outage
from broker.simulation.gates.shapes import USERS
from broker.simulation.gates.values import Figure, Run, Study
from broker.simulation.result import jain, result_of
from broker.simulation.scenario import Database, Scenario

BROKERS, SLOTS = 20, 128
OUTAGE = 60.0


def _replicas(run: Run) -> Mapping[str, float]:
    """Twice the load of the database, in turn to every broker; then the same with the store away for a minute."""
    shared = _fleet(run, None)
    away = run.warmup + 20.0 * run.scale
    lost = _fleet(run, Outage(away, away + OUTAGE * run.scale, forgets=True))
    lost_result = result_of(lost, run.seed)
    work = [shared.useful[broker] for broker in range(BROKERS)]
    return {
        "fleet_in_flight": shared.most / SLOTS,
        "fleet_jain": jain(work),
        "fleet_goodput": result_of(shared, run.seed).figures["goodput"],
        "fleet_lost_in_flight": lost.most / SLOTS,
        "fleet_lost_goodput": lost_result.goodput(away, away + OUTAGE * run.scale),
    }


def _fleet(run: Run, outage: Outage | None) -> FleetEngine:
    scenario = Scenario(
        "fleet",
        (replace(USERS, load=2.0),),
        seconds=run.warmup + 120.0 * run.scale,
        warmup=run.warmup,
        databases=(Database(slots=SLOTS),),
        brokers=BROKERS,
    )
    engine = FleetEngine(scenario, run.seed, run.make, outage, watch_from=run.warmup)
    engine.run()
    return engine


REPLICAS = Study(
    "replicas",
    "20 brokers at twice the capacity of one database: seats in use as a share of the limit, fairness between brokers",
    (
        Figure("fleet_in_flight", "G13", "<=", 1.1),
        Figure("fleet_jain", "G13", ">=", 0.98),
        Figure("fleet_goodput", "G13", ">=", 0.93),
        Figure("fleet_lost_in_flight", "G13", "<=", 1.2),
        Figure("fleet_lost_goodput", "G13", ">=", 0.93),
    ),
    _replicas,
    rivals="none",
)
