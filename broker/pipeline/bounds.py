"""How exact the answer of a plan is, and the bounds of what is not exact."""

from __future__ import annotations

from broker.domain.answer import ErrorBound, Exactness
from broker.domain.measures import HLL_RELATIVE_ERROR, KLL_RANK_ERROR, SKETCHES
from broker.domain.model import MeasureKind
from broker.domain.plan import Plan


def exactness(plan: Plan) -> Exactness:
    """BOUNDED when a measure is made from a sketch."""
    return Exactness.BOUNDED if error_bounds(plan) else Exactness.EXACT


def error_bounds(plan: Plan) -> tuple[ErrorBound, ...]:
    """One bound for every sketched measure of the plan."""
    found: list[ErrorBound] = []
    for leaf in plan.main.leaves:
        if leaf.kind is MeasureKind.APPROX_DISTINCT:
            found.append(ErrorBound(leaf.name, "HLL", HLL_RELATIVE_ERROR, 0.955))
        elif leaf.kind in SKETCHES:
            found.append(ErrorBound(leaf.name, "KLL", KLL_RANK_ERROR, 0.99))
    return tuple(found)
