"""Filters with SQL's three-valued logic: over columns by Polars, over finished values in Python."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date
from decimal import Decimal
from functools import reduce
from operator import and_, ge, gt, le, lt, or_
from typing import Any

import polars as pl

from querybroker.v1 import query_pb2 as q
from tests.oracle.cells import AmbiguousError, Cell, plain, rank, slack_of
from tests.oracle.timing import instant_of
from tests.oracle.zones import moment

Truth = bool | None
_COMPARE: Mapping[str, Callable[[Any, Any], Any]] = {"LT": lt, "LE": le, "GT": gt, "GE": ge}
"""Over values of one type, or over expressions."""


def operator_name(condition: q.Condition) -> str:
    """Name of the operator without its prefix."""
    return q.FilterOperator.Name(condition.operator).removeprefix("FILTER_OPERATOR_")


def scalar(value: q.Value) -> object:
    """A value of the contract as Python's."""
    kind = value.WhichOneof("kind")
    match kind:
        case "decimal_value":
            return Decimal(value.decimal_value)
        case "timestamp_value":
            return moment(instant_of(value.timestamp_value))
        case "date_value":
            return date(value.date_value.year, value.date_value.month, value.date_value.day)
        case None:
            raise ValueError("a value without a kind")
        case _:
            return getattr(value, kind)


def expression(node: q.Filter, types: Mapping[str, pl.DataType]) -> pl.Expr:
    """The filter over columns of these names; null is unknown, as Polars' own AND, OR and NOT have it."""
    match node.WhichOneof("node"):
        case "all_of":
            return reduce(and_, (expression(f, types) for f in node.all_of.filters), pl.lit(True))
        case "any_of":
            return reduce(or_, (expression(f, types) for f in node.any_of.filters), pl.lit(False))
        case "not_filter":
            return ~expression(node.not_filter, types)
        case "condition":
            return _condition(node.condition, types[node.condition.member])
        case _:
            raise ValueError("a filter without a node")


def _condition(condition: q.Condition, type_: pl.DataType) -> pl.Expr:
    column = pl.col(condition.member)
    values = [pl.lit(scalar(v), dtype=type_) for v in condition.values]
    match operator_name(condition), values:
        case "IS_NULL", _:
            return column.is_null()
        case "IS_NOT_NULL", _:
            return column.is_not_null()
        case "EQ", [value]:
            return column == value
        case "NE", [value]:
            return column != value
        case ("LT" | "LE" | "GT" | "GE") as name, [value]:
            compared: pl.Expr = _COMPARE[name](column, value)
            return compared
        case "IN", _:
            return reduce(or_, (column == value for value in values))
        case "NOT_IN", _:
            return reduce(and_, (column != value for value in values))
        case "BETWEEN", [low, high]:
            return (column >= low) & (column < high)
        case "CONTAINS", [value]:
            return column.str.contains(value, literal=True)
        case "STARTS_WITH", [value]:
            return column.str.starts_with(value)
        case "ENDS_WITH", [value]:
            return column.str.ends_with(value)
        case _:
            raise ValueError(f"not a condition: {condition}")


def holds(node: q.Filter, cells: Mapping[str, Cell]) -> Truth:
    """The filter over one row of finished values; None is unknown."""
    match node.WhichOneof("node"):
        case "all_of":
            return _all([holds(f, cells) for f in node.all_of.filters])
        case "any_of":
            return _not(_all([_not(holds(f, cells)) for f in node.any_of.filters]))
        case "not_filter":
            return _not(holds(node.not_filter, cells))
        case _:
            return _test(node.condition, cells[node.condition.member])


def _all(truths: list[Truth]) -> Truth:
    if False in truths:
        return False
    return None if None in truths else True


def _not(truth: Truth) -> Truth:
    return None if truth is None else not truth


def _test(condition: q.Condition, cell: Cell) -> Truth:
    name, values = operator_name(condition), [scalar(v) for v in condition.values]
    if name in {"IS_NULL", "IS_NOT_NULL"}:
        return (cell is None) == (name == "IS_NULL")
    if cell is None:
        return None
    value = plain(cell)
    if slack_of(cell) > 0 and any(abs(value - v) <= 2 * slack_of(cell) for v in values):  # type: ignore[operator] # numbers
        raise AmbiguousError(f"{value} is nearly one of {values}")
    least, *rest = (rank(v) for v in values)
    match name:
        case "EQ" | "IN":
            return value in values
        case "NE" | "NOT_IN":
            return value not in values
        case "BETWEEN":
            return bool(_COMPARE["GE"](rank(value), least) and _COMPARE["LT"](rank(value), rest[0]))
        case "CONTAINS":
            return str(values[0]) in str(value)
        case "STARTS_WITH":
            return str(value).startswith(str(values[0]))
        case "ENDS_WITH":
            return str(value).endswith(str(values[0]))
        case _:
            return bool(_COMPARE[name](rank(value), least))
