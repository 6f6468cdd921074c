"""The outcome of a run in figures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from broker.policy.admission.values import Stage
from broker.simulation.backends.choice import capacity
from broker.simulation.engine import Engine
from broker.simulation.recorder import CELL, Samples, Tally
from broker.simulation.scenario import Scenario


@dataclass(frozen=True, slots=True)
class Result:
    """One run of a scenario with one seed.

    ``figures`` are named as expectations of scenario files name them, those of one population ``population.figure``.
    ``work`` is useful seat-seconds by tenant and cell of five seconds, ``capacity`` what could be done in each cell,
    ``tallies`` are by population. ``arrived`` counts requests by the second of their arrival, ``answered`` those of
    them that were answered in time. ``log_hash`` is empty unless it was asked for.
    """

    scenario: Scenario
    seed: int
    figures: Mapping[str, float]
    samples: Samples
    work: Mapping[str, Sequence[float]]
    weights: Mapping[str, float]
    capacity: Sequence[float]
    tallies: Mapping[str, Tally]
    arrived: Sequence[int]
    answered: Sequence[int]
    log_hash: str = ""

    def goodput(self, begin: float, end: float) -> float:
        """Useful work as a share of capacity between two instants, rounded to whole cells."""
        first, last = math.ceil(begin / CELL), int(end / CELL)
        could = sum(self.capacity[first:last])
        return sum(sum(row[first:last]) for row in self.work.values()) / could if could else 0.0


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which that share of values lies, 0 when there is none."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)]


def jain(values: Sequence[float]) -> float:
    """Jain's index of fairness: 1 when all are equal, 1/n when one has everything."""
    squares = sum(value * value for value in values)
    return sum(values) ** 2 / (len(values) * squares) if squares else 1.0


def windows(row: Sequence[float], first: int, last: int, cells: int) -> list[float]:
    """Sums over every span of so many cells."""
    return [sum(row[index : index + cells]) for index in range(first, last - cells + 1)]


def result_of(engine: Engine, seed: int, log_hash: str = "") -> Result:
    """The figures of an engine that has run."""
    scenario = engine.scenario
    work: dict[str, list[float]] = {}
    weights: dict[str, float] = {}
    for source in engine.sources:
        for index, (tenant, row) in enumerate(zip(source.tenants, source.rows, strict=True)):
            known = work.get(tenant)
            work[tenant] = row if known is None else [a + b for a, b in zip(known, row, strict=True)]
            weights[tenant] = source.population.weights[index % len(source.population.weights)]
    cells = len(engine.sources[0].rows[0])
    could = [
        sum(capacity(d, scenario.steps, i * CELL, (i + 1) * CELL) for d in scenario.databases)
        for i in range(cells)
    ]
    first, last = math.ceil(scenario.warmup / CELL), int(scenario.seconds / CELL)
    total = [sum(row[index] for row in work.values()) for index in range(cells)]
    tallies = {p.name: tally for p, tally in zip(scenario.populations, engine.recorder.tallies, strict=True)}
    figures = _shared(total, could, first, last) | _fairness(work, weights, first, last)
    figures |= _limits(engine.recorder.samples, scenario, sum(could[first:last]))
    figures |= _requests(list(tallies.values()), [p.timeout for p in scenario.populations])
    if len(tallies) > 1:
        for population in scenario.populations:
            own = _requests([tallies[population.name]], [population.timeout])
            figures |= {f"{population.name}.{name}": value for name, value in own.items()}
    recorder = engine.recorder
    return Result(
        scenario, seed, figures, recorder.samples, work, weights, could, tallies, recorder.arrived, recorder.answered,
        log_hash,
    )  # fmt: skip


def _shared(total: Sequence[float], could: Sequence[float], first: int, last: int) -> dict[str, float]:
    work, most = windows(total, first, last, 2), windows(could, first, last, 2)
    shares = [done / full for done, full in zip(work, most, strict=True) if full > 0]
    return {
        "goodput": sum(total[first:last]) / max(1e-9, sum(could[first:last])),
        "goodput_worst_10s": min(shares, default=0.0),
    }


def _fairness(
    work: Mapping[str, Sequence[float]], weights: Mapping[str, float], first: int, last: int
) -> dict[str, float]:
    """The worst index and the worst share of any 30 s, and the index over all."""
    spans = [
        windows([done / weights[tenant] for done in row], first, last, 6) for tenant, row in work.items()
    ]
    together = list(zip(*spans, strict=True))
    worst = [min(each) * len(each) / sum(each) for each in together if sum(each) > 0]
    return {
        "jain": jain([sum(row[first:last]) / weights[tenant] for tenant, row in work.items()]),
        "jain_30s": min((jain(each) for each in together), default=1.0),
        "worst_share_30s": min(worst, default=1.0),
    }


def _limits(samples: Samples, scenario: Scenario, could: float) -> dict[str, float]:
    begin, end = int(scenario.warmup), int(scenario.seconds)
    limits = samples.limit[begin:end]
    mean = sum(limits) / max(1, len(limits))
    spread = math.sqrt(sum((limit - mean) ** 2 for limit in limits) / max(1, len(limits)))
    return {
        "limit_mean": mean,
        "limit_deviation": spread / mean if mean else 0.0,
        "utilisation": (samples.done[end] - samples.done[begin]) / max(1e-9, could),
        "queued_mean": sum(samples.queued[begin:end]) / max(1, end - begin),
    }


def _loads(tallies: Sequence[Tally]) -> dict[str, float]:
    """Whole dashboards: of loads of which anything was admitted, and of all."""
    loads = [load for tally in tallies for load in tally.groups.values()]
    begun = [load for load in loads if load[1]]
    whole = sum(load[0] == load[2] for load in begun)
    if not loads:
        return {}
    return {"whole_of_admitted": whole / max(1, len(begun)), "whole": whole / len(loads)}


def _requests(tallies: Sequence[Tally], timeouts: Sequence[float]) -> dict[str, float]:
    requests = max(1, sum(tally.requests for tally in tallies))
    attempts = sum(tally.attempts for tally in tallies)
    refused = sum(sum(tally.refusals.values()) for tally in tallies)
    at_once = sum(
        n for tally in tallies for (_, stage), n in tally.refusals.items() if stage is Stage.ARRIVAL
    )
    used = max(1e-9, sum(tally.used for tally in tallies))
    latencies = [seconds for tally in tallies for seconds in tally.latencies]
    waits = [seconds for tally in tallies for seconds in tally.waits]
    told = [
        s / t for tally, t in zip(tallies, timeouts, strict=True) if t < math.inf for s in tally.refused_after
    ]
    return {
        "requests": float(requests),
        "served": sum(tally.good for tally in tallies) / requests,
        "late": sum(tally.late for tally in tallies) / requests,
        "killed": sum(tally.killed for tally in tallies) / requests,
        "refused": refused / max(1, attempts),
        "false_refusals": sum(tally.feasible_refused for tally in tallies) / requests,
        "attempts_per_request": attempts / requests,
        "refused_at_arrival": at_once / refused if refused else 1.0,
        "refusal_p99_s": quantile([s for tally in tallies for s in tally.refused_after], 0.99),
        "refusal_p99_of_deadline": quantile(told, 0.99),
        "latency_p50": quantile(latencies, 0.5),
        "latency_p99": quantile(latencies, 0.99),
        "wait_mean": sum(waits) / max(1, len(waits)),
        "wait_p99": quantile(waits, 0.99),
        "wasted_share": sum(tally.wasted for tally in tallies) / used,
        "orphaned_share": sum(tally.orphaned for tally in tallies) / used,
        "held_mean_s": sum(tally.held for tally in tallies) / requests,
    } | _loads(tallies)
