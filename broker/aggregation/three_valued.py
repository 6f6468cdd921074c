"""Conditions on finished values, three-valued, in plain Python; the twin of :mod:`broker.aggregation.having`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import eq, ge, gt, le, lt, ne
from typing import Any

from broker.aggregation.physical import physical
from broker.domain.query import AllOf, AnyOf, Condition, Filter, Not, Operator

Truth = bool | None
Test = Callable[[int], Truth]
"""Whether the row at a position passes."""

_PLAIN: Mapping[Operator, Callable[[Any, Any], bool]] = {
    Operator.EQ: eq,
    Operator.NE: ne,
    Operator.LT: lt,
    Operator.LE: le,
    Operator.GT: gt,
    Operator.GE: ge,
}


def compile_filter(node: Filter, columns: Mapping[str, Sequence[object]]) -> Test:
    """A test of rows by position; ``columns`` holds finished values by name."""
    match node:
        case Condition():
            return _condition(node, columns[node.member])
        case Not(child):
            inner = compile_filter(child, columns)
            return lambda i: None if (truth := inner(i)) is None else not truth
        case AllOf(children):
            return partial(_combine, [compile_filter(child, columns) for child in children], False)
        case AnyOf(children):
            return partial(_combine, [compile_filter(child, columns) for child in children], True)


def sortable(value: object) -> tuple[bool, Any]:
    """A key that orders NaN above all numbers and equal to itself."""
    return (True, 0) if value != value else (False, value)  # noqa: PLR0124 - only NaN differs from itself


def _combine(tests: Sequence[Test], decisive: bool, position: int) -> Truth:
    """OR for a decisive true, AND for a decisive false: one decisive child decides, else one unknown leaves it open."""
    truths = [test(position) for test in tests]
    if decisive in truths:
        return decisive
    return None if None in truths else not decisive


def _condition(node: Condition, column: Sequence[object]) -> Test:
    operator = node.operator
    if operator is Operator.IS_NULL:
        return lambda i: column[i] is None
    if operator is Operator.IS_NOT_NULL:
        return lambda i: column[i] is not None
    holds = _known(operator, [physical(value) for value in node.values])
    return lambda i: None if (value := column[i]) is None else holds(value)


def _known(operator: Operator, values: Sequence[Any]) -> Callable[[Any], bool]:
    match operator:
        case Operator.IN | Operator.NOT_IN:
            wanted = {sortable(value) for value in values}
            return lambda v: (sortable(v) in wanted) is (operator is Operator.IN)
        case Operator.BETWEEN:
            low, high = map(sortable, values)
            return lambda v: low <= sortable(v) < high
        case Operator.CONTAINS:
            return lambda v: values[0] in v
        case Operator.STARTS_WITH:
            return lambda v: bool(v.startswith(values[0]))
        case Operator.ENDS_WITH:
            return lambda v: bool(v.endswith(values[0]))
        case _:
            bound, compare = sortable(values[0]), _PLAIN[operator]
            return lambda v: compare(sortable(v), bound)
