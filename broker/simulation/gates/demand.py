"""Spikes with retries, criticality, clients that go away, and whole dashboards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from broker.domain.pool import PoolName
from broker.domain.principal import Criticality
from broker.simulation.gates.shapes import USERS, four_pools, shared_database
from broker.simulation.gates.values import Figure, Run, Study
from broker.simulation.result import Result
from broker.simulation.run import simulate
from broker.simulation.scenario import Population, Retry, Scenario, Stage, Work


def recovery(result: Result, end: float, share: float = 0.95, span: int = 5) -> float:
    """Seconds after ``end`` until, of the requests of the next ``span`` seconds, that share is answered in time."""
    last = int(result.scenario.seconds) - span
    for second in range(int(end), last):
        came = sum(result.arrived[second : second + span])
        if came and sum(result.answered[second : second + span]) >= share * came:
            return second - end
    return last - end


def _spike(run: Run) -> Mapping[str, float]:
    """Ten times the capacity for 60 s, then 0.8 times, with clients that try three times."""
    begin = run.warmup + 5.0
    end = begin + max(10.0, 60 * run.scale)
    figures: dict[str, float] = {}
    for retry, suffix in ((Retry.NAIVE, ""), (Retry.POLITE, "_polite")):
        scenario = Scenario(
            "spike",
            (replace(USERS, load=0.8, retry=retry),),
            seconds=end + 10 + 100 * run.scale,
            warmup=run.warmup,
            stages=(Stage(begin, 12.5), Stage(end, 1.0)),
        )
        result = simulate(scenario, run.seed, run.make)
        figures |= {
            f"recovery{suffix}_s": recovery(result, end),
            f"attempts_per_request{suffix}": result.figures["attempts_per_request"],
        }
    return figures


def _critical(run: Run) -> Mapping[str, float]:
    """Ten times the capacity in dashboards of ten tenants, of which critical ones are six tenths of the capacity."""
    critical = Population(
        "critical",
        Work(0.1, 0.6),
        PoolName.DASHBOARD,
        load=0.6,
        tenants=10,
        criticality=Criticality.CRITICAL_PLUS,
    )
    batch = replace(
        critical, name="batch", load=9.4, tenants_of="critical", criticality=Criticality.SHEDDABLE
    )
    scenario = Scenario(
        "critical",
        (critical, batch),
        seconds=run.warmup + 60 * run.scale,
        warmup=run.warmup,
        databases=(shared_database(),),
        pools=four_pools(),
    )
    return {"critical_served": simulate(scenario, run.seed, run.make).figures["critical.served"]}


def _leaving(run: Run) -> Mapping[str, float]:
    """Twice the capacity, of clients that lose patience; a cancel takes 20 ms to reach the database."""
    scenario = Scenario(
        "leaving",
        (
            replace(USERS, name="impatient", load=1.4, patience=3.0),
            replace(USERS, name="readers", load=0.6, reading=20.0),
        ),
        seconds=run.warmup + 100 * run.scale,
        warmup=run.warmup,
        kill_lag=0.02,
    )
    figures = simulate(scenario, run.seed, run.make).figures
    return {"orphaned_share": figures["orphaned_share"], "goodput_leaving": figures["goodput"]}


def _panels(run: Run) -> Mapping[str, float]:
    """Dashboards of ten panels at twice the capacity: half come at random, half all together every ten seconds."""
    random = Population(
        "random", Work(0.1, 0.6), PoolName.DASHBOARD, load=1.0, tenants=10, panels=10, timeout=3.0
    )
    scenario = Scenario(
        "panels",
        (random, replace(random, name="refresh", period=10.0)),
        seconds=run.warmup + 100 * run.scale,
        warmup=run.warmup,
        databases=(shared_database(),),
        pools=four_pools(),
    )
    result = simulate(scenario, run.seed, run.make)
    return {
        "whole_dashboards": result.figures["whole_of_admitted"],
        "whole_of_all": result.figures["whole"],
        "goodput_panels": result.figures["goodput"],
    }


RECOVERY = Study(
    "spike",
    "60 s at ten times the capacity, then 0.8 times, clients with three attempts, naive and with a retry budget: "
    "seconds until 95 % of new requests are answered in time",
    (
        Figure("recovery_s", "G8", "<=", 5.0),
        Figure("recovery_polite_s", "G8", "<=", 5.0),
        Figure("attempts_per_request_polite", "G8", "<=", 1.15),
        Figure("attempts_per_request", "G8"),
    ),
    _spike,
)
CRITICAL = Study(
    "critical",
    "ten times the capacity, 60 % of the capacity are critical dashboards: those answered in time",
    (Figure("critical_served", "G9", ">=", 0.999),),
    _critical,
)
LEAVING = Study(
    "leaving",
    "twice the capacity, clients that leave and slow readers: seat-seconds of queries nobody waits for",
    (Figure("orphaned_share", "G12", "<=", 0.01), Figure("goodput_leaving", "G12")),
    _leaving,
)
PANELS = Study(
    "panels",
    "dashboards of ten panels at twice the capacity: whole ones among those of which anything was admitted",
    (
        Figure("whole_dashboards", "G16", ">=", 0.95),
        Figure("whole_of_all", "G16"),
        Figure("goodput_panels", "G16"),
    ),
    _panels,
)
