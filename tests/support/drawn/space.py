"""Random questions over drawn datasets: those of the oracle's generator, with ranges that suit the tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from google.protobuf.timestamp_pb2 import Timestamp
from google.type.date_pb2 import Date

from querybroker.v1 import query_pb2 as q
from tests.oracle.choosing import Chooser, subset
from tests.oracle.generate import QuerySpace
from tests.oracle.selecting import GRAINS, LENGTHS, SPANS, ZONES
from tests.oracle.values import condition
from tests.oracle.zones import CLOCK_WIDTHS, day_date, day_number, first_day
from tests.support.drawn.models import DrawnDataset

_WIDTH = timedelta(minutes=15)


WIDTHS = {name: width for width, name in enumerate(("MINUTE", "FIFTEEN_MINUTES", "HOUR", *LENGTHS))}


@dataclass(frozen=True, slots=True)
class DrawnSpace(QuerySpace):
    """The questions over a drawn dataset, or over what one rollup of it stores.

    ``moments`` are instants that matter there, ``zone`` is that of the rollup, ``base`` its grain; ``conditions`` are
    those of its filter.
    """

    moments: Sequence[datetime]
    days: int
    zone: str = "UTC"
    base: str = "MINUTE"
    time: str = "at"
    conditions: Sequence[q.Condition] = ()
    parts: Sequence[DrawnSpace] = ()

    @classmethod
    def of(cls, dataset: DrawnDataset, now: int) -> DrawnSpace:
        """The questions over a dataset, most of which one rollup of it might answer."""
        known = dataset.known()
        moments = [at for at in dataset.dimensions["moment"].pool if isinstance(at, datetime)]
        parts = []
        for name, given in dataset.given["rollups"].items():
            model, time = dataset.model(name), given.get("time", "at")
            sizes = dict.fromkeys(given["dimensions"], 12)
            zone = given.get("zone", dataset.shape.zone if dataset.shape.time == "local" else "UTC")
            base, filters = given["grains"][0].upper(), dataset.filters[name]
            parts.append(
                cls(model, known, sizes, now, moments, dataset.shape.days, zone, base, time, filters)
            )
        model = dataset.model()
        sizes = dict.fromkeys(model.dimensions, 12)
        return cls(model, known, sizes, now, moments, dataset.shape.days, dataset.shape.zone, parts=parts)

    def query(self, chooser: Chooser) -> q.Query:
        """A question, mostly one that a rollup might answer."""
        if self.parts and chooser.chance(85):
            return chooser.choice(self.parts).query(chooser)
        # Without zero arguments: a dataclass with slots is another class than the one that its methods were made in.
        query = QuerySpace.query(self, chooser)
        given = list(self.conditions) if chooser.chance(80) else []
        if not query.HasField("time") and chooser.chance(60):
            spec = self.model.dimensions[self.time]
            given.append(condition(chooser, spec.name, spec.type, self.known[spec.name]))
        if given:
            parts = [q.Filter(condition=each) for each in given] + [query.filter] * query.HasField("filter")
            query.filter.CopyFrom(q.Filter(all_of=q.FilterGroup(filters=parts)))
        return query

    def _time(self, chooser: Chooser, query: q.Query, *, rolling: bool) -> None:
        if not rolling and chooser.chance(20):
            return
        spec = self.model.dimensions[self.time]
        if chooser.chance(5):
            spec = chooser.choice([each for each in self.model.dimensions.values() if each.time])
        selection = self._selection(chooser, dated=spec.type == "DATE", aligned=rolling)
        selection.dimension = "" if spec.name == "at" and chooser.chance(50) else spec.name
        query.time.CopyFrom(selection)
        if rolling:
            for measure in subset(chooser, [m for m in query.measures if self.model.mergeable(m)], 1, 2):
                query.calculations.rolling_windows.add(measure=measure, buckets=chooser.choice((2, 3, 7)))

    def _grain(self, chooser: Chooser, *, dated: bool) -> str:
        able = [each for each in GRAINS if not (dated and each in CLOCK_WIDTHS)]
        coarse = [each for each in able if WIDTHS[each] >= WIDTHS[self.base]]
        return chooser.choice(coarse if coarse and chooser.chance(85) else able)

    def _selection(self, chooser: Chooser, *, dated: bool, aligned: bool) -> q.TimeSelection:
        grain = self._grain(chooser, dated=dated) if aligned or chooser.chance(65) else ""
        found = q.TimeSelection(zone=self.zone if chooser.chance(60) else chooser.choice(ZONES))
        if grain:
            found.grain = q.TimeGrain.Value(f"TIME_GRAIN_{grain}")
            found.gap_fill = chooser.chance(20)
        days = min(SPANS[grain], self.days + 5)
        first = chooser.choice(self.moments)
        if chooser.chance(40):  # most of the table
            first = min(self.moments) - timedelta(days=chooser.integer(0, 3))
        else:
            days = chooser.integer(1, days)
        days = max(days, 2 * LENGTHS.get(self.base, 0) if chooser.chance(80) else 0)
        if dated or aligned or chooser.chance(45):
            begin = day_number(first.date())
            if aligned or chooser.chance(50):
                begin = first_day(
                    begin, grain if grain in LENGTHS else chooser.choice(("DAY", "WEEK", "MONTH"))
                )
            found.dates.start_date.CopyFrom(_date(begin))
            found.dates.end_date.CopyFrom(_date(begin + max(days, LENGTHS.get(grain, 1))))
            return found
        last = first + timedelta(days=days)
        if chooser.chance(60):
            unit = chooser.choice((timedelta(days=1), timedelta(hours=1), _WIDTH, _WIDTH))
            first, last = _floor(first, unit), _floor(last, unit)
        found.absolute.start_time.CopyFrom(_timestamp(first))
        found.absolute.end_time.CopyFrom(_timestamp(last))
        return found


def _floor(at: datetime, unit: timedelta) -> datetime:
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return at - (at - epoch) % unit


def _date(day: int) -> Date:
    there = day_date(day)
    return Date(year=there.year, month=there.month, day=there.day)


def _timestamp(at: datetime) -> Timestamp:
    found = Timestamp()
    found.FromDatetime(at)
    return found
