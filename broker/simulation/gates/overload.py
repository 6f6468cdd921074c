"""Goodput, false refusals and how soon a refusal is told, over load."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from broker.simulation.gates.shapes import USERS
from broker.simulation.gates.values import Figure, Run, Study
from broker.simulation.result import Result
from broker.simulation.run import simulate
from broker.simulation.scenario import Scenario


def at_load(run: Run, load: float, seconds: float) -> Result:
    """Ordinary queries at so many times the capacity."""
    scenario = Scenario(
        f"load-{load:g}",
        (replace(USERS, load=load),),
        seconds=run.warmup + seconds * run.scale,
        warmup=run.warmup,
    )
    return simulate(scenario, run.seed, run.make)


def _overload(run: Run) -> Mapping[str, float]:
    results = {load: at_load(run, load, 100).figures for load in (2, 5, 10)}
    return {
        **{f"goodput_{load}x": figures["goodput"] for load, figures in results.items()},
        "goodput_worst_10s": min(figures["goodput_worst_10s"] for figures in results.values()),
        "refused_at_arrival": min(figures["refused_at_arrival"] for figures in results.values()),
        "refusal_p99_of_deadline": max(figures["refusal_p99_of_deadline"] for figures in results.values()),
    }


def _underload(run: Run) -> Mapping[str, float]:
    return {
        f"false_refusals_{round(100 * load)}": at_load(run, load, 300).figures["false_refusals"]
        for load in (0.7, 0.9)
    }


OVERLOAD = Study(
    "overload",
    "open loop at 2, 5 and 10 times the capacity: useful work as a share of capacity, refusals",
    (
        Figure("goodput_2x", "G1", ">=", 0.98),
        Figure("goodput_5x", "G1", ">=", 0.98),
        Figure("goodput_10x", "G1", ">=", 0.97),
        Figure("goodput_worst_10s", "G1", ">=", 0.90),
        Figure("refused_at_arrival", "G3", ">=", 0.95),
        Figure("refusal_p99_of_deadline", "G3", "<=", 0.15),
    ),
    _overload,
)
UNDERLOAD = Study(
    "underload",
    "open loop at 0.7 and 0.9 times the capacity: requests refused that the database could have answered in time",
    (Figure("false_refusals_70", "G2", "<=", 0.001), Figure("false_refusals_90", "G2", "<=", 0.01)),
    _underload,
)
