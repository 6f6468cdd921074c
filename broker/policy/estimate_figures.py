"""Which plans can be estimated from a sample of blocks, and what has to be summed for them."""

from __future__ import annotations

from collections.abc import Mapping

from broker.domain.measures import ADDITIVE
from broker.domain.model import Measure, MeasureKind
from broker.domain.plan import Plan, state_name
from broker.domain.sample import Figure, NoEstimate
from broker.domain.values import ColumnRole

_KINDS = ADDITIVE | {MeasureKind.AVG, MeasureKind.RATIO}


def hindrances(plan: Plan) -> tuple[NoEstimate, ...]:
    """Why a plan cannot be estimated; nothing where it can.

    Least and greatest values, distinct counts and percentiles are not totals. Calculations, and a choice of groups by
    what was estimated, would turn the error of each value into wrong rows: those are left to exact answers.
    """
    found: list[NoEstimate] = []
    columns = [column for column in plan.columns if column.role is ColumnRole.MEASURE]
    if not columns:
        found.append(NoEstimate.NO_MEASURE)
    if not all(_estimable(plan, column.name) for column in columns):
        found.append(NoEstimate.MEASURE)
    if not plan.finish.calculations.empty or plan.comparison is not None:
        found.append(NoEstimate.CALCULATION)
    if plan.finish.having is not None:
        found.append(NoEstimate.HAVING)
    return tuple(found)


def figures(plan: Plan) -> tuple[Figure, ...]:
    """The measures of an estimable plan, in the answer's order."""
    known = plan.main.dataset.measures
    return tuple(_figure(known[output.column.name], known) for output in plan.finish.outputs)


def chooses(plan: Plan) -> bool:
    """Whether a limit chooses groups by a measure, rather than by their keys."""
    keys = {column.name for column in plan.finish.keys}
    return plan.finish.limit > 0 and any(key.member not in keys for key in plan.finish.order)


def _estimable(plan: Plan, name: str) -> bool:
    known = plan.main.dataset.measures
    measure = known[name]
    if measure.kind is MeasureKind.RATIO:
        return all(known[each].kind in ADDITIVE for each in (measure.numerator, measure.denominator))
    return measure.kind in _KINDS


def _figure(measure: Measure, known: Mapping[str, Measure]) -> Figure:
    match measure.kind:
        case MeasureKind.AVG:
            return Figure(measure.name, state_name(measure.name, "s"), state_name(measure.name, "n"))
        case MeasureKind.RATIO:
            above, below = (_total(known[each]) for each in (measure.numerator, measure.denominator))
            return Figure(measure.name, above, below)
        case _:
            counts = measure.kind is MeasureKind.COUNT
            return Figure(measure.name, _total(measure), counts=counts)


def _total(measure: Measure) -> str:
    """The column of states that adds up to a count or a sum."""
    return state_name(measure.name, "n" if measure.kind is MeasureKind.COUNT else "s")
