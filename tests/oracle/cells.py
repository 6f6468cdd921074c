"""Expected values that are not simply equal to what is answered, and when an answered value is right.

Everything is compared exactly except these:

- Doubles that depend on the order of additions (sums, averages of doubles) may differ by 1e-9 of their size, plus 1e-9.
- Variances and standard deviations by 1e-8 of their size plus 1e-9 and 1e-7: their states merge in any order. What is
  computed from such values (changes, shares, ratios) inherits the error of its operands.
- Sketches: see :func:`distinct_limits` and :func:`quantile_limits`.

Doubles made from integers by one division (averages of integers, their ratios and shares) are rounded once, wherever
that happens, so they decide the order of rows like exact values do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

RELATIVE = 1e-9
ABSOLUTE = 1e-9
HLL_SIGMA = 0.0159
"""One standard deviation of a HyperLogLog estimate at lgK 12, half of the documented bound at two."""
KLL_RANK_ERROR = 0.0133
"""Documented single-sided rank error of KLL at K 200, 99 %."""
EXACT_SKETCH_SIZE = 200
"""Up to so many values both sketches hold all of them (a distinct count may lose one to a collision)."""


class AmbiguousError(Exception):
    """The answer depends on the last digits of a double: a rank, a condition or an order."""


@dataclass(frozen=True, slots=True)
class Near:
    """A double known up to ``slack``."""

    value: float
    slack: float


@dataclass(frozen=True, slots=True)
class Between:
    """A sketched value inside hard limits; ``usual`` are the limits of the documented bound, which few values leave."""

    low: float
    high: float
    usual: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Derived:
    """A value computed from other columns of the answered row, which are sketched."""

    formula: Callable[[Mapping[str, object]], object]


@dataclass(frozen=True, slots=True)
class Anything:
    """A quotient whose divisor is so nearly 0 that nothing can be said about it."""


Cell = object
"""A plain value, None, or one of the classes above."""


def near(value: float, relative: float = RELATIVE, absolute: float = ABSOLUTE) -> Cell:
    """A double with the ordinary tolerance; infinities and NaN are exact."""
    return within(value, abs(value) * relative + absolute)


def within(value: float, slack: float) -> Cell:
    """A double known up to ``slack``, exact when there is none or the double is not finite."""
    return Near(value, slack) if slack and math.isfinite(value) and math.isfinite(slack) else value


def rank(value: object) -> tuple[object, ...]:
    """A sort key for values of one type: NaN above all numbers, nulls last."""
    if isinstance(value, float) and math.isnan(value):
        return (1,)
    return (2,) if value is None else (0, value)


def one_nan(values: Iterable[object]) -> tuple[object, ...]:
    """The values with the same NaN in place of every NaN, so that they are equal as keys."""
    return tuple(math.nan if isinstance(v, float) and math.isnan(v) else v for v in values)


def plain(cell: Cell) -> object:
    """The value itself, for sorting and computing. Sketched values have none that could decide anything."""
    if isinstance(cell, Near):
        return cell.value
    if isinstance(cell, Between | Derived | Anything):
        raise AmbiguousError("a value that is not known well enough cannot decide")
    return cell


def slack_of(cell: Cell) -> float:
    """How far the answered value may be from the plain one."""
    return cell.slack if isinstance(cell, Near) else 0.0


def number(cell: Cell) -> float | int | Decimal:
    """The plain value of a number that is not null."""
    value = plain(cell)
    assert isinstance(value, int | float | Decimal)
    return value


def distinct_limits(count: int) -> Cell:
    """Up to 200 a count may be one too small; above it is within five standard deviations, usually within two."""
    if count <= EXACT_SKETCH_SIZE:
        return Between(count - (count > 1), count, (count, count))
    spread = [HLL_SIGMA * deviations * count for deviations in (5, 2)]
    return Between(
        math.floor(count - spread[0]),
        math.ceil(count + spread[0]),
        (math.floor(count - spread[1]), math.ceil(count + spread[1])),
    )


def quantile_limits(ordered: list[float], share: float) -> Cell:
    """The values at ranks near ``share``: one place beside it, and in more than 200 values 2.5 times the rank error."""
    size = len(ordered)
    if size == 0:
        return None

    def limits(error: float) -> tuple[float, float]:
        low = math.floor((share - error) * size) - 1
        high = math.ceil((share + error) * size)
        return ordered[max(0, low)], ordered[min(size - 1, high)]

    error = KLL_RANK_ERROR if size > EXACT_SKETCH_SIZE else 0.0
    return Between(*limits(2.5 * error), limits(error))


def matches(expected: Cell, actual: object, row: Mapping[str, object]) -> bool:
    """Whether an answered value is right; ``row`` is the answered row by column name."""
    match expected:
        case Near(value, slack):
            return isinstance(actual, float) and (abs(actual - value) <= slack or actual == value)
        case Between(low, high):
            return isinstance(actual, int | float) and low <= actual <= high
        case Anything():
            return True
        case Derived(formula):
            return matches(formula(row), actual, row)
        case float() if math.isnan(expected):
            return isinstance(actual, float) and math.isnan(actual)
        case _:
            return type(expected) is type(actual) and expected == actual
