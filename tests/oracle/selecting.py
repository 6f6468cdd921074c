"""Random time selections: odd zones, both edges of daylight saving time, every grain, every kind of range."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

from google.protobuf.timestamp_pb2 import Timestamp
from google.type.date_pb2 import Date

from querybroker.v1 import query_pb2 as q
from tests.oracle.choosing import Chooser
from tests.oracle.timing import grain_name
from tests.oracle.zones import (
    CLOCK_WIDTHS,
    DAY,
    day_date,
    day_number,
    first_day,
    moment,
    zone_clock,
)

ZONES = (
    "UTC",
    "America/New_York",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "America/St_Johns",
    "Pacific/Chatham",
    "Europe/Berlin",
    "America/Havana",
    "America/Sao_Paulo",
    "Pacific/Apia",
)
# Days of 2013 on which one of the zones changes its offset; in Havana and Sao Paulo at midnight.
EDGES = tuple(
    day_number(date(2013, month, day))
    for month, day in (
        (3, 10),
        (11, 3),
        (3, 31),
        (10, 27),
        (4, 7),
        (10, 6),
        (9, 29),
        (10, 20),
        (2, 17),
        (9, 28),
    )
)
FIRST, LAST = day_number(date(2012, 12, 20)), day_number(date(2014, 1, 10))
# Longest range in days for each grain, so that a grain has some hundreds of buckets at most.
SPANS: Mapping[str, int] = {
    "": 400,
    "MINUTE": 1,
    "FIFTEEN_MINUTES": 4,
    "HOUR": 14,
    "DAY": 200,
    "WEEK": 400,
    "MONTH": 500,
    "QUARTER": 800,
    "YEAR": 1500,
}
GRAINS = ("DAY", "MONTH", "WEEK", "HOUR", "QUARTER", "YEAR", "DAY", "HOUR", "FIFTEEN_MINUTES", "MINUTE")
CALENDAR_UNITS = ("DAY", "WEEK", "MONTH", "QUARTER", "YEAR")
# By which units, and multiples of what count, a grain can be shifted so that buckets meet buckets.
SHIFTS: Mapping[str, tuple[tuple[str, int], ...]] = {
    "": tuple((unit, 1) for unit in CALENDAR_UNITS),
    "DAY": tuple((unit, 1) for unit in CALENDAR_UNITS),
    "WEEK": (("WEEK", 1), ("DAY", 7)),
    "MONTH": (("MONTH", 1), ("QUARTER", 1), ("YEAR", 1)),
    "QUARTER": (("QUARTER", 1), ("YEAR", 1), ("MONTH", 3)),
    "YEAR": (("YEAR", 1), ("QUARTER", 4), ("MONTH", 12)),
}
LENGTHS = {"DAY": 1, "WEEK": 7, "MONTH": 30, "QUARTER": 91, "YEAR": 365}


def time_selection(
    chooser: Chooser, name: str, *, dated: bool, aligned: bool, need_range: bool, now: int
) -> q.TimeSelection:
    """A selection of the time dimension; ``aligned`` ranges begin with a bucket, as rolling windows need it."""
    grain = ""
    if aligned or chooser.chance(70):
        grain = chooser.choice([g for g in GRAINS if not (dated and g in CLOCK_WIDTHS)])
    selection = q.TimeSelection(dimension=name, zone=chooser.choice(ZONES) if chooser.chance(80) else "")
    if grain:
        selection.grain = q.TimeGrain.Value(f"TIME_GRAIN_{grain}")
        selection.gap_fill = chooser.chance(30)
    kind = chooser.integer(0, 9)
    if not grain and not need_range and kind == 0:
        return selection
    anchor = chooser.choice(EDGES) if chooser.chance(40) else chooser.integer(FIRST, LAST)
    if kind >= 8 and grain not in {"MINUTE", "FIFTEEN_MINUTES", "HOUR"} and not aligned:
        _relative(chooser, selection, anchor, now)
        return selection
    days = chooser.integer(1, SPANS[grain])
    first = anchor - chooser.integer(0, min(days, 40))
    if dated or kind >= 4:
        if aligned:
            first = first_day(first, grain if grain in LENGTHS else "DAY")
        selection.dates.start_date.CopyFrom(_date(first))
        selection.dates.end_date.CopyFrom(_date(first + days))
        return selection
    _absolute(chooser, selection, first, days, aligned=aligned)
    return selection


def _absolute(chooser: Chooser, selection: q.TimeSelection, first: int, days: int, *, aligned: bool) -> None:
    """Instants, mostly on full hours, some on odd microseconds."""
    unit = chooser.choice((3600 * 1_000_000, 900 * 1_000_000, 1))
    start = first * DAY + chooser.integer(0, DAY // unit - 1) * unit
    end = start + chooser.integer(1, max(1, days * DAY // unit)) * unit
    if aligned:
        start = zone_clock(selection.zone).label(start, grain_name(selection.grain))
    selection.absolute.start_time.CopyFrom(_timestamp(start))
    selection.absolute.end_time.CopyFrom(_timestamp(end))


def _relative(chooser: Chooser, selection: q.TimeSelection, anchor: int, now: int) -> None:
    """Units back from now to about the anchor; at least one."""
    grain = grain_name(selection.grain)
    unit = chooser.choice([u for u in CALENDAR_UNITS if LENGTHS[u] >= LENGTHS.get(grain, 1)])
    count = max(1, (now // DAY - anchor) // LENGTHS[unit])
    selection.relative.CopyFrom(
        q.RelativeTimeRange(
            count=count, unit=q.TimeGrain.Value(f"TIME_GRAIN_{unit}"), include_current=chooser.chance(50)
        )
    )


def shift(chooser: Chooser, grain: str, *, dated: bool) -> q.CompareTo:
    """A shift that the grain allows."""
    if grain in CLOCK_WIDTHS or (not grain and not dated and chooser.chance(20)):
        if grain and chooser.chance(60):
            unit, multiple = chooser.choice((("DAY", 1), ("WEEK", 1), ("MONTH", 1)))
        else:
            unit = chooser.choice(list(CLOCK_WIDTHS))
            multiple = max(1, CLOCK_WIDTHS.get(grain, 1) // CLOCK_WIDTHS[unit])
    else:
        unit, multiple = chooser.choice(SHIFTS[grain])
    count = multiple * chooser.choice((1, 1, 2, 3, 13))
    return q.CompareTo(count=count, unit=q.TimeGrain.Value(f"TIME_GRAIN_{unit}"))


def bucket_count(selection: q.TimeSelection) -> int:
    """About how many buckets the selection may have."""
    grain = grain_name(selection.grain)
    if selection.HasField("relative"):
        days = selection.relative.count * LENGTHS[grain_name(selection.relative.unit)]
        return days // LENGTHS[grain] + 1
    return {"MINUTE": 1440, "FIFTEEN_MINUTES": 400, "HOUR": 340}.get(grain) or SPANS[grain] // LENGTHS[
        grain
    ] + 1


def _date(day: int) -> Date:
    there = day_date(day)
    return Date(year=there.year, month=there.month, day=there.day)


def _timestamp(instant: int) -> Timestamp:
    found = Timestamp()
    found.FromDatetime(moment(instant))
    return found
