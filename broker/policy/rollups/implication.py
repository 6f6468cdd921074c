"""Whether one filter follows from another: sound, not complete.

The proof goes by cases. What is known of a member when the given conditions are true is a set of values, or a range
with exceptions; a goal on that member follows when all of these satisfy it. Alternatives that are given are tried one
by one, up to ``MAX_CASES`` of them. Everything speaks of *true*: a condition that is unknown keeps a row out, so
comparisons also say that the member is not null.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from broker.domain.query import AllOf, AnyOf, Condition, Filter, Not, Operator
from broker.domain.values import Scalar

MAX_CASES = 64

_COMPARE: dict[Operator, Callable[[Any, Any], bool]] = {
    Operator.EQ: operator.eq,
    Operator.NE: operator.ne,
    Operator.LT: operator.lt,
    Operator.LE: operator.le,
    Operator.GT: operator.gt,
    Operator.GE: operator.ge,
    Operator.CONTAINS: lambda text, part: part in text,
    Operator.STARTS_WITH: lambda text, part: text.startswith(part),
    Operator.ENDS_WITH: lambda text, part: text.endswith(part),
}


def implies(given: Sequence[Filter], goals: Iterable[Filter]) -> bool:
    """Whether every goal is true wherever all that is given is true; both are conjuncts in normal form."""
    budget = [MAX_CASES]
    return all(_follows(tuple(given), goal, budget) for goal in goals)


def _follows(given: tuple[Filter, ...], goal: Filter, budget: list[int]) -> bool:
    if goal in given:
        return True
    match goal:
        case AllOf(children):
            return all(_follows(given, child, budget) for child in children)
        case AnyOf(children):
            if any(_follows(given, child, budget) for child in children):
                return True
        case Condition():
            known = Known.of(given, goal.member)
            if known is not None and known.satisfies(goal):
                return True
        case Not():
            pass
    return _by_cases(given, goal, budget)


def _by_cases(given: tuple[Filter, ...], goal: Filter, budget: list[int]) -> bool:
    """Tries each alternative of the first disjunction that is given; one without alternatives is never true."""
    for i, part in enumerate(given):
        if isinstance(part, AnyOf):
            budget[0] -= len(part.filters)
            if budget[0] < 0:
                return False
            rest = given[:i] + given[i + 1 :]
            return all(_follows(rest + _parts(each), goal, budget) for each in part.filters)
    return False


def _parts(node: Filter) -> tuple[Filter, ...]:
    return node.filters if isinstance(node, AllOf) else (node,)


@dataclass(slots=True)
class Known:
    """What is known of one member: ``values`` that are all there can be, or a range without ``others``."""

    values: tuple[Scalar, ...] | None = None
    low: tuple[Scalar, bool] | None = None
    high: tuple[Scalar, bool] | None = None
    others: list[Scalar] = field(default_factory=list)
    texts: list[Condition] = field(default_factory=list)
    null: bool = False

    @classmethod
    def of(cls, given: Iterable[Filter], member: str) -> Known | None:
        """What the conditions on a member say together; None when none speaks of it."""
        own = [part for part in given if isinstance(part, Condition) and part.member == member]
        negated = any(
            isinstance(p, Not) and isinstance(p.filter, Condition) and p.filter.member == member
            for p in given
        )
        if not own and not negated:
            return None
        known = cls()
        for condition in own:
            known.add(condition)
        if known.values is not None:
            known.values = tuple(v for v in known.values if all(holds(c, v) is not False for c in own))
        return known

    def add(self, condition: Condition) -> None:
        """Adds what one condition says."""
        match condition.operator:
            case Operator.EQ | Operator.IN:
                if self.values is None or len(condition.values) < len(self.values):
                    self.values = condition.values
            case Operator.NE | Operator.NOT_IN:
                self.others += condition.values
            case Operator.GT | Operator.GE:
                self.low = _tighter(self.low, condition, operator.gt)
            case Operator.LT | Operator.LE:
                self.high = _tighter(self.high, condition, operator.lt)
            case Operator.IS_NULL:
                self.null = True
            case Operator.IS_NOT_NULL:
                pass
            case _:
                self.texts.append(condition)

    def satisfies(self, goal: Condition) -> bool:
        """Whether all values that there can be satisfy the goal."""
        if goal.operator is Operator.IS_NULL:
            return self.null
        if self.null:  # a contradiction at best; nothing is concluded from it
            return False
        if goal.operator is Operator.IS_NOT_NULL:
            return True
        if self.values is not None:
            return all(holds(goal, value) is True for value in self.values)
        if goal.operator in (Operator.NE, Operator.NOT_IN):
            return all(self._excludes(value) for value in goal.values)
        if goal.operator in (Operator.GT, Operator.GE):
            return self.low is not None and _within(self.low, goal, operator.gt)
        if goal.operator in (Operator.LT, Operator.LE):
            return self.high is not None and _within(self.high, goal, operator.lt)
        return any(_text_follows(each, goal) for each in self.texts)

    def _excludes(self, value: Scalar) -> bool:
        if any(_compare(operator.eq, value, other) is True for other in self.others):
            return True
        outside = Condition("", Operator.NE, (value,))
        if self.low is not None and _within(
            self.low, Condition("", Operator.GT, outside.values), operator.gt
        ):
            return True
        return self.high is not None and _within(
            self.high, Condition("", Operator.LT, outside.values), operator.lt
        )


def holds(condition: Condition, value: Scalar) -> bool | None:
    """Whether a value that is not null satisfies a condition in normal form; None when that cannot be said."""
    match condition.operator:
        case Operator.IS_NULL:
            return False
        case Operator.IS_NOT_NULL:
            return True
        case Operator.IN | Operator.NOT_IN:
            found = [_compare(operator.eq, value, other) for other in condition.values]
            inside = True if True in found else None if None in found else False
            return inside if condition.operator is Operator.IN or inside is None else not inside
        case _:
            return _compare(_COMPARE[condition.operator], value, condition.values[0])


def _compare(how: Callable[[Any, Any], bool], left: Scalar, right: Scalar) -> bool | None:
    """A comparison as PostgreSQL makes it; None for values of different types, and for not-a-number."""
    kind = _kind(left)
    return how(left, right) if kind is not None and kind is _kind(right) else None


def _kind(value: Scalar) -> type | None:
    """What a value compares with; None for not-a-number, which to PostgreSQL equals itself."""
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        return float if value == value else None  # noqa: PLR0124 - only not-a-number differs from itself
    return type(value)


def _tighter(
    known: tuple[Scalar, bool] | None, condition: Condition, closer: Callable[[Any, Any], bool]
) -> tuple[Scalar, bool] | None:
    """The tighter of two bounds (value, whether it belongs to the range)."""
    value, inside = condition.values[0], condition.operator in (Operator.GE, Operator.LE)
    if _compare(operator.eq, value, value) is None:
        return known
    if known is None or _compare(closer, value, known[0]) is True:
        return value, inside
    if _compare(operator.eq, value, known[0]) is True:
        return value, inside and known[1]
    return known


def _within(bound: tuple[Scalar, bool], goal: Condition, closer: Callable[[Any, Any], bool]) -> bool:
    """Whether everything beyond the bound satisfies the goal, which bounds the same side."""
    value, inside = bound
    if _compare(closer, value, goal.values[0]) is True:
        return True
    strict = goal.operator in (Operator.GT, Operator.LT)
    return _compare(operator.eq, value, goal.values[0]) is True and not (inside and strict)


def _text_follows(known: Condition, goal: Condition) -> bool:
    """Whether one text search says another: a prefix its shorter ones, all of them what they contain."""
    text, wanted = known.values[0], goal.values[0]
    if not isinstance(text, str) or not isinstance(wanted, str):
        return False
    if goal.operator is Operator.CONTAINS:
        return wanted in text
    return goal.operator is known.operator and _COMPARE[goal.operator](text, wanted)
