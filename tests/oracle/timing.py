"""What a time selection means: the range, its buckets, the ones before it, and the range it is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from google.protobuf.timestamp_pb2 import Timestamp
from google.type.date_pb2 import Date

from querybroker.v1 import query_pb2 as q
from tests.oracle.zones import CLOCK_WIDTHS, DAY, ZoneClock, day_number, shifted_day, zone_clock


def instant_of(timestamp: Timestamp) -> int:
    """Microseconds of a protobuf timestamp."""
    return int(timestamp.seconds) * 1_000_000 + timestamp.nanos // 1_000


def day_of(day: Date) -> int:
    """The number of a protobuf date's day."""
    return day_number(date(day.year, day.month, day.day))


def grain_name(value: int) -> str:
    """Name of a grain without its prefix; empty for none."""
    return "" if value == 0 else q.TimeGrain.Name(q.TimeGrain.ValueType(value)).removeprefix("TIME_GRAIN_")


@dataclass(frozen=True, slots=True)
class Period:
    """A range and its buckets, all as instants; without a grain there are none."""

    start: int
    end: int
    buckets: tuple[int, ...] = ()


def resolved(time: q.TimeSelection, now: int, *, dated: bool) -> tuple[int, int] | None:
    """The instants of the range, or None without one. Dates of a date dimension are their midnights in UTC."""
    clock = zone_clock(time.zone)
    match time.WhichOneof("range"):
        case "absolute":
            return instant_of(time.absolute.start_time), instant_of(time.absolute.end_time)
        case "dates":
            days = day_of(time.dates.start_date), day_of(time.dates.end_date)
        case "relative":
            found = _relative(time.relative, clock, now)
            if not dated:
                return found
            days = _local_day(clock, found[0]), _local_day(clock, found[1])
        case _:
            return None
    if dated:
        return days[0] * DAY, days[1] * DAY
    return clock.first_instant(days[0]), clock.first_instant(days[1])


def _relative(selection: q.RelativeTimeRange, clock: ZoneClock, now: int) -> tuple[int, int]:
    """The last whole units before now, or the units up to and including the current one."""
    unit = grain_name(selection.unit)
    current = clock.label(now, unit)
    end = clock.following(current, unit) if selection.include_current else current
    if unit in CLOCK_WIDTHS:
        return clock.earlier(end, unit, selection.count), end
    first = shifted_day(clock.local(end) // DAY, unit, -selection.count)
    return clock.first_instant(first), end


def _local_day(clock: ZoneClock, instant: int) -> int:
    return clock.local(instant) // DAY


def period(clock: ZoneClock, start: int, end: int, grain: str) -> Period:
    """A range with its buckets."""
    buckets = clock.buckets(start, end, grain) if grain and start < end else []
    return Period(start, end, tuple(buckets))


def compared(
    clock: ZoneClock, main: Period, compare: q.CompareTo, grain: str
) -> tuple[Period, dict[int, int]]:
    """The shifted range, and for every bucket of the main range the one in it that begins one shift earlier."""
    unit = grain_name(compare.unit)
    other = period(
        clock,
        _shift_bound(clock, main.start, unit, compare.count),
        _shift_bound(clock, main.end, unit, compare.count),
        grain,
    )
    there = set(other.buckets)
    shifted = {bucket: _shift_bucket(clock, bucket, unit, compare.count, grain) for bucket in main.buckets}
    return other, {bucket: to for bucket, to in shifted.items() if to is not None and to in there}


def _shift_bound(clock: ZoneClock, instant: int, unit: str, count: int) -> int:
    """One shift earlier. The beginning of a day stays the beginning of a day, whatever its clock shows.

    Another instant keeps its time on the clock, the same one of two; where the earlier day skips that time, the
    clock is read as if it had not been put forward yet. Clock units are elapsed time.
    """
    if unit in CLOCK_WIDTHS:
        return instant - CLOCK_WIDTHS[unit] * count
    day = _local_day(clock, instant)
    if instant == clock.first_instant(day):
        return clock.first_instant(shifted_day(day, unit, -count))
    there = _same_time(clock, instant, unit, count)
    if there is not None:
        return there
    return clock.as_if_unchanged(clock.local(instant) + (shifted_day(day, unit, -count) - day) * DAY)


def _shift_bucket(clock: ZoneClock, bucket: int, unit: str, count: int, grain: str) -> int | None:
    if grain not in CLOCK_WIDTHS:
        return clock.first_instant(shifted_day(_local_day(clock, bucket), unit, -count))
    if unit in CLOCK_WIDTHS:
        return bucket - CLOCK_WIDTHS[unit] * count
    return _same_time(clock, bucket, unit, count)


def _same_time(clock: ZoneClock, instant: int, unit: str, count: int) -> int | None:
    """The instant with the same time on the clock, units earlier; None when that time is skipped."""
    local = clock.local(instant)
    day = local // DAY
    there = clock.instants(local + (shifted_day(day, unit, -count) - day) * DAY)
    if not there:
        return None
    return there[min(clock.instants(local).index(instant), len(there) - 1)]
