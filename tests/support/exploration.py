"""Sessions of analysts who explore the flights, step by step, as a tool with a pivot table and a chart would ask them.

A session begins with an overview by month or day. A step breaks down by one more dimension, picks a value out of what
is shown or out of a list, zooms in on a part of the range, changes the grain, leaves a dimension out, asks for the
largest groups or an order, takes a filter away, or goes back. Steps are made from a seed, so a recording is its seed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta
from random import Random

from google.type.date_pb2 import Date

from querybroker.v1 import query_pb2 as q

ZONE = "America/New_York"
SUBJECTS: dict[tuple[str, ...], int] = {
    ("flights", "cancellations", "cancellation_rate"): 4,
    ("flights", "miles", "kilometres"): 2,
    ("departures", "miles_flown", "air_hours", "speed", "worst_delay"): 2,
    ("flights", "dep_delay", "arr_delay"): 2,
    ("flights", "planes"): 1,
}
"""What sessions are about, and how often. Averages and distinct planes are not told from those of smaller groups."""
VALUES: dict[str, tuple[str | int | bool, ...]] = {
    "origin": ("EWR", "JFK", "LGA"),
    "carrier": ("UA", "B6", "EV", "DL", "AA", "MQ", "US", "9E", "WN"),
    "haul": ("short", "medium", "long"),
    "dest_zone": ("America/Chicago", "America/Los_Angeles", "America/New_York"),
    "dest": ("ORD", "ATL", "LAX", "BOS", "MCO", "SFO"),
    "weekday": (1, 5, 6, 7),
    "manufacturer": ("BOEING", "EMBRAER", "AIRBUS"),
    "cancelled": (True, False),
}
GRAINS = (q.TIME_GRAIN_DAY, q.TIME_GRAIN_WEEK, q.TIME_GRAIN_MONTH, q.TIME_GRAIN_QUARTER)
MONTHS = (*(date(2013, month, 1) for month in range(1, 13)), date(2014, 1, 1))


@dataclass(frozen=True, slots=True)
class View:
    """What the analyst looks at; ``top`` is a dimension with the number of its values that are shown."""

    measures: tuple[str, ...]
    dimensions: tuple[str, ...] = ()
    grain: q.TimeGrain.ValueType = q.TIME_GRAIN_MONTH
    first: date = MONTHS[0]
    last: date = MONTHS[-1]
    picked: tuple[tuple[str, tuple[str | int | bool, ...]], ...] = ()
    top: tuple[str, int] | None = None
    largest: int = 0

    @property
    def query(self) -> q.Query:
        """The question."""
        query = q.Query(dataset="flights", measures=self.measures, dimensions=self.dimensions)
        query.time.zone, query.time.grain = ZONE, self.grain
        query.time.dates.start_date.CopyFrom(_date(self.first))
        query.time.dates.end_date.CopyFrom(_date(self.last))
        parts = [_condition(name, values) for name, values in self.picked]
        if len(parts) == 1:
            query.filter.CopyFrom(parts[0])
        elif parts:
            query.filter.all_of.filters.extend(parts)
        if self.top is not None:
            top = query.calculations.top_n
            top.dimension, top.count, top.by = *self.top, self.measures[0]
        if self.largest:
            query.order.add(member=self.measures[0], direction=q.SORT_DIRECTION_DESC)
            query.limit = self.largest
        return query


def recorded(seed: int, steps: int) -> Iterator[tuple[str, q.Query]]:
    """So many steps of sessions one after the other: what was done, and the question that it led to."""
    random = Random(seed)
    left = steps
    while left > 0:
        length = min(left, random.randint(18, 30))
        yield from session(random, length)
        left -= length


def session(random: Random, steps: int) -> Iterator[tuple[str, q.Query]]:
    """One session."""
    (subject,) = random.choices(tuple(SUBJECTS), tuple(SUBJECTS.values()))
    view = View(subject, grain=random.choice((q.TIME_GRAIN_DAY, q.TIME_GRAIN_MONTH)))
    before: list[View] = []
    yield "overview", view.query
    chances = [weight for weight, _ in MOVES.values()]
    for _ in range(steps - 1):
        while True:
            name = random.choices(tuple(MOVES), chances)[0]
            if name == "back":
                if not before:
                    continue
                view = before.pop(-random.randint(1, min(3, len(before))))
                break
            following = MOVES[name][1](random, view)
            if following is not None and following != view:
                before.append(view)
                view = following
                break
        yield name, view.query


def drill(random: Random, view: View) -> View | None:
    """By one more dimension."""
    left = [name for name in VALUES if name not in view.dimensions]
    if len(view.dimensions) >= 3:
        return None
    return replace(view, dimensions=(*view.dimensions, random.choice(left)), top=None, largest=0)


def pick(random: Random, view: View) -> View | None:
    """Only some values of what is shown, which then may be all that is shown."""
    shown = [name for name in view.dimensions if name not in dict(view.picked)]
    if not shown:
        return None
    name = random.choice(shown)
    values = tuple(random.sample(VALUES[name], random.choice((1, 1, 1, 2))))
    left = (
        view.dimensions
        if len(values) > 1 or random.random() < 0.3
        else tuple(d for d in view.dimensions if d != name)
    )
    return replace(view, dimensions=left, picked=(*view.picked, (name, values)), top=None, largest=0)


def choose(random: Random, view: View) -> View | None:
    """Only one value of what is not shown, out of a list."""
    hidden = [name for name in VALUES if name not in view.dimensions and name not in dict(view.picked)]
    name = random.choice(hidden)
    return replace(view, picked=(*view.picked, (name, (random.choice(VALUES[name]),))))


def unpick(random: Random, view: View) -> View | None:
    """One filter less."""
    if not view.picked:
        return None
    gone = random.choice(view.picked)
    return replace(view, picked=tuple(each for each in view.picked if each != gone))


def roll_up(random: Random, view: View) -> View | None:
    """One dimension less."""
    if not view.dimensions:
        return None
    gone = random.choice(view.dimensions)
    return replace(view, dimensions=tuple(d for d in view.dimensions if d != gone), top=None)


def zoom(random: Random, view: View) -> View | None:
    """Some months of what is shown, or a week or two of one."""
    months = [month for month in MONTHS if view.first <= month <= view.last]
    if len(months) > 2:
        first = random.randrange(len(months) - 1)
        last = min(len(months) - 1, first + random.choice((1, 1, 3)))
        return replace(view, first=months[first], last=months[last])
    if (view.last - view.first).days < 21 or view.grain is not q.TIME_GRAIN_DAY:
        return None
    start = view.first + timedelta(days=random.randint(0, 6))
    return replace(view, first=start, last=start + timedelta(days=random.choice((7, 14))))


def coarser(random: Random, view: View) -> View | None:
    """By longer buckets."""
    wider = GRAINS[GRAINS.index(view.grain) + 1 :]
    return replace(view, grain=random.choice(wider)) if wider else None


def finer(random: Random, view: View) -> View | None:
    """By shorter buckets."""
    shorter = GRAINS[: GRAINS.index(view.grain)]
    return replace(view, grain=random.choice(shorter)) if shorter else None


def top(random: Random, view: View) -> View | None:
    """The values of a dimension with the most."""
    if not view.dimensions:
        return None
    return replace(view, top=(random.choice(view.dimensions), random.choice((3, 5))))


def largest(random: Random, view: View) -> View | None:
    """The largest groups of all."""
    return replace(view, largest=random.choice([n for n in (10, 20, 50) if n != view.largest]))


MOVES: dict[str, tuple[int, Callable[[Random, View], View | None]]] = {
    "drill down": (14, drill),
    "pick a value": (18, pick),
    "choose a filter": (3, choose),
    "take a filter away": (5, unpick),
    "roll up": (10, roll_up),
    "zoom in": (10, zoom),
    "coarser grain": (8, coarser),
    "finer grain": (4, finer),
    "top N": (8, top),
    "largest": (6, largest),
    "back": (12, drill),
}
"""What analysts do, and how often."""


def _date(day: date) -> Date:
    return Date(year=day.year, month=day.month, day=day.day)


def _condition(name: str, values: tuple[str | int | bool, ...]) -> q.Filter:
    operator = q.FILTER_OPERATOR_EQ if len(values) == 1 else q.FILTER_OPERATOR_IN
    return q.Filter(condition=q.Condition(member=name, operator=operator, values=[_value(v) for v in values]))


def _value(value: str | int | bool) -> q.Value:
    match value:
        case bool():
            return q.Value(bool_value=value)
        case int():
            return q.Value(int64_value=value)
        case _:
            return q.Value(string_value=value)
