"""Checks filters against the types of their members and brings values to those types."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from difflib import get_close_matches

from broker.domain.errors import Violation
from broker.domain.query import AllOf, AnyOf, Condition, Filter, Not, Operator
from broker.domain.values import DataType, Scalar

_NULL = frozenset({Operator.IS_NULL, Operator.IS_NOT_NULL})
_TEXT = frozenset({Operator.CONTAINS, Operator.STARTS_WITH, Operator.ENDS_WITH})
_ORDER = frozenset({Operator.LT, Operator.LE, Operator.GT, Operator.GE, Operator.BETWEEN})


def nearest(name: str, names: list[str]) -> str:
    """A hint such as ``; did you mean 'carrier'?``, or the list of names when there are few, or nothing."""
    close = get_close_matches(name, names, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    if 0 < len(names) <= 12:
        return "; known are " + ", ".join(sorted(names))
    return ""


@dataclass(frozen=True, slots=True)
class Member:
    """What a condition may name: its type and decimal digits."""

    type: DataType
    scale: int = 0


Lookup = Callable[[str], Member | str]
"""Finds a member; a string says why it cannot be used."""


def check(node: Filter | None, path: str, lookup: Lookup) -> tuple[Filter | None, list[Violation]]:
    """The filter with values in the members' types, and every violation with its path."""
    match node:
        case None:
            return None, []
        case Condition():
            return _condition(node, f"{path}.condition", lookup)
        case Not(child):
            checked, found = check(child, f"{path}.not_filter", lookup)
            return (Not(checked) if checked is not None else None), found
        case AllOf(children) | AnyOf(children):
            name = "all_of" if isinstance(node, AllOf) else "any_of"
            kept: list[Filter] = []
            violations: list[Violation] = []
            for i, child in enumerate(children):
                checked, found = check(child, f"{path}.{name}.filters[{i}]", lookup)
                violations += found
                if checked is not None:
                    kept.append(checked)
            return type(node)(tuple(kept)), violations


def _condition(node: Condition, path: str, lookup: Lookup) -> tuple[Filter, list[Violation]]:
    member = lookup(node.member)
    if isinstance(member, str):
        return node, [Violation(f"{path}.member", member, "UNKNOWN_MEMBER")]
    if node.operator in _TEXT and member.type is not DataType.STRING:
        text = f"{node.operator} needs a string; {node.member!r} is of type {member.type}"
        return node, [Violation(f"{path}.operator", text, "OPERATOR_TYPE")]
    if node.operator in _ORDER and member.type is DataType.BOOL:
        text = f"{node.operator} does not order booleans; use EQ or NE"
        return node, [Violation(f"{path}.operator", text, "OPERATOR_TYPE")]
    if node.operator in _NULL:
        return node, []
    values: list[Scalar] = []
    violations: list[Violation] = []
    for i, value in enumerate(node.values):
        coerced = coerce(value, member)
        if coerced is None:
            text = f"{node.member!r} is of type {member.type} and cannot be compared with {_describe(value)}"
            violations.append(Violation(f"{path}.values[{i}]", text, "VALUE_TYPE"))
        else:
            values.append(coerced)
    if node.operator is Operator.BETWEEN and len(values) == 2 and _reversed(values[0], values[1]):
        text = "the first value must not be greater than the second"
        violations.append(Violation(f"{path}.values", text, "EMPTY_RANGE"))
    return Condition(node.member, node.operator, tuple(values)), violations


def _reversed(low: Scalar, high: Scalar) -> bool:
    return low > high  # type: ignore[operator] # both have been brought to one type


def coerce(value: Scalar, member: Member) -> Scalar | None:
    """The value in the member's type, or None when that would change its meaning."""
    match member.type, value:
        case DataType.BOOL, bool():
            return value
        case ((DataType.INT64 | DataType.DOUBLE | DataType.DECIMAL), bool()):
            return None
        case DataType.INT64, int():
            return value
        case DataType.INT64, Decimal() if value == value.to_integral_value() and abs(value) < 2**63:
            return int(value)
        case DataType.DOUBLE, int() | float() | Decimal():
            return float(value)
        case DataType.DECIMAL, int() | Decimal():
            return Decimal(value)
        case DataType.STRING, str():
            return value
        case DataType.TIMESTAMP, datetime():
            return value
        case DataType.DATE, date() if not isinstance(value, datetime):
            return value
    return None


def _describe(value: Scalar) -> str:
    names = {bool: "a boolean", int: "an integer", float: "a double", Decimal: "a decimal", str: "a string"}
    return names.get(type(value), "a timestamp" if isinstance(value, datetime) else "a date")
