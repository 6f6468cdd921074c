"""A quiet tenant beside a noisy one, twenty that all want more than their share, and jobs beside people."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from broker.domain.pool import PoolName, TenantLimits
from broker.simulation.gates.shapes import QUERY, four_pools, shared_database
from broker.simulation.gates.values import Figure, Run, Study
from broker.simulation.result import windows
from broker.simulation.run import simulate
from broker.simulation.scenario import Population, Scenario, Work

QUIET = Population("quiet", QUERY, load=0.38, tenants=19)


def _noisy(run: Run) -> Mapping[str, float]:
    seconds = run.warmup + 300 * run.scale
    alone = simulate(
        Scenario("quiet-alone", (QUIET,), seconds=seconds, warmup=run.warmup), run.seed, run.make
    ).figures
    figures: dict[str, float] = {}
    for suffix, size, timeout in (("", 1.0, 3.0), ("_large", 10.0, 30.0)):
        noisy = Population("noisy", Work(QUERY.median * size, QUERY.sigma), load=10.0, timeout=timeout)
        beside = simulate(
            Scenario("beside-noisy", (QUIET, noisy), seconds=seconds, warmup=run.warmup), run.seed, run.make
        ).figures
        unloaded = alone["latency_p99"]
        figures |= {
            f"quiet_p99_ratio{suffix}": beside["quiet.latency_p99"] / unloaded if unloaded else math.inf,
            f"quiet_served{suffix}": beside["quiet.served"] / max(1e-9, alone["served"]),
            f"utilisation{suffix}": beside["utilisation"],
        }
    return figures


def _backlogged(run: Run) -> Mapping[str, float]:
    """Twenty tenants of 0.1 to 4.85 times the capacity each, whose queries differ by up to 9 in size.

    The deadline leaves time for some queries of one's own to wait: with a share of one seat and a second of patience a
    tenant of long queries has none waiting most of the time, and is not backlogged.
    """
    count = 20
    sizes = tuple(float(1 + index * 7 % 9) for index in range(count))
    demands = tuple(0.1 + 0.25 * index for index in range(count))
    weights = tuple(2.0 if index >= count // 2 and index % 4 == 0 else 1.0 for index in range(count))
    queries = Population(
        "tenant", Work(0.1, 0.8), tenants=count, load=sum(demands), sizes=sizes, weights=weights, timeout=10.0,
        demands=tuple(demand / size for demand, size in zip(demands, sizes, strict=True)),
    )  # fmt: skip
    scenario = Scenario(
        "backlogged",
        (queries,),
        seconds=run.warmup + 130 * run.scale,
        warmup=run.warmup,
        tenants={f"tenant-{i}": TenantLimits(weight=weight) for i, weight in enumerate(weights)},
    )
    figures = simulate(scenario, run.seed, run.make).figures
    return {"jain": figures["jain_30s"], "worst_share": figures["worst_share_30s"]}


def _classes(run: Run) -> Mapping[str, float]:
    """Dashboards and explorations at three times the capacity each, and more jobs than can be done."""
    people = Population("dashboards", Work(0.1, 0.6), PoolName.DASHBOARD, load=3.0, tenants=10)
    explorers = replace(
        people, name="explorers", work=Work(0.5, 0.6), pool=PoolName.EXPLORATION, timeout=30.0
    )
    jobs = replace(people, name="jobs", work=Work(1.0, 0.6), pool=PoolName.JOB, load=1.0, timeout=600.0)
    warmup = 10.0
    seconds = warmup + max(65.0, 240 * run.scale)
    scenario = Scenario(
        "classes",
        (people, explorers, jobs),
        seconds=seconds,
        warmup=warmup,
        databases=(shared_database(),),
        pools=four_pools(),
    )
    result = simulate(scenario, run.seed, run.make)
    first, last = int(warmup / 5), int(seconds / 5)

    def least(prefix: str) -> float:
        rows = [row for name, row in result.work.items() if name.startswith(prefix)]
        together = windows([sum(cell) for cell in zip(*rows, strict=True)], first, last, 12)
        could = windows(result.capacity, first, last, 12)
        return min(work / most for work, most in zip(together, could, strict=True))

    return {"job_share": least("jobs"), "exploration_share": least("explorers")}


NOISY = Study(
    "noisy",
    "19 quiet tenants with 38 % of the capacity beside one that wants ten times the capacity, with queries of the "
    "same size, or ten times as large: p99 against that without it",
    (
        Figure("quiet_p99_ratio", "G4", "<=", 1.20),
        Figure("quiet_p99_ratio_large", "G4", "<=", 1.20),
        Figure("utilisation", "G4", ">=", 0.93),
        Figure("utilisation_large", "G4", ">=", 0.93),
        Figure("quiet_served", "G4", ">=", 0.98),
        Figure("quiet_served_large", "G4", ">=", 0.98),
    ),
    _noisy,
)
BACKLOGGED = Study(
    "backlogged",
    "20 tenants, each with 0.1 to 4.85 times the capacity, sizes 1 to 9, weights 1 and 2: the worst of any 30 s",
    (Figure("jain", "G5", ">=", 0.99), Figure("worst_share", "G5", ">=", 0.9)),
    _backlogged,
)
CLASSES = Study(
    "classes",
    "dashboards and explorations at three times the capacity each, jobs without end: least share of any 60 s",
    (Figure("job_share", "G10", ">=", 0.05), Figure("exploration_share", "G10", ">=", 0.25)),
    _classes,
    rivals="none",
)
