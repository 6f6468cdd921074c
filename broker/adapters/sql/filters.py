"""Filters: their shape, the values that they hold, and the predicate that both make.

The shape and the predicate are made by two walks over the same tree, in the same order: the first is fast and runs on
every call, the second builds nodes and runs once per shape. An operator changes the shape, a value does not: ``IN`` is
``= ANY(array)``, so that the number of its values is a value too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from sqlglot import exp

from broker.adapters.sql.types import atom, by_code_point
from broker.adapters.sql.values import Places, Value, checked_text
from broker.domain.query import AllOf, AnyOf, Condition, Filter, Not, Operator
from broker.domain.values import DataType, Scalar

Shape = tuple[object, ...]
Add = Callable[[Scalar], Scalar]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EPOCH_DAY = date(1970, 1, 1)
_COMPARISONS: dict[Operator, type[exp.Binary]] = {
    Operator.EQ: exp.EQ,
    Operator.NE: exp.NEQ,
    Operator.LT: exp.LT,
    Operator.LE: exp.LTE,
    Operator.GT: exp.GT,
    Operator.GE: exp.GTE,
}
_ORDER = frozenset({Operator.LT, Operator.LE, Operator.GT, Operator.GE, Operator.BETWEEN})
_LISTS = frozenset({Operator.IN, Operator.NOT_IN})


@dataclass(frozen=True, slots=True)
class Operand:
    """What a condition compares: an expression and the type of its values.

    Null tests are written as function calls where they are ``hidden``: PostgreSQL (18.4 at least) does not read the
    default partition for rows whose partition key is in one of several ranges and is not null.
    """

    node: exp.Expr
    type: DataType
    hidden: bool = False


def as_is(value: Scalar) -> Scalar:
    """A value for a typed expression."""
    return checked_text(value, "filter") if isinstance(value, str) else value


def as_wire(value: Scalar) -> Scalar:
    """A value for an expression in wire form, where instants and dates are integers."""
    match value:
        case datetime():
            return (value - EPOCH) // timedelta(microseconds=1)
        case date():
            return (value - EPOCH_DAY).days
        case str():
            return checked_text(value, "having")
        case _:
            return value


def shape_of(node: Filter | None, values: list[Value], form: Add) -> Shape:
    """The filter without its values, which are appended in the order of :func:`predicate`'s places."""
    match node:
        case None:
            return ()
        case Condition(member, operator, given):
            if operator in _LISTS:
                values.append(tuple(map(form, given)))
            else:
                values.extend(map(form, given))
            return (member, operator)
        case Not(child):
            return ("not", shape_of(child, values, form))
        case AllOf(children):
            return ("all", *(shape_of(child, values, form) for child in children))
        case AnyOf(children):
            return ("any", *(shape_of(child, values, form) for child in children))


def predicate(node: Filter, places: Places, operand: Callable[[str], Operand]) -> exp.Expr:
    """The filter as an SQL predicate with SQL's own three-valued logic."""
    match node:
        case Condition(member, operator, _):
            return exp.Paren(this=_condition(operand(member), operator, places))
        case Not(child):
            return exp.Not(this=predicate(child, places, operand))
        case AllOf(children):
            return _connected(exp.And, [predicate(c, places, operand) for c in children], empty=True)
        case AnyOf(children):
            return _connected(exp.Or, [predicate(c, places, operand) for c in children], empty=False)


def _connected(kind: type[exp.Connector], parts: list[exp.Expr], *, empty: bool) -> exp.Expr:
    if not parts:
        return exp.Boolean(this=empty)
    tree = parts[0]
    for part in parts[1:]:
        tree = kind(this=tree, expression=part)
    return exp.Paren(this=tree)


def _condition(operand: Operand, operator: Operator, places: Places) -> exp.Expr:
    node, kind = atom(operand.node), operand.type
    if operator in _ORDER and kind is DataType.STRING:
        node = by_code_point(node)
    if comparison := _COMPARISONS.get(operator):
        return comparison(this=node, expression=places.add(kind))
    match operator:
        case Operator.IS_NULL | Operator.IS_NOT_NULL if operand.hidden:
            nulls = exp.Literal.number(int(operator is Operator.IS_NULL))
            return exp.EQ(this=exp.Anonymous(this="NUM_NULLS", expressions=[node]), expression=nulls)
        case Operator.IN:
            return exp.EQ(this=node, expression=exp.Any(this=_array(kind, places)))
        case Operator.NOT_IN:
            return exp.NEQ(this=node, expression=exp.All(this=_array(kind, places)))
        case Operator.BETWEEN:
            low = exp.GTE(this=node, expression=places.add(kind))
            return exp.And(this=low, expression=exp.LT(this=node.copy(), expression=places.add(kind)))
        case Operator.IS_NULL:
            return exp.Is(this=node, expression=exp.Null())
        case Operator.IS_NOT_NULL:
            return exp.Not(this=exp.Is(this=node, expression=exp.Null()))
        case _:
            return _text(node, operator, places.add(kind))


def _array(kind: DataType, places: Places) -> exp.Expr:
    return exp.Paren(this=places.add(kind, array=True))


def _text(node: exp.Expr, operator: Operator, value: exp.Expr) -> exp.Expr:
    """Literal search: functions, because patterns would give meaning to ``%``, ``_`` and the backslash."""
    match operator:
        case Operator.CONTAINS:
            position = exp.Anonymous(this="STRPOS", expressions=[node, value])
            return exp.GT(this=position, expression=exp.Literal.number(0))
        case Operator.STARTS_WITH:
            return exp.Anonymous(this="STARTS_WITH", expressions=[node, value])
        case Operator.ENDS_WITH:
            length = exp.Anonymous(this="LENGTH", expressions=[value.copy()])
            end = exp.Anonymous(this="RIGHT", expressions=[node, length])
            return exp.EQ(this=end, expression=value)
        case _:
            raise AssertionError(f"{operator} compares no text")
