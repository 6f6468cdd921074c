"""Which answers can be written range by range, and which question asks for one range.

An answer is cut along its leading key: the column by which its rows are ordered first. Every group of rows has one
value of it, so a group lies in one range, and ranges that are written one after the other have the order of the whole.
That needs a plan whose rows are finished one by one, without a limit, and a leading key that is a time bucket, an
instant, a date or an integer. Everything else is written by one statement.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import pairwise

from broker.domain.answer import Interval
from broker.domain.model import Dimension
from broker.domain.plan import Plan, Scan
from broker.domain.query import AllOf, AnyOf, Condition, Filter, Operator, OrderKey
from broker.domain.ranges import KeyRange
from broker.domain.rollup import ALWAYS, EPOCH, FAR_FUTURE, FAR_PAST, Span, instant, micros
from broker.domain.values import DataType, Scalar
from broker.ports.store import SqlPlan

MOST = 64
"""Ranges of one export."""
KEY_TYPES = frozenset({DataType.TIMESTAMP, DataType.DATE, DataType.INT64})
_DAY = timedelta(days=1)
_DAY_MICROS = 86_400_000_000


@dataclass(frozen=True, slots=True)
class LeadingKey:
    """What an answer is ordered by first; ``bucketed`` when it is the bucket of the plan's grid."""

    dimension: Dimension
    bucketed: bool
    descending: bool = False
    nulls_first: bool = False


def leading_key(source: Plan | SqlPlan) -> LeadingKey | None:
    """The key along which an answer can be cut; None when it cannot."""
    if isinstance(source, SqlPlan):
        return None
    scan, finish = source.main, source.finish
    if not finish.pushed_down or finish.limit or source.comparison is not None or scan.pieces is not None:
        return None
    if not finish.keys:
        return None
    first = finish.order[0] if finish.order else OrderKey(finish.keys[0].name)
    if scan.grid is not None and scan.time is not None and first.member == scan.time.name:
        return LeadingKey(scan.time, True, first.descending)
    for dimension in scan.dimensions:
        if dimension.name == first.member and dimension.type in KEY_TYPES:
            return LeadingKey(dimension, False, first.descending, first.nulls_first)
    return None


def bucket_cuts(scan: Scan) -> tuple[int, ...]:
    """Where an answer by time buckets may be cut: the beginnings of its buckets, in microseconds.

    Dates count as their midnight in UTC: a bucket of dates that begins at another instant is no place for a cut.
    """
    assert scan.grid is not None, "the key is a bucket"
    assert scan.time is not None, "a grid groups by the time dimension"
    found = [micros(start) for start in scan.grid.starts[1:]]
    dates = scan.time.type is DataType.DATE
    return tuple([at for at in found if not dates or at % _DAY_MICROS == 0])


def usable_cuts(key: LeadingKey, scan: Scan, found: Sequence[int]) -> tuple[int, ...]:
    """Those of the values between which rows are known to lie that the plan's own bounds leave."""
    if scan.time is None or scan.bounds is None or scan.time.name != key.dimension.name:
        return tuple(found)
    days = key.dimension.type is DataType.DATE
    low, high = (
        (at - EPOCH) // (_DAY if days else timedelta(microseconds=1))
        for at in (scan.bounds.start, scan.bounds.end)
    )
    return tuple([cut for cut in found if low < cut < high])


def ranges_of(key: LeadingKey, cuts: Sequence[int], count: int) -> tuple[KeyRange, ...]:
    """About ``count`` ranges, with as many cuts in each, in the order of the answer; empty when there are no two."""
    values = sorted(set(cuts))
    count = min(count, MOST, len(values) + 1)
    if count < 2:
        return ()
    chosen = sorted({values[i * len(values) // count] for i in range(1, count)})
    ends: list[int | None] = [None, *chosen, None]
    found = [KeyRange(low, high) for low, high in pairwise(ends)]
    if key.descending:
        found.reverse()
    if not key.bucketed:
        at = 0 if key.nulls_first else -1
        found[at] = replace(found[at], nulls=True)
    return tuple(found)


def within(plan: Plan, key: LeadingKey, part: KeyRange) -> Plan:
    """The plan of one range."""
    scan = plan.main
    if key.bucketed:
        low = FAR_PAST if part.low is None else part.low
        span = Span(low, FAR_FUTURE if part.high is None else part.high)
        return replace(plan, main=replace(scan, pieces=(span,)))
    own = _condition(key.dimension, part)
    both = own if scan.filter is None else AllOf((scan.filter, own))
    return replace(plan, main=replace(scan, filter=both))


def interval_of(plan: Plan, key: LeadingKey, parts: Sequence[KeyRange]) -> Interval | None:
    """What of the time these ranges reach over together; None when they are no ranges of time."""
    if not parts or key.dimension.type not in (DataType.TIMESTAMP, DataType.DATE):
        return None
    unit = _DAY_MICROS if key.dimension.type is DataType.DATE and not key.bucketed else 1
    lows, highs = [part.low for part in parts], [part.high for part in parts]
    own = plan.main.bounds if plan.main.time == key.dimension else None
    first = min((low for low in lows if low is not None), default=0) * unit
    last = max((high for high in highs if high is not None), default=0) * unit
    start = (own.start if own else None) if None in lows else instant(first)
    end = (own.end if own else None) if None in highs else instant(last)
    return Interval(start, end)


def reached(plan: Plan, key: LeadingKey, part: KeyRange, time: str) -> Span:
    """The rows of a range have values of this time dimension within the span; all of time when that is not known."""
    scan = plan.main
    along = scan.time is not None and scan.time.name == time
    low, high = scan.span if along else ALWAYS
    if key.dimension.name != time or (part.nulls and not (along and scan.bounds is not None)):
        return Span(low, high)
    unit = _DAY_MICROS if key.dimension.type is DataType.DATE and not key.bucketed else 1
    if part.low is not None:
        low = max(low, part.low * unit)
    if part.high is not None:
        high = min(high, part.high * unit)
    return Span(low, high)


def _condition(dimension: Dimension, part: KeyRange) -> Filter:
    """The rows of a range. Comparisons with null are unknown, so that only the one range with nulls has those rows."""
    ends: list[Filter] = []
    if part.low is not None:
        ends.append(Condition(dimension.name, Operator.GE, (_value(dimension, part.low),)))
    if part.high is not None:
        ends.append(Condition(dimension.name, Operator.LT, (_value(dimension, part.high),)))
    inside: Filter = ends[0] if len(ends) == 1 else AllOf(tuple(ends))
    if not part.nulls:
        return inside
    return AnyOf((inside, Condition(dimension.name, Operator.IS_NULL)))


def _value(dimension: Dimension, at: int) -> Scalar:
    match dimension.type:
        case DataType.TIMESTAMP:
            return EPOCH + timedelta(microseconds=at)
        case DataType.DATE:
            return (EPOCH + at * _DAY).date()
        case _:
            return at
