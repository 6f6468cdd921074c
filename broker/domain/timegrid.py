"""Time grids: the instants at which buckets begin, found by enumeration in a zone, never by names.

A grid is the ascending list of bucket starts over a range, plus the end. Buckets of a calendar grain begin at the
first instant of a local date; buckets of a clock grain begin at every multiple of the width on the local clock and at
every change of the zone's offset. So a day has 23, 24 or 25 hours, a repeated hour is two buckets, and a bucket is
identified by its first instant alone. The database compares instants with the grid and needs no zone rules of its own.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from math import floor, gcd
from struct import pack, unpack
from zoneinfo import ZoneInfo

from broker.domain.query import AbsoluteRange, DateRange, Grain, RelativeRange, TimeRange

MAX_BUCKETS = 100_000
_CLOCK = {
    Grain.MINUTE: timedelta(minutes=1),
    Grain.FIFTEEN_MINUTES: timedelta(minutes=15),
    Grain.HOUR: timedelta(hours=1),
}
_MONTHS = {Grain.MONTH: 1, Grain.QUARTER: 3, Grain.YEAR: 12}
_DAYS = {Grain.DAY: 1, Grain.WEEK: 7}
_DAY = 86_400_000_000


class TooManyBucketsError(ValueError):
    """The range holds more than ``MAX_BUCKETS`` buckets."""


@dataclass(frozen=True, slots=True)
class TimeGrid:
    """Bucket starts in ascending order. The first bucket may begin before the range, the last may end after it.

    ``packed`` and ``alignment`` are computed once for each grid, when they are first asked for.
    """

    starts: tuple[datetime, ...]
    end: datetime
    grain: Grain
    zone: str
    _packed: bytes = field(default=b"", init=False, repr=False, compare=False)
    _alignment: int = field(default=-1, init=False, repr=False, compare=False)

    def __reduce__(self) -> tuple[type[TimeGrid], tuple[tuple[datetime, ...], datetime, Grain, str]]:
        return TimeGrid, (self.starts, self.end, self.grain, self.zone)

    @property
    def packed(self) -> bytes:
        """The starts in microseconds since 1970, as 64-bit little-endian integers."""
        if not self._packed:
            values = [floor(start.timestamp()) * 1_000_000 + start.microsecond for start in self.starts]
            object.__setattr__(self, "_packed", pack(f"<{len(values)}q", *values))
        return self._packed

    @property
    def alignment(self) -> int:
        """The widest number of microseconds of which every start but the first is a multiple; 0 with one bucket."""
        if self._alignment < 0:
            if self.days and len(self.starts) > 2:  # one after the other, so they have no more in common
                found = _DAY
            else:
                found = gcd(*unpack(f"<{len(self.starts) - 1}q", self.packed[8:]))
            object.__setattr__(self, "_alignment", found)
        return self._alignment

    @property
    def days(self) -> int:
        """How many days every bucket has, from one midnight of UTC to another; 0 where a clock may be changed."""
        return _DAYS.get(self.grain, 0) if self.zone == "UTC" else 0

    def index(self, instant: datetime) -> int:
        """Position of the bucket that contains the instant; -1 before the grid."""
        return bisect_right(self.starts, instant) - 1

    def part(self, bounds: AbsoluteRange) -> TimeGrid:
        """What :func:`build` gives for a range within this grid of calendar units, in microseconds.

        Raises:
            TooManyBucketsError: As :func:`build` does.
        """
        if self.days:
            low = self.index(bounds.start)
        else:
            zone = ZoneInfo(self.zone)
            first = local_midnight(floor_date(bounds.start.astimezone(zone).date(), self.grain), zone)
            low = bisect_left(self.starts, first)
        high = max(low + 1, bisect_left(self.starts, bounds.end))
        if high - low > MAX_BUCKETS:
            raise TooManyBucketsError(f"more than {MAX_BUCKETS} buckets of one {self.grain}")
        found = TimeGrid(self.starts[low:high], self.starts[high], self.grain, self.zone)
        object.__setattr__(found, "_packed", self.packed[8 * low : 8 * high])
        return found


def local_midnight(day: date, zone: ZoneInfo) -> datetime:
    """The first instant of a local date, in UTC, also where midnight is skipped or repeated.

    A skipped midnight resolves to the instant of the transition; of a repeated one the first is taken (fold 0).
    """
    return datetime(day.year, day.month, day.day, tzinfo=zone, fold=0).astimezone(UTC)


def local_date(instant: datetime, zone: ZoneInfo) -> date:
    """The last local date that has begun: the next one still where the clock went back over midnight (St. John's)."""
    day = instant.astimezone(zone).date()
    following = day + timedelta(days=1)
    return following if local_midnight(following, zone) <= instant else day


def floor_date(day: date, grain: Grain) -> date:
    """First date of the calendar unit that contains the date. Weeks begin on Monday (ISO 8601)."""
    match grain:
        case Grain.DAY:
            return day
        case Grain.WEEK:
            return day - timedelta(days=day.weekday())
        case Grain.MONTH:
            return day.replace(day=1)
        case Grain.QUARTER:
            return day.replace(month=day.month - (day.month - 1) % 3, day=1)
        case Grain.YEAR:
            return day.replace(month=1, day=1)
        case _:
            raise ValueError(f"{grain} is not a calendar grain")


def add_units(day: date, grain: Grain, count: int) -> date:
    """The date ``count`` calendar units later; a day past the month's end becomes the month's last day."""
    if grain in _DAYS:
        return day + timedelta(days=_DAYS[grain] * count)
    months = day.year * 12 + day.month - 1 + _MONTHS[grain] * count
    year, month = divmod(months, 12)
    for last in (day.day, 30, 29, 28):
        if last <= day.day:
            try:
                return date(year, month + 1, last)
            except ValueError:
                continue
    raise ValueError(f"no date {count} {grain} after {day}")


def resolve(selection: TimeRange, zone_name: str, now: datetime) -> AbsoluteRange:
    """The instants of a range; relative ranges are resolved against ``now`` once, here."""
    zone = ZoneInfo(zone_name)
    match selection:
        case AbsoluteRange():
            return selection
        case DateRange(start, end):
            return AbsoluteRange(local_midnight(start, zone), local_midnight(end, zone))
        case RelativeRange(count, unit, include_current) if unit.calendar:
            current = floor_date(now.astimezone(zone).date(), unit)
            last = add_units(current, unit, 1) if include_current else current
            return AbsoluteRange(
                local_midnight(add_units(last, unit, -count), zone), local_midnight(last, zone)
            )
        case RelativeRange(count, unit, include_current):
            width = _CLOCK[unit]
            current = _clock_floor(now, width, zone)
            end = _clock_end(current, width, zone) if include_current else current
            start = end - width * count
            if _clock_floor(start, width, zone) != start:
                # The offset changed by less than a unit in between (Lord Howe): count buckets.
                start = build(AbsoluteRange(start - width, end), unit, zone_name).starts[-count]
            return AbsoluteRange(start, end)


def build(bounds: AbsoluteRange, grain: Grain, zone_name: str) -> TimeGrid:
    """The grid whose buckets cover the range.

    Raises:
        TooManyBucketsError: The range holds more than ``MAX_BUCKETS`` buckets.
    """
    zone = ZoneInfo(zone_name)
    source = (
        _calendar_starts(bounds, grain, zone)
        if grain.calendar
        else _clock_starts(bounds, _CLOCK[grain], zone)
    )
    starts: list[datetime] = []
    for start in source:
        if starts and start <= starts[-1]:
            continue  # a date that the zone skipped (Samoa, 2011-12-30) begins when the next one does
        if start >= bounds.end and starts:
            return TimeGrid(tuple(starts), start, grain, zone_name)
        starts.append(start)
        if len(starts) > MAX_BUCKETS:
            raise TooManyBucketsError(f"more than {MAX_BUCKETS} buckets of one {grain}")
    raise AssertionError("bucket starts are endless")


def _calendar_starts(bounds: AbsoluteRange, grain: Grain, zone: ZoneInfo) -> Iterator[datetime]:
    day = floor_date(local_date(bounds.start, zone), grain)
    if zone.key == "UTC" and grain in _DAYS:  # no clock is ever changed
        start, width = datetime(day.year, day.month, day.day, tzinfo=UTC), timedelta(days=_DAYS[grain])
        while True:
            yield start
            start += width
    while True:
        yield local_midnight(day, zone)
        day = add_units(day, grain, 1)


def _clock_starts(bounds: AbsoluteRange, width: timedelta, zone: ZoneInfo) -> Iterator[datetime]:
    """Multiples of the width on the local clock, and offset changes, from the bucket that holds the start.

    Goes in strides of six hours, in which no zone has ever changed its offset twice, and looks once in each.
    """
    stride = width * max(1, timedelta(hours=6) // width)
    current = _clock_floor(bounds.start, width, zone)
    while True:
        yield current
        following = _clock_floor(current, width, zone, snap=False) + width
        horizon = following - width + stride
        current = _first_change(current, horizon, zone) or horizon
        while following < current:
            yield following
            following += width


def _clock_end(start: datetime, width: timedelta, zone: ZoneInfo) -> datetime:
    """Where the bucket that begins at ``start`` ends: at the next multiple of the width, or at an earlier change."""
    following = _clock_floor(start, width, zone, snap=False) + width
    return _first_change(start, following, zone) or following


def _clock_floor(instant: datetime, width: timedelta, zone: ZoneInfo, *, snap: bool = True) -> datetime:
    """Latest multiple of the width on the local clock at the instant's own offset, but not before an offset change."""
    local = instant.astimezone(zone)
    since_midnight = timedelta(
        hours=local.hour, minutes=local.minute, seconds=local.second, microseconds=local.microsecond
    )
    floor = instant.astimezone(UTC) - since_midnight % width
    return (_first_change(floor, instant, zone) or floor) if snap else floor


def _first_change(low: datetime, high: datetime, zone: ZoneInfo) -> datetime | None:
    """The instant in ``(low, high]`` at which the offset changes, or None."""
    before = low.astimezone(zone).utcoffset()
    if high.astimezone(zone).utcoffset() == before:
        return None
    lo, hi = int(low.timestamp()), int(high.timestamp())
    while hi - lo > 1:
        mid = (lo + hi) // 2
        if datetime.fromtimestamp(mid, zone).utcoffset() == before:
            lo = mid
        else:
            hi = mid
    return datetime.fromtimestamp(hi, UTC)
