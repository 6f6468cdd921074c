"""Questions worth holding the answer of, and questions that may be answered by it: pairs at random."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from google.type.date_pb2 import Date

from querybroker.v1 import query_pb2 as q
from tests.oracle.choosing import Chooser, subset
from tests.oracle.generate import QuerySpace
from tests.oracle.selecting import EDGES, ZONES
from tests.oracle.values import condition
from tests.oracle.zones import day_date, day_number

MAX_GROUPS = 80
"""Of each dimension by which a question groups whose answer is held."""
MERGING = frozenset({"COUNT", "SUM", "MIN", "MAX"})
"""Kinds whose values merge."""
COARSER = {"HOUR": ("HOUR", "DAY", "WEEK"), "DAY": ("DAY", "WEEK", "MONTH"), "WEEK": ("WEEK",)}


def broad(chooser: Chooser, space: QuerySpace, edges: Sequence[int] = EDGES) -> q.Query:
    """Some measures by a dimension or two, over days such as those in which clocks are changed."""
    model = space.model
    few = [name for name, size in space.sizes.items() if size <= MAX_GROUPS]
    query = q.Query(dataset=model.dataset)
    merging = [name for name, measure in model.measures.items() if measure.kind in MERGING]
    query.measures.extend(subset(chooser, merging if chooser.chance(75) else list(model.measures), 2, 6))
    query.dimensions.extend(subset(chooser, few, 0, 2))
    if chooser.chance(85):
        grain = chooser.choice(("HOUR", "DAY", "DAY", "WEEK"))
        query.time.grain = q.TimeGrain.Value(f"TIME_GRAIN_{grain}")
        query.time.zone = chooser.choice(ZONES)
        first = chooser.choice(edges) - chooser.integer(1, 6)
        _range(query, first, first + chooser.integer(7, 12 if grain == "HOUR" else 120))
        query.time.gap_fill = chooser.chance(10)
    if chooser.chance(30):
        query.filter.condition.CopyFrom(_where(chooser, space, list(model.dimensions)))
    return query


def narrower(chooser: Chooser, space: QuerySpace, query: q.Query) -> q.Query:
    """The same for fewer groups: less of everything, or longer buckets."""
    new = q.Query(dataset=query.dataset)
    new.measures.extend(subset(chooser, list(query.measures), 1, len(query.measures)))
    new.dimensions.extend(subset(chooser, list(query.dimensions), 0, len(query.dimensions)))
    if query.HasField("time"):
        new.time.CopyFrom(query.time)
        held = q.TimeGrain.Name(query.time.grain).removeprefix("TIME_GRAIN_")
        new.time.ClearField("grain")
        if chooser.chance(75):
            new.time.grain = q.TimeGrain.Value(f"TIME_GRAIN_{chooser.choice(COARSER[held])}")
        new.time.gap_fill = bool(new.time.grain) and chooser.chance(20)
        if chooser.chance(50):
            first, last = (_number(day) for day in (query.time.dates.start_date, query.time.dates.end_date))
            start = chooser.integer(first, last - 1)
            _range(new, start, chooser.integer(start + 1, last))
    parts = [query.filter] if query.HasField("filter") else []
    if query.dimensions and chooser.chance(60):
        parts.append(q.Filter(condition=_where(chooser, space, list(query.dimensions))))
    if len(parts) == 1:
        new.filter.CopyFrom(parts[0])
    elif parts:
        new.filter.all_of.filters.extend(parts)
    decisive = [name for name in new.measures if not space.model.sketched(name)]
    if decisive and chooser.chance(30):
        new.order.add(member=chooser.choice(decisive), direction=q.SORT_DIRECTION_DESC)
        new.limit = chooser.choice((0, 3, 10))
    return new


def _where(chooser: Chooser, space: QuerySpace, names: Sequence[str]) -> q.Condition:
    spec = space.model.dimensions[chooser.choice(names)]
    return condition(chooser, spec.name, spec.type, space.known[spec.name])


def _range(query: q.Query, first: int, last: int) -> None:
    for field, number in ((query.time.dates.start_date, first), (query.time.dates.end_date, last)):
        day = day_date(number)
        field.CopyFrom(Date(year=day.year, month=day.month, day=day.day))


def _number(day: Date) -> int:
    return day_number(date(day.year, day.month, day.day))
