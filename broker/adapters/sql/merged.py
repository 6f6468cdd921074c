"""The measure algebra in SQL once more: partial states that a relation stores, merged by PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

from sqlglot import exp

from broker.adapters.sql.measures import StateSql, stated
from broker.adapters.sql.types import cast, typed
from broker.domain.measures import ORDERED, State
from broker.domain.model import MeasureKind
from broker.domain.plan import Leaf, state_name
from broker.domain.values import DataType

StateColumn = Callable[[str], exp.Expr]
"""The column that stores ``{measure}.{state}``."""


def merged_states(leaf: Leaf, column: StateColumn) -> list[StateSql]:
    """The merged states of a measure in wire form, in frame order: what the same rows would have given live."""

    def stored(state: State) -> exp.Expr:
        return typed(column(state_name(leaf.measure.name, state.name)), state.type, state.scale)

    nodes = _merged(leaf, stored)
    return [
        stated(state, typed(node, state.type, state.scale))
        for state, node in zip(leaf.states, nodes, strict=True)
    ]


def _merged(leaf: Leaf, stored: Callable[[State], exp.Expr]) -> list[exp.Expr]:
    kind, states = leaf.measure.kind, leaf.states
    if kind in ORDERED:
        return [_chosen(leaf, position, stored) for position in range(len(states))]
    match kind:
        case MeasureKind.COUNT:
            return [_count(stored(states[0]))]
        case MeasureKind.SUM:
            return [exp.Sum(this=stored(states[0]))]
        case MeasureKind.MIN:
            boolean = states[0].type is DataType.BOOL
            return [exp.LogicalAnd(this=stored(states[0])) if boolean else exp.Min(this=stored(states[0]))]
        case MeasureKind.MAX:
            boolean = states[0].type is DataType.BOOL
            return [exp.LogicalOr(this=stored(states[0])) if boolean else exp.Max(this=stored(states[0]))]
        case MeasureKind.AVG:
            return [_count(stored(states[0])), exp.Sum(this=stored(states[1]))]
        case MeasureKind.VARIANCE | MeasureKind.STDDEV:
            return _moments(*(stored(state) for state in states))
        case _:
            raise AssertionError(f"partial states of {kind} are not merged in SQL")


def _count(node: exp.Expr) -> exp.Expr:
    """The sum of counts, 0 where there are no rows, as a count is."""
    return exp.Coalesce(this=exp.Sum(this=node), expressions=[exp.Literal.number(0)])


def _moments(count: exp.Expr, mean: exp.Expr, squares: exp.Expr) -> list[exp.Expr]:
    """``M2 = sum(m2) + sum(n (mean - M)^2)`` over the parts (Chan, Golub, LeVeque 1979), in one pass.

    The second term is ``(sum(n mean^2) sum(n) - sum(n mean)^2) / sum(n)``, a difference in which doubles would lose
    everything where the means are large and close. It is taken of decimals instead, which hold products and sums
    exactly; by way of text, because a cast from double to numeric keeps 15 digits only.
    """
    n = cast(count, DataType.DECIMAL)
    m = cast(cast(mean, DataType.STRING), DataType.DECIMAL)
    total, first, second = exp.Sum(this=n), exp.Sum(this=_product(n, m)), exp.Sum(this=_product(n, m, m))
    spread = exp.Sub(this=_product(second, total), expression=_product(first, first))
    return [
        _count(count.copy()),
        cast(_quotient(first, total), DataType.DOUBLE),
        exp.Add(
            this=exp.Sum(this=squares),
            expression=cast(_quotient(exp.Paren(this=spread), total), DataType.DOUBLE),
        ),
    ]


def _quotient(above: exp.Expr, below: exp.Expr) -> exp.Expr:
    some = exp.Nullif(this=below.copy(), expression=exp.Literal.number(0))
    return exp.Paren(this=exp.Div(this=above.copy(), expression=some, typed=True))


def _product(*factors: exp.Expr) -> exp.Expr:
    return reduce(lambda left, right: exp.Mul(this=left, expression=right), (f.copy() for f in factors))


def _chosen(leaf: Leaf, position: int, stored: Callable[[State], exp.Expr]) -> exp.Expr:
    """A state of the row that comes first (or last) among those that have a value."""
    *keys, value = (stored(state) for state in leaf.states)
    order = [
        exp.Ordered(this=key, desc=leaf.measure.kind is MeasureKind.LAST, nulls_first=False) for key in keys
    ]
    chosen = stored(leaf.states[position])
    rows = exp.ArrayAgg(this=exp.Order(this=chosen, expressions=order) if order else chosen)
    known = exp.Not(this=exp.Is(this=exp.Paren(this=value), expression=exp.Null()))
    kept = exp.Filter(this=rows, expression=exp.Where(this=known))
    return exp.Bracket(this=exp.Paren(this=kept), expressions=[exp.Literal.number(0)])
