"""Conditions on finished values in three-valued logic, as Polars expressions.

Polars compares as PostgreSQL does: unknown with null, NaN equal to itself and above all numbers, text by code point.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import ROUND_FLOOR, Context, Decimal
from functools import reduce
from operator import and_, or_

import polars as pl

from broker.aggregation.frames import DECIMAL_DIGITS
from broker.aggregation.measures import value_name
from broker.aggregation.physical import physical
from broker.domain.query import AllOf, AnyOf, Condition, Filter, Not, Operator
from broker.domain.values import Column, DataType, Scalar


def predicate(node: Filter, columns: Mapping[str, Column]) -> pl.Expr:
    """The condition over the columns ``={name}``: true, false, or null for unknown."""
    match node:
        case Condition():
            return _condition(node, columns[node.member])
        case Not(child):
            return ~predicate(child, columns)
        case AllOf(children):
            return reduce(and_, (predicate(child, columns) for child in children), pl.lit(value=True))
        case AnyOf(children):
            return reduce(or_, (predicate(child, columns) for child in children), pl.lit(value=False))


def _condition(node: Condition, column: Column) -> pl.Expr:
    member = pl.col(value_name(node.member))
    compare = _decimal(member, column.scale) if column.type is DataType.DECIMAL else _plain(member)
    values = [physical(value) for value in node.values]
    match node.operator:
        case Operator.IS_NULL:
            return member.is_null()
        case Operator.IS_NOT_NULL:
            return member.is_not_null()
        case Operator.IN | Operator.NOT_IN:
            found = reduce(or_, (compare(Operator.EQ, v) for v in values), _known(member, value=False))
            return ~found if node.operator is Operator.NOT_IN else found
        case Operator.BETWEEN:
            low, high = values
            return compare(Operator.GE, low) & compare(Operator.LT, high)
        case Operator.CONTAINS:
            return member.str.contains(str(values[0]), literal=True)
        case Operator.STARTS_WITH:
            return member.str.starts_with(str(values[0]))
        case Operator.ENDS_WITH:
            return member.str.ends_with(str(values[0]))
        case Operator.NE:
            return ~compare(Operator.EQ, values[0])
        case _:
            return compare(node.operator, values[0])


Compare = Callable[[Operator, Scalar], pl.Expr]


def _plain(member: pl.Expr) -> Compare:
    def compare(operator: Operator, value: Scalar) -> pl.Expr:
        match operator:
            case Operator.EQ:
                return member == value
            case Operator.LT:
                return member < value
            case Operator.LE:
                return member <= value
            case Operator.GT:
                return member > value
            case _:
                return member >= value

    return compare


def _decimal(member: pl.Expr, scale: int) -> Compare:
    """Compares with the nearest decimal below that the column could hold, so that any value may be given."""
    plain = _plain(member)

    def compare(operator: Operator, value: Scalar) -> pl.Expr:
        assert isinstance(value, Decimal)
        floor = value.quantize(Decimal((0, (1,), -scale)), ROUND_FLOOR, Context(prec=10_000))
        if len(floor.as_tuple().digits) > DECIMAL_DIGITS:
            above = value > 0
            return _known(member, value=operator is not Operator.EQ and above == (operator in _UNDER))
        if floor == value:
            return plain(operator, floor)
        if operator is Operator.EQ:
            return _known(member, value=False)
        return plain(Operator.LE if operator in _UNDER else Operator.GT, floor)

    return compare


_UNDER = (Operator.LT, Operator.LE)


def _known(member: pl.Expr, *, value: bool) -> pl.Expr:
    """A constant, unknown where the member is null."""
    return pl.when(member.is_not_null()).then(pl.lit(value))
