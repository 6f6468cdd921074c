"""Filters in a form in which equal meanings mostly look equal: conjuncts, with negation pushed into the conditions.

SQL's three-valued logic is kept: every step yields the same truth value, unknown included, for every row. Conditions
compare one member, ranges are half-open, and the list of an empty IN is false, that of an empty NOT_IN true, also for
null, as ``= ANY`` and ``<> ALL`` of an empty array are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from broker.domain.query import AllOf, AnyOf, Condition, Filter, Not, Operator
from broker.domain.values import Scalar

_NEGATED = {
    Operator.EQ: Operator.NE,
    Operator.NE: Operator.EQ,
    Operator.LT: Operator.GE,
    Operator.GE: Operator.LT,
    Operator.LE: Operator.GT,
    Operator.GT: Operator.LE,
    Operator.IN: Operator.NOT_IN,
    Operator.NOT_IN: Operator.IN,
    Operator.IS_NULL: Operator.IS_NOT_NULL,
    Operator.IS_NOT_NULL: Operator.IS_NULL,
}
_LISTS = {Operator.EQ: Operator.IN, Operator.IN: Operator.IN, Operator.NE: Operator.NOT_IN}
FALSE = AnyOf(())


def conjuncts(node: Filter | None) -> tuple[Filter, ...]:
    """What must all be true, each once: conditions, alternatives, and negated text searches."""
    if node is None:
        return ()
    if isinstance(node, Condition) and node.operator is Operator.EQ:
        return (node,)
    parts = node.filters if isinstance(node, AllOf) else (node,)
    return tuple(dict.fromkeys(f for part in parts for f in _flat(normal(part))))


def members(node: Filter) -> frozenset[str]:
    """The dimensions that a filter names."""
    if isinstance(node, Condition):
        return frozenset((node.member,))
    return members_of((node.filter,) if isinstance(node, Not) else node.filters)


def members_of(nodes: Iterable[Filter]) -> frozenset[str]:
    """The dimensions that any of the filters names."""
    return frozenset().union(*map(members, nodes))


def joined(parts: Iterable[Filter]) -> Filter | None:
    """The conjunction of the parts; None when there are none."""
    found = tuple(parts)
    return AllOf(found) if len(found) > 1 else found[0] if found else None


def normal(node: Filter, *, negated: bool = False) -> Filter:
    """The filter, or its negation, with negation only before text searches, and lists without order."""
    match node:
        case Not(child):
            return normal(child, negated=not negated)
        case Condition():
            return _condition(node, negated=negated)
        case AllOf(children) | AnyOf(children):
            parts = [normal(child, negated=negated) for child in children]
            return _all(parts) if isinstance(node, AllOf) is not negated else _any(parts)


def _condition(node: Condition, *, negated: bool) -> Filter:
    operator = node.operator
    if operator is Operator.BETWEEN:
        low, high = node.values
        return normal(
            AllOf((
                Condition(node.member, Operator.GE, (low,)),
                Condition(node.member, Operator.LT, (high,)),
            )),
            negated=negated,
        )  # fmt: skip
    if negated:
        if operator not in _NEGATED:
            return Not(node)
        operator = _NEGATED[operator]
    if operator in (Operator.IN, Operator.NOT_IN):
        return _listed(node.member, operator, node.values)
    return Condition(node.member, operator, node.values)


def _listed(member: str, operator: Operator, values: Iterable[Scalar]) -> Filter:
    found = _sorted(dict.fromkeys(values))
    if not found:
        return FALSE if operator is Operator.IN else AllOf(())
    if len(found) == 1:
        return Condition(member, Operator.EQ if operator is Operator.IN else Operator.NE, found)
    return Condition(member, operator, found)


def _sorted(values: Iterable[Scalar]) -> tuple[Scalar, ...]:
    try:
        return tuple(sorted(values))
    except TypeError:
        return tuple(sorted(values, key=lambda value: (type(value).__name__, str(value))))


def _all(parts: list[Filter]) -> Filter:
    found = tuple(sorted(dict.fromkeys(f for part in parts for f in _flat(part)), key=repr))
    return found[0] if len(found) == 1 else AllOf(found)


def _any(parts: list[Filter]) -> Filter:
    """The alternatives, with equalities of one member as one list."""
    lists: dict[str, list[Scalar]] = {}
    others: dict[Filter, None] = {}
    for part in (f for each in parts for f in (each.filters if isinstance(each, AnyOf) else (each,))):
        if isinstance(part, Condition) and _LISTS.get(part.operator) is Operator.IN:
            lists.setdefault(part.member, []).extend(part.values)
        else:
            others[part] = None
    merged = (_listed(member, Operator.IN, values) for member, values in lists.items())
    found = tuple(sorted((*others, *merged), key=repr))
    return found[0] if len(found) == 1 else AnyOf(found)


def _flat(node: Filter) -> Iterator[Filter]:
    if isinstance(node, AllOf):
        for child in node.filters:
            yield from _flat(child)
    else:
        yield node
