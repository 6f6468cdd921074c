"""A limit that follows a capacity it is never told, with predictions that are right, biased, rough or absent."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from broker.simulation.gates.shapes import SLOTS, capacity_steps
from broker.simulation.gates.values import Figure, Run, Study
from broker.simulation.result import Result
from broker.simulation.run import simulate
from broker.simulation.scenario import Predictor, Predicts

SETTLED = 5
"""Seconds that a limit has to stay in range to count as settled."""
LOAD = 3.0


def settles(limits: Sequence[float], begin: int, end: int, low: float, high: float) -> float:
    """Seconds after ``begin`` until the limit is in range and stays there for five seconds; all of them if never."""
    for second in range(begin, end - SETTLED):
        if all(low <= limit <= high for limit in limits[second : second + SETTLED]):
            return second - begin
    return end - begin


def deviation(limits: Sequence[float], slots: float) -> float:
    """Standard deviation as a share of the slots."""
    mean = sum(limits) / len(limits)
    return math.sqrt(sum((limit - mean) ** 2 for limit in limits) / len(limits)) / slots


def _third(run: Run) -> float:
    return max(60.0, round(300 * run.scale / 5) * 5)


def _by_phase(result: Result) -> list[float]:
    third = result.scenario.seconds / 3
    return [
        result.goodput(max(begin, result.scenario.warmup), begin + third) for begin in (0.0, third, 2 * third)
    ]


def _steps(run: Run) -> Mapping[str, float]:
    third = _third(run)
    result = simulate(capacity_steps(Predictor(), LOAD, third), run.seed, run.make)
    limits, at = result.samples.limit, int(third)
    steady = [limits[int((phase + 0.5) * third) : int((phase + 1) * third)] for phase in range(3)]
    return {
        "limit_down_s": settles(limits, at, 2 * at, 0.75 * SLOTS / 2, 1.25 * SLOTS / 2),
        "limit_up_s": settles(limits, 2 * at, 3 * at, 0.75 * SLOTS, 1.25 * SLOTS),
        "limit_deviation": max(
            deviation(limits, slots) for limits, slots in zip(steady, (SLOTS, SLOTS / 2, SLOTS), strict=True)
        ),
        "goodput_steps": min(_by_phase(result)),
    }


def _predictions(run: Run) -> Mapping[str, float]:
    cases = {
        "goodput_baseline_fast": Predictor(bias=0.7),
        "goodput_baseline_slow": Predictor(bias=1.3),
        "goodput_sigma_1": Predictor(sigma=1.0),
        "goodput_no_predictor": Predictor(Predicts.ABSENT),
    }
    return {
        name: min(_by_phase(simulate(capacity_steps(predictor, LOAD, _third(run)), run.seed, run.make)))
        for name, predictor in cases.items()
    }


STEPS = Study(
    "steps",
    "three times the capacity, which halves and comes back: seconds until the limit is within 25 %, its deviation "
    "when nothing changes, and goodput in the worst of the three phases",
    (
        Figure("limit_down_s", "G6", "<=", 5.0),
        Figure("limit_up_s", "G6", "<=", 30.0),
        Figure("limit_deviation", "G6", "<=", 0.08),
        Figure("goodput_steps", "G6"),
    ),
    _steps,
    rivals="limits",
)
PREDICTIONS = Study(
    "predictions",
    "the same with predictions 30 % too short or too long, with an error of sigma 1, or with the class median only: "
    "goodput in the worst phase",
    (
        Figure("goodput_baseline_fast", "G7", ">=", 0.92),
        Figure("goodput_baseline_slow", "G7", ">=", 0.92),
        Figure("goodput_sigma_1", "G7", ">=", 0.85),
        Figure("goodput_no_predictor", "G7", ">=", 0.80),
    ),
    _predictions,
    rivals="limits",
)
