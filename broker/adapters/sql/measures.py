"""The measure algebra in SQL: the states that PostgreSQL computes, and their finish where it must order by one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sqlglot import exp

from broker.adapters.sql.dataset import DatasetSql
from broker.adapters.sql.types import cast, order_wire, typed, wire
from broker.domain.measures import ORDERED, SKETCHES, State
from broker.domain.model import Measure, MeasureKind
from broker.domain.plan import Leaf, Output
from broker.domain.values import DataType

StateNode = Callable[[str, str], exp.Expr]
"""The column that holds a state, by measure and state."""


@dataclass(frozen=True, slots=True)
class StateSql:
    """One selected state."""

    state: State
    node: exp.Expr


def state_columns(leaf: Leaf, sql: DatasetSql) -> list[StateSql]:
    """The states of a measure as aggregates in wire form, in frame order; none for sketches."""
    measure = leaf.measure
    nodes = _aggregates(measure, leaf.states, sql)
    assert len(nodes) == len(leaf.states), "one aggregate per state"
    return [
        stated(state, typed(_filtered(node, measure, sql), state.type, state.scale))
        for state, node in zip(leaf.states, nodes, strict=True)
    ]


def stated(state: State, node: exp.Expr) -> StateSql:
    """A state in wire form. That of a value fails on infinite times, which no answer can hold; those of keys do not."""
    return StateSql(state, (wire if state.name == "v" else order_wire)(node, state.type))


def _aggregates(measure: Measure, states: tuple[State, ...], sql: DatasetSql) -> list[exp.Expr]:
    """One aggregate per state, not yet restricted to the measure's filter."""
    if measure.kind in ORDERED:
        return [_chosen(measure, states, position, sql) for position in range(len(states))]
    if measure.kind in SKETCHES:
        return []
    if measure.kind is MeasureKind.COUNT:
        return [exp.Count(this=sql.expression(measure.sql) if measure.sql else exp.Star())]
    value = _input(measure, sql)
    double = cast(sql.expression(measure.sql), DataType.DOUBLE)
    match measure.kind:
        case MeasureKind.SUM:
            return [exp.Sum(this=_summand(measure, value, sql))]
        case MeasureKind.MIN:
            return [exp.LogicalAnd(this=value) if measure.type is DataType.BOOL else exp.Min(this=value)]
        case MeasureKind.MAX:
            return [exp.LogicalOr(this=value) if measure.type is DataType.BOOL else exp.Max(this=value)]
        case MeasureKind.AVG:
            return [exp.Count(this=value), exp.Sum(this=_summand(measure, value, sql))]
        case MeasureKind.VARIANCE | MeasureKind.STDDEV:
            # regr_sxx is the sum of squared deviations from the mean, by the method of Youngs and Cramer
            squares = exp.Anonymous(this="REGR_SXX", expressions=[double.copy(), double.copy()])
            return [exp.Count(this=value), exp.Avg(this=double), squares]
        case MeasureKind.EXACT_DISTINCT:
            return [exp.Count(this=exp.Distinct(expressions=[value]))]
        case MeasureKind.EXACT_PERCENTILE:
            position = exp.Anonymous(
                this="PERCENTILE_CONT", expressions=[exp.Literal.number(measure.percentile)]
            )
            order = exp.Order(expressions=[exp.Ordered(this=double, nulls_first=False)])
            return [exp.WithinGroup(this=position, expression=order)]
        case _:
            raise AssertionError(f"{measure.kind} owns no states")


def _input(measure: Measure, sql: DatasetSql) -> exp.Expr:
    """The aggregated expression.

    Integers keep their own width: PostgreSQL sums narrow ones faster, and wide ones as numeric, without overflow.
    """
    node = sql.expression(measure.sql)
    if measure.type is DataType.INT64:
        return node
    if measure.type is DataType.DECIMAL:
        return cast(node, DataType.DECIMAL)
    return typed(node, measure.type, measure.scale)


def _summand(measure: Measure, value: exp.Expr, sql: DatasetSql) -> exp.Expr:
    """What is added up. The cast costs nothing where a column's own type has no more digits: PostgreSQL drops it."""
    if sql.dataset.rounds(measure.name):
        return cast(value.this.copy(), DataType.DECIMAL, measure.scale)
    return value.copy()


def _filtered(node: exp.Expr, measure: Measure, sql: DatasetSql) -> exp.Expr:
    """The aggregate over the measure's rows only; first and last have the condition inside already."""
    if not measure.filter or isinstance(node, exp.Bracket):
        return node
    return exp.Filter(this=node, expression=exp.Where(this=sql.expression(measure.filter)))


def _order_keys(states: tuple[State, ...], sql: DatasetSql) -> list[exp.Expr]:
    """The typed order keys of first and last: the default time, then the primary key."""
    dataset = sql.dataset
    keys = [sql.dimension(dataset.dimensions[dataset.default_time])] if len(states) > 1 else []
    for name, state in zip(dataset.primary_key, states[1:-1], strict=False):
        keys.append(typed(sql.column(name), state.type, state.scale))
    return keys


def _chosen(measure: Measure, states: tuple[State, ...], position: int, sql: DatasetSql) -> exp.Expr:
    """A state of the row that comes first (or last) among those whose value is not null."""
    value = _input(measure, sql)
    order = [
        exp.Ordered(this=key, desc=measure.kind is MeasureKind.LAST, nulls_first=False)
        for key in _order_keys(states, sql)
    ]
    chosen = value.copy() if position == len(states) - 1 else _order_keys(states, sql)[position]
    rows = exp.ArrayAgg(this=exp.Order(this=chosen, expressions=order) if order else chosen)
    known: exp.Expr = exp.Not(this=exp.Is(this=exp.Paren(this=value), expression=exp.Null()))
    if measure.filter:
        known = exp.And(this=known, expression=sql.expression(measure.filter))
    kept = exp.Filter(this=rows, expression=exp.Where(this=known))
    return exp.Bracket(
        this=exp.Paren(this=kept), expressions=[exp.Literal.number(0)]
    )  # the tree counts from 0


def values_input(leaf: Leaf, sql: DatasetSql) -> tuple[exp.Expr, DataType, int]:
    """What a sketch is built from: the typed expression, its type and scale. Quantiles are of doubles."""
    measure = leaf.measure
    node = sql.expression(measure.sql)
    if measure.kind is MeasureKind.APPROX_PERCENTILE:
        return cast(node, DataType.DOUBLE), DataType.DOUBLE, 0
    return typed(node, measure.type, measure.scale), measure.type, measure.scale


def finished(output: Output, leaves: Mapping[str, Leaf], state: StateNode) -> exp.Expr:
    """The value of a measure column, in wire form, by the same double arithmetic as the kernel's."""
    if output.ratio is None:
        return _finished_leaf(leaves[output.column.name], state)
    above, below = (cast(_finished_leaf(leaves[name], state), DataType.DOUBLE) for name in output.ratio)
    below = exp.Nullif(this=below, expression=exp.Literal.number(0))
    return exp.Div(this=above, expression=below, typed=True)


def _finished_leaf(leaf: Leaf, state: StateNode) -> exp.Expr:
    name = leaf.measure.name
    match leaf.measure.kind:
        case MeasureKind.AVG:
            total, count = state(name, "s"), state(name, "n")
            total, count = cast(total, DataType.DOUBLE), cast(count, DataType.DOUBLE)
            return exp.Div(this=total, expression=count, typed=True)
        case MeasureKind.VARIANCE | MeasureKind.STDDEV:
            one = exp.Literal.number(1)
            degrees = cast(exp.Sub(this=state(name, "n"), expression=one), DataType.DOUBLE)
            variance = exp.Div(this=state(name, "m2"), expression=degrees, typed=True)
            value = exp.Sqrt(this=variance) if leaf.measure.kind is MeasureKind.STDDEV else variance
            several = exp.GT(this=state(name, "n"), expression=one.copy())
            return exp.Case(ifs=[exp.If(this=several, true=value)])
        case _:
            return state(name, leaf.states[-1].name)
