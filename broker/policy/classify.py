"""What a request will cost, and which class and pool follow.

The call proposes the class. The prediction rests on the best evidence there is: earlier runs of the same question, else
the planner's cost times what a unit of cost has taken of late, else the median of the class, else nothing. The
classifier learns from every run it is told of; it is a pure object: time is an argument and nothing is awaited.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Protocol

from broker.domain.answer import Cost, CostClass
from broker.domain.pool import PoolName
from broker.domain.request import Basis, Classification, Factor, RequestKind
from broker.policy.admission.values import Quantiles
from broker.policy.history import Histories, History

SECONDS_PER_UNIT = 1e-5
"""What a unit of the planner's cost takes before anything is known: a page read in sequence from memory."""
PLAN_SPREAD = 10.0
"""How far off a planner's cost may well be, to either side."""
LEARNING_RATE = 0.05
CLASS_SAMPLES = 128


class PlanEstimate(Protocol):
    """The planner's view, as the store gives it: cost in its own units, rows, and bytes per row."""

    @property
    def total_cost(self) -> float:
        """Cost of the whole plan."""
        ...

    @property
    def rows(self) -> int:
        """Rows of the result."""
        ...

    @property
    def width(self) -> int:
        """Bytes of one row."""
        ...


@dataclass(frozen=True, slots=True)
class Subject:
    """A request to be classified: the call, the question's fingerprint, and the planner's estimate where asked."""

    kind: RequestKind
    fingerprint: str
    estimate: PlanEstimate | None = None


@dataclass(frozen=True, slots=True)
class Classified:
    """The class with what decided it, the predicted cost for people, and the predicted time for admission."""

    classification: Classification
    predicted: Cost
    quantiles: Quantiles


@dataclass(frozen=True, slots=True)
class Run:
    """How a run went: seconds of work, rows and bytes. A run that was ``cut_short`` would have taken longer."""

    seconds: float
    row_count: int = 0
    byte_count: int = 0
    cut_short: bool = False


PROPOSED: Mapping[RequestKind, tuple[CostClass, PoolName]] = {
    RequestKind.DASHBOARD: (CostClass.DASHBOARD, PoolName.DASHBOARD),
    RequestKind.EXPLORE: (CostClass.EXPLORATION, PoolName.EXPLORATION),
    RequestKind.JOB: (CostClass.JOB, PoolName.JOB),
}


class Classifier:
    """Predicts and learns; remembers at most ``capacity`` questions."""

    def __init__(self, capacity: int = 4096) -> None:
        self._histories = Histories(capacity)
        self._classes: dict[RequestKind, deque[float]] = {
            kind: deque(maxlen=CLASS_SAMPLES) for kind in RequestKind
        }
        self._unit = math.log(SECONDS_PER_UNIT)

    @property
    def seconds_per_unit(self) -> float:
        """What a unit of the planner's cost takes, as learned."""
        return math.exp(self._unit)

    def classify(self, subject: Subject, now: float) -> Classified:
        """The class and the predicted cost; ``now`` is the monotonic clock in seconds."""
        history = self._histories.find(subject.fingerprint)
        known = self._classes[subject.kind]
        if history is not None:
            return _from_history(subject, history, now)
        if subject.estimate is not None:
            return self._from_plan(subject, subject.estimate)
        if known:
            middle = median(known)
            factor = Factor("class_median_seconds", middle, "the question is new: taken as the prediction")
            quantiles = Quantiles(0.0, middle, max(known))  # a new question may be a quick one
            return _classified(subject, Basis.CLASS_MEDIAN, 0.25, quantiles, factors=(factor,))
        return _classified(subject, Basis.REQUEST, 0.1, Quantiles())

    def observe(self, subject: Subject, run: Run, now: float) -> None:
        """Learns from a run."""
        history = self._histories.open(subject.fingerprint, now)
        if run.cut_short:
            history.add_cut_short(run.seconds, now)
            return
        history.add(run.seconds, run.row_count, run.byte_count, now)
        self._classes[subject.kind].append(run.seconds)
        if subject.estimate is not None and subject.estimate.total_cost > 0 and run.seconds > 0:
            error = math.log(run.seconds) - math.log(subject.estimate.total_cost) - self._unit
            bound = math.log(PLAN_SPREAD)  # one absurd estimate must not undo what many have taught
            self._unit += LEARNING_RATE * min(bound, max(-bound, error))

    def _from_plan(self, subject: Subject, estimate: PlanEstimate) -> Classified:
        seconds = estimate.total_cost * self.seconds_per_unit
        quantiles = Quantiles(seconds / PLAN_SPREAD, seconds, seconds * PLAN_SPREAD)
        unit = f"taken as {seconds:.3g} s, at {self.seconds_per_unit * 1000:.3g} ms for a unit"
        factors = (
            Factor("planner_cost_units", estimate.total_cost, unit),
            Factor("planner_row_count", float(estimate.rows), "size of the result"),
        )
        return _classified(
            subject, Basis.PLAN, 0.5, quantiles, (estimate.rows, estimate.rows * estimate.width), 0, factors
        )


def _from_history(subject: Subject, history: History, now: float) -> Classified:
    quantiles = history.quantiles(now)
    factors = (
        Factor("history_median_seconds", quantiles.p50, "taken as the prediction"),
        Factor("history_last_seconds", history.last, "shown for comparison"),
    )
    confidence = history.samples / (history.samples + 1)
    return _classified(subject, Basis.HISTORY, confidence, quantiles, history.size, history.samples, factors)


def _classified(
    subject: Subject,
    basis: Basis,
    confidence: float,
    quantiles: Quantiles,
    size: tuple[int, int] = (0, 0),
    samples: int = 0,
    factors: tuple[Factor, ...] = (),
) -> Classified:
    cost_class, pool = PROPOSED[subject.kind]
    rows, length = size
    return Classified(
        Classification(cost_class, pool, basis, confidence, samples, factors),
        Cost(quantiles.p50, quantiles.p90, rows, length),
        quantiles,
    )
