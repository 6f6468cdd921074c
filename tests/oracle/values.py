"""Values to compare members with: mostly ones that occur, some that lie between or beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal

import polars as pl
from google.type.date_pb2 import Date

from querybroker.v1 import query_pb2 as q
from tests.oracle.choosing import Chooser
from tests.oracle.model import OracleModel

ABSENT: Mapping[str, Sequence[object]] = {
    "INT64": (0, -1, 7, 10**12),
    "DECIMAL": (Decimal(0), Decimal("-0.5"), Decimal("33.90"), Decimal("1e5")),
    "DOUBLE": (0.0, -1.5, 33.125, 1e9),
    "STRING": ("", "zz", "a%", "_", "o'Hare", "\\", "É", "NULL"),
}
TEXT_OPERATORS = ("CONTAINS", "STARTS_WITH", "ENDS_WITH")
ORDER_OPERATORS = ("LT", "LE", "GT", "GE", "BETWEEN")
NULL_OPERATORS = ("IS_NULL", "IS_NOT_NULL")
_SAMPLE = 400


def samples(model: OracleModel) -> Mapping[str, list[object]]:
    """Up to 400 values of every dimension and measure input, evenly spaced in their order, by column name."""
    found: dict[str, list[object]] = {}
    for name in [*model.dimensions, *(leaf.input for leaf in model.leaves(model.measures))]:
        values = model.frame[name].drop_nulls().unique().sort()
        if values.dtype == pl.Float64:
            values = values.filter(values.is_finite())  # others cannot be asked for
        step = max(1, len(values) // _SAMPLE)
        found[name] = values.gather_every(step).to_list()
    return found


def cardinalities(model: OracleModel) -> Mapping[str, int]:
    """How many groups each dimension makes."""
    return {name: model.frame.select(pl.col(name).n_unique()).item() for name in model.dimensions}


def value(of: object) -> q.Value:
    """A value of the contract."""
    match of:
        case bool():
            return q.Value(bool_value=of)
        case int():
            return q.Value(int64_value=of)
        case float():
            return q.Value(double_value=of)
        case str():
            return q.Value(string_value=of)
        case Decimal():
            return q.Value(decimal_value=format(of, "f"))
        case datetime():
            found = q.Value()
            found.timestamp_value.FromDatetime(of)
            return found
        case date():
            return q.Value(date_value=Date(year=of.year, month=of.month, day=of.day))
        case _:
            raise TypeError(f"no value for {type(of).__name__}")


def filter_tree(chooser: Chooser, condition: Callable[[], q.Condition], depth: int) -> q.Filter:
    """A tree of conditions; groups may be empty."""
    kind = chooser.integer(0, 9) if depth > 0 else 0
    if kind < 5:
        return q.Filter(condition=condition())
    if kind < 7:
        return q.Filter(not_filter=filter_tree(chooser, condition, depth - 1))
    size = 0 if chooser.chance(4) else chooser.integer(1, 3)
    group = q.FilterGroup(filters=[filter_tree(chooser, condition, depth - 1) for _ in range(size)])
    return q.Filter(all_of=group) if chooser.chance(50) else q.Filter(any_of=group)


def condition(chooser: Chooser, member: str, type_: str, known: Sequence[object]) -> q.Condition:
    """A condition on a member of a type, with values mostly out of ``known``."""
    names = ["EQ", "NE", "IN", "NOT_IN", *NULL_OPERATORS]
    if type_ != "BOOL":
        names += ORDER_OPERATORS
    if type_ == "STRING":
        names += TEXT_OPERATORS
    name = chooser.choice(names)

    def one() -> object:
        others = ABSENT.get(type_, ())
        if known and not (others and chooser.chance(12)):
            return chooser.choice(known)
        return chooser.choice(others or (True, False))

    if name in NULL_OPERATORS:
        chosen: list[object] = []
    elif name in {"IN", "NOT_IN"}:
        chosen = list(dict.fromkeys(one() for _ in range(chooser.integer(1, 5))))
    elif name == "BETWEEN":
        chosen = sorted((one(), one()))  # type: ignore[type-var] # of one type
    elif name in TEXT_OPERATORS:
        chosen = [_piece(chooser, str(one()))]
    else:
        chosen = [one()]
    operator = q.FilterOperator.Value(f"FILTER_OPERATOR_{name}")
    return q.Condition(
        member=member, operator=operator, values=[value(_widened(chooser, v, type_)) for v in chosen]
    )


def _piece(chooser: Chooser, text: str) -> str:
    """A part of the text, so that it is found in it, at its beginning or at its end more often than by chance."""
    if not text:
        return text
    start = chooser.integer(0, len(text) - 1) if chooser.chance(60) else 0
    return text[start:] if chooser.chance(50) else text[start : start + chooser.integer(1, 3)]


def _widened(chooser: Chooser, of: object, type_: str) -> object:
    """Now and then the same value in another type that the member accepts."""
    if (
        type_ == "DOUBLE"
        and isinstance(of, float)
        and abs(of) < 2**53
        and of.is_integer()
        and chooser.chance(30)
    ):
        return int(of)
    if type_ in {"INT64", "DECIMAL"} and isinstance(of, int) and chooser.chance(10):
        return Decimal(of)
    return of
