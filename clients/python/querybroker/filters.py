"""Filters from mappings and tuples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import cast

from querybroker.v1 import query_pb2
from querybroker.values import value

Condition = tuple[str, str] | tuple[str, str, object]
Where = query_pb2.Filter | Mapping[str, object] | Condition | Sequence["Where"]
"""One of: a message; a mapping, whose every member equals its value, is one of a list, or is null for None; a condition
such as ``("delay", ">", 15)`` or ``("gate", "is null")``; a list of these, which must all hold."""

_OPERATORS = {
    "=": query_pb2.FILTER_OPERATOR_EQ,
    "==": query_pb2.FILTER_OPERATOR_EQ,
    "!=": query_pb2.FILTER_OPERATOR_NE,
    "<": query_pb2.FILTER_OPERATOR_LT,
    "<=": query_pb2.FILTER_OPERATOR_LE,
    ">": query_pb2.FILTER_OPERATOR_GT,
    ">=": query_pb2.FILTER_OPERATOR_GE,
    "in": query_pb2.FILTER_OPERATOR_IN,
    "not in": query_pb2.FILTER_OPERATOR_NOT_IN,
    "between": query_pb2.FILTER_OPERATOR_BETWEEN,
    "contains": query_pb2.FILTER_OPERATOR_CONTAINS,
    "starts with": query_pb2.FILTER_OPERATOR_STARTS_WITH,
    "ends with": query_pb2.FILTER_OPERATOR_ENDS_WITH,
    "is null": query_pb2.FILTER_OPERATOR_IS_NULL,
    "is not null": query_pb2.FILTER_OPERATOR_IS_NOT_NULL,
}
_MANY = (list, tuple, set, frozenset)


def to_filter(where: Where) -> query_pb2.Filter:
    """The message of a filter.

    Raises:
        ValueError: An operator that does not exist.
        TypeError: Something that is no filter, or a value of a type that has no counterpart.
    """
    if isinstance(where, query_pb2.Filter):
        return where
    if isinstance(where, Mapping):
        return _all([_equality(member, given) for member, given in where.items()])
    if isinstance(where, tuple) and where and isinstance(where[0], str):
        return _condition(where)
    if isinstance(where, str) or not isinstance(where, Sequence):
        raise TypeError(
            f"{where!r} is no filter; use a mapping, ('member', 'operator', value), or a list of these"
        )
    return _all([to_filter(each) for each in cast("Sequence[Where]", where)])


def all_of(*filters: Where) -> query_pb2.Filter:
    """True when every filter is true."""
    return query_pb2.Filter(all_of=query_pb2.FilterGroup(filters=[to_filter(f) for f in filters]))


def any_of(*filters: Where) -> query_pb2.Filter:
    """True when one of the filters is true."""
    return query_pb2.Filter(any_of=query_pb2.FilterGroup(filters=[to_filter(f) for f in filters]))


def not_(inner: Where) -> query_pb2.Filter:
    """True when the filter is false."""
    return query_pb2.Filter(not_filter=to_filter(inner))


def _all(filters: list[query_pb2.Filter]) -> query_pb2.Filter:
    if len(filters) == 1:
        return filters[0]
    return query_pb2.Filter(all_of=query_pb2.FilterGroup(filters=filters))


def _equality(member: str, given: object) -> query_pb2.Filter:
    if given is None:
        return _condition((member, "is null"))
    return _condition((member, "in" if isinstance(given, _MANY) else "=", given))


def _condition(condition: Sequence[object]) -> query_pb2.Filter:
    member, operator, *given = condition
    known = _OPERATORS.get(str(operator).lower())
    if known is None or len(given) > 1:
        raise ValueError(f"{tuple(condition)!r} is no condition; the operators are {', '.join(_OPERATORS)}")
    several = given[0] if given and isinstance(given[0], Sequence | AbstractSet) else None
    listed = given if several is None or isinstance(several, str | bytes) else list(several)
    return query_pb2.Filter(
        condition=query_pb2.Condition(
            member=str(member), operator=known, values=[value(each) for each in listed]
        )
    )
