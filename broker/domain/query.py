"""The question as values: what the contract's ``Query`` means once it has been checked for shape.

All collections are tuples, so queries can be compared, hashed and sent to worker processes. Names are those of the
semantic model; whether they exist is checked by ``policy.validate``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum

from broker.domain.values import Scalar


class Grain(StrEnum):
    """Width of a time bucket."""

    MINUTE = "minute"
    FIFTEEN_MINUTES = "fifteen_minutes"
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    QUARTER = "quarter"
    YEAR = "year"

    @property
    def calendar(self) -> bool:
        """Whether buckets begin at local midnight rather than every so many seconds."""
        return self not in (Grain.MINUTE, Grain.FIFTEEN_MINUTES, Grain.HOUR)


@dataclass(frozen=True, slots=True)
class AbsoluteRange:
    """Instants ``[start, end)``, both aware and in UTC."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class DateRange:
    """Calendar dates ``[start, end)`` in the selection's zone."""

    start: date
    end: date


@dataclass(frozen=True, slots=True)
class RelativeRange:
    """The last ``count`` whole units before now, or those up to and including the current one."""

    count: int
    unit: Grain
    include_current: bool = False


TimeRange = AbsoluteRange | DateRange | RelativeRange


@dataclass(frozen=True, slots=True)
class TimeSelection:
    """A time dimension (empty: the dataset's default), its range, bucket width and zone."""

    dimension: str = ""
    grain: Grain | None = None
    zone: str = "UTC"
    range: TimeRange | None = None
    gap_fill: bool = False


class Operator(StrEnum):
    """A comparison; unknown when the member is null, except for the null operators."""

    EQ = "eq"
    NE = "ne"
    LT = "lt"
    LE = "le"
    GT = "gt"
    GE = "ge"
    IN = "in"
    NOT_IN = "not_in"
    BETWEEN = "between"
    CONTAINS = "contains"
    STARTS_WITH = "starts_with"
    ENDS_WITH = "ends_with"
    IS_NULL = "is_null"
    IS_NOT_NULL = "is_not_null"


@dataclass(frozen=True, slots=True)
class Condition:
    """Compares one member with values."""

    member: str
    operator: Operator
    values: tuple[Scalar, ...] = ()


@dataclass(frozen=True, slots=True)
class AllOf:
    """True when every child is true; an empty group is true."""

    filters: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """True when a child is true; an empty group is false."""

    filters: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """True when the child is false."""

    filter: Filter


Filter = AllOf | AnyOf | Not | Condition


def conditions(node: Filter | None, path: str = "") -> Iterator[tuple[str, Condition]]:
    """Every condition of a tree with its path in the contract's naming, depth first."""
    match node:
        case None:
            return
        case Condition():
            yield _join(path, "condition"), node
        case Not(child):
            yield from conditions(child, _join(path, "not_filter"))
        case AllOf(children):
            for i, child in enumerate(children):
                yield from conditions(child, _join(path, f"all_of.filters[{i}]"))
        case AnyOf(children):
            for i, child in enumerate(children):
                yield from conditions(child, _join(path, f"any_of.filters[{i}]"))


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


@dataclass(frozen=True, slots=True)
class OrderKey:
    """One sort key over a column of the answer."""

    member: str
    descending: bool = False
    nulls_first: bool = False


@dataclass(frozen=True, slots=True)
class CompareTo:
    """Compares with the range shifted back by ``count`` calendar units; no measures means all."""

    count: int
    unit: Grain
    measures: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ShareOfTotal:
    """Share of the total over the groups that agree on the columns ``within``."""

    measure: str
    within: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RollingWindow:
    """The measure merged over this bucket and the ``buckets - 1`` before it."""

    measure: str
    buckets: int


@dataclass(frozen=True, slots=True)
class TopN:
    """Keeps the ``count`` values of a dimension ranked by a measure over the whole range."""

    count: int
    dimension: str
    by: str
    other: bool = False
    ascending: bool = False


@dataclass(frozen=True, slots=True)
class Calculations:
    """Calculations on the grouped result, applied in the order of the fields ``top_n`` first, rolling last."""

    top_n: TopN | None = None
    compare_to: CompareTo | None = None
    shares: tuple[ShareOfTotal, ...] = ()
    rolling: tuple[RollingWindow, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether nothing is to be calculated."""
        return self == Calculations()


@dataclass(frozen=True, slots=True)
class Query:
    """Measures of one dataset by dimensions and time buckets."""

    dataset: str
    measures: tuple[str, ...] = ()
    dimensions: tuple[str, ...] = ()
    time: TimeSelection | None = None
    filter: Filter | None = None
    having: Filter | None = None
    order: tuple[OrderKey, ...] = ()
    limit: int = 0
    calculations: Calculations = field(default_factory=Calculations)


@dataclass(frozen=True, slots=True)
class SqlQuery:
    """SQL text over the semantic datasets with values for ``$1``, ``$2`` and so on."""

    text: str
    parameters: tuple[Scalar, ...] = ()
