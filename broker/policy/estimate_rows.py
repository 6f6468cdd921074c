"""From estimates to the rows of an answer: the plan's own columns, then the limits of every measure."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal

from broker.domain.answer import ErrorBound
from broker.domain.measures import State
from broker.domain.model import Measure, MeasureKind
from broker.domain.plan import BUCKET, Finish, Leaf, Output, Plan, Rows, key_name, state_name
from broker.domain.query import Calculations
from broker.domain.sample import Figure, Interval
from broker.domain.values import Column, ColumnRole, DataType
from broker.policy.estimate_design import Key, Told
from broker.policy.estimate_interval import CONFIDENCE

METHOD = "BLOCK_SAMPLE"
_STATE = "v"
_DIGITS = Context(prec=38, rounding=ROUND_HALF_EVEN)
_LONGEST = 2.0**63


def lower_name(measure: str) -> str:
    """The column that holds the lower limits of a measure."""
    return f"{measure}__lower"


def upper_name(measure: str) -> str:
    """The column that holds the upper limits of a measure."""
    return f"{measure}__upper"


def finish_of(plan: Plan) -> Finish:
    """How estimated rows become the answer: in the plan's order, up to its limit.

    Values are finished already, so each is a state of its own that has nothing to be merged with. A bucket without an
    estimate is filled with nulls where the plan fills gaps, never with zeros: nothing was seen of it.
    """
    own = plan.finish
    measures = [output.column for output in own.outputs]
    limits = [column for each in measures for column in _limits(each)]
    found = [*measures, *limits]
    leaves = tuple(
        Leaf(Measure(c.name, MeasureKind.MAX, type=c.type, scale=c.scale), (State(_STATE, c.type, c.scale),))
        for c in found
    )
    return Finish(
        columns=(*own.columns, *limits),
        keys=own.keys,
        leaves=leaves,
        outputs=tuple(Output(column) for column in found),
        grid=own.grid,
        gap_fill=own.gap_fill,
        calculations=Calculations(),
        order=own.order,
        limit=own.limit,
    )


def rows_of(plan: Plan, told: Told) -> Rows:
    """The estimates as states of :func:`finish_of`. Raises OverflowError for a value that its type cannot hold."""
    grid = plan.finish.grid is not None
    keys = [*([Column(BUCKET, DataType.INT64, ColumnRole.TIME_BUCKET)] if grid else [])]
    keys += [
        Column(key_name(i), dimension.type, ColumnRole.DIMENSION, dimension.scale)
        for i, dimension in enumerate(plan.main.dimensions)
    ]
    measures = [output.column for output in plan.finish.outputs]
    limits = [column for each in measures for column in _limits(each)]
    values = [
        Column(state_name(c.name, _STATE), c.type, ColumnRole.MEASURE, c.scale) for c in (*measures, *limits)
    ]
    return Rows((*keys, *values), tuple(_row(key, found, measures) for key, found in told.groups.items()))


def bounds_of(figures: Sequence[Figure], told: Told) -> tuple[ErrorBound, ...]:
    """One bound for each measure: the widest of all rows, whose own are in the columns that it names."""
    columns = list(zip(*told.groups.values(), strict=True))
    return tuple(
        ErrorBound(
            figure.name,
            METHOD,
            max(each.relative for each in found),
            CONFIDENCE,
            lower_name(figure.name),
            upper_name(figure.name),
            told.suppressed,
        )
        for figure, found in zip(figures, columns, strict=True)
    )


def _limits(measure: Column) -> tuple[Column, Column]:
    return (
        Column(lower_name(measure.name), DataType.DOUBLE, ColumnRole.CALCULATION, unit=measure.unit),
        Column(upper_name(measure.name), DataType.DOUBLE, ColumnRole.CALCULATION, unit=measure.unit),
    )


def _row(key: Key, found: Sequence[Interval], measures: Sequence[Column]) -> tuple[object, ...]:
    values = [_value(each.value, column) for each, column in zip(found, measures, strict=True)]
    return (*key, *values, *(end for each in found for end in (each.lower, each.upper)))


def _value(value: float, column: Column) -> object:
    match column.type:
        case DataType.INT64:
            if abs(value) >= _LONGEST:
                raise OverflowError(column.name)
            return round(value)
        case DataType.DECIMAL:
            return Decimal(value).quantize(Decimal(1).scaleb(-column.scale), context=_DIGITS)
        case _:
            return value
