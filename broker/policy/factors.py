"""What was weighed in a classification, told in words: every factor with what it did."""

from __future__ import annotations

from collections.abc import Iterator

from broker.domain.estimate import Estimate
from broker.domain.principal import Criticality
from broker.domain.request import Basis, Factor
from broker.policy.admission.values import Quantiles
from broker.policy.history import History
from broker.policy.shape import Shape

_BASIS = {
    Basis.HISTORY: "history_median_seconds",
    Basis.PLAN: "plan_model_seconds",
    Basis.CLASS_MEDIAN: "class_median_seconds",
    Basis.REQUEST: "nothing_known_seconds",
}


def factors(
    basis: Basis,
    guessed: float,
    predicted: Quantiles,
    history: History | None,
    estimate: Estimate | None,
    shape: Shape,
    seats: int,
) -> Iterator[Factor]:
    """The evidence first, then what it needs. ``guessed`` is what the evidence says in seconds, before calibration."""
    if guessed:
        text = f"calibrated to {predicted.p50:.3g} s, between {predicted.p10:.3g} s and {predicted.p90:.3g} s"
        yield Factor(_BASIS[basis], guessed, text)
    if history is not None and history.known:
        text = "decided" if basis is Basis.HISTORY else "shown for comparison"
        yield Factor("history_run_count", float(history.samples), text)
        yield Factor("history_last_seconds", history.last, "shown for comparison")
    if estimate is not None:
        how = (
            "decided, by what such plans have taken" if basis is Basis.PLAN else "weighed beside the history"
        )
        yield Factor("planner_cost_units", estimate.total_cost, how)
        yield Factor("planner_row_count", float(estimate.rows), "size of the result")
    weighed = "priced in the model of the plan" if estimate is not None else "part of the fingerprint"
    yield Factor("complexity", shape.complexity, f"{weighed}: measures, dimensions, conditions, tables")
    if seats > 1:
        yield Factor("seats", float(seats), "processes that the planner wants for it")
    if estimate is not None and estimate.memory:
        yield Factor(
            "memory_bytes", float(estimate.memory), "hash tables and sorts, held against the backend's budget"
        )


def caller_factors(criticality: Criticality, payload: int) -> Iterator[Factor]:
    """What the caller brings: neither makes work cheaper, so neither moves the class."""
    text = (
        f"{criticality.name.lower()}, by identity: decides who runs and who is refused first, not the class"
    )
    yield Factor("caller_criticality", float(criticality), text)
    if payload:
        yield Factor(
            "payload_bytes", float(payload), "read before classification; long lists count as complexity"
        )
