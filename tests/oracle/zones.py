"""Calendars of time zones, as pieces of constant offset.

Everything follows from one list per zone: the instants at which the offset changes, and the offset from there on.
An instant is an integer, microseconds since 1970 in UTC; a *local time* is the same on the zone's clock, so it may
stand for no instant (skipped) or for two (repeated). A day is its number since 1970-01-01.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

SECOND = 1_000_000
DAY = 86_400 * SECOND
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
CLOCK_WIDTHS = {"MINUTE": 60 * SECOND, "FIFTEEN_MINUTES": 900 * SECOND, "HOUR": 3600 * SECOND}
MONTHS = {"MONTH": 1, "QUARTER": 3, "YEAR": 12}
_FIRST, _LAST = datetime(1995, 1, 1, tzinfo=UTC), datetime(2035, 1, 1, tzinfo=UTC)
_STEP = timedelta(hours=12)

Instants = npt.NDArray[np.int64]


def micros(instant: datetime) -> int:
    """An aware datetime as an instant."""
    return (instant - EPOCH) // timedelta(microseconds=1)


def moment(instant: int) -> datetime:
    """An instant as a datetime in UTC."""
    return EPOCH + timedelta(microseconds=instant)


def day_number(day: date) -> int:
    """Days since 1970-01-01."""
    return (day - EPOCH.date()).days


def day_date(number: int) -> date:
    """The date of a day's number."""
    return EPOCH.date() + timedelta(days=number)


class ZoneClock:
    """The clock of a zone from 1995 to 2035: ``offsets[i]`` is added from ``changes[i]`` to ``changes[i + 1]``."""

    def __init__(self, changes: Sequence[int], offsets: Sequence[int]) -> None:
        self._changes, self._offsets = list(changes), list(offsets)
        self._ends = [*changes[1:], micros(_LAST)]

    def local(self, instant: int) -> int:
        """The local time of an instant."""
        return instant + self._offsets[self._piece(instant)]

    def instants(self, local: int) -> list[int]:
        """The instants that show a local time, in order: none, one or two."""
        return [local - offset for start, offset, end in self._pieces() if start <= local - offset < end]

    def as_if_unchanged(self, local: int) -> int:
        """The instant at which a clock that was not put forward would show a local time that the zone skips."""
        for change, before, after in zip(self._changes[1:], self._offsets, self._offsets[1:], strict=False):
            if change + before <= local < change + after:
                return local - before
        raise ValueError("the local time is not skipped")

    def first_instant(self, day: int) -> int:
        """The first instant whose local date is that day or later: midnight, or the change that skips it."""
        # Offsets are within a day of UTC: nothing before the day before can be it.
        for piece in range(self._piece((day - 1) * DAY), len(self._changes)):
            if self._ends[piece] + self._offsets[piece] > day * DAY:
                return max(self._changes[piece], day * DAY - self._offsets[piece])
        raise OverflowError("past the end of the clock")

    def label(self, instant: int, grain: str) -> int:
        """The beginning of the bucket that holds the instant."""
        piece = self._piece(instant)
        local = instant + self._offsets[piece]
        if grain in CLOCK_WIDTHS:
            floor = local // CLOCK_WIDTHS[grain] * CLOCK_WIDTHS[grain] - self._offsets[piece]
            return max(floor, self._changes[piece])
        return self.first_instant(first_day(local // DAY, grain))

    def labels(self, instants: Instants, grain: str) -> Instants:
        """The beginning of the bucket that holds each instant."""
        unique, positions = np.unique(instants, return_inverse=True)
        labels = np.array([self.label(int(instant), grain) for instant in unique], dtype=np.int64)
        return labels[positions] if len(unique) else labels

    def following(self, start: int, grain: str) -> int:
        """The beginning of the next bucket after the one that begins at ``start``."""
        if grain in CLOCK_WIDTHS:
            piece, width = self._piece(start), CLOCK_WIDTHS[grain]
            offset = self._offsets[piece]
            return min((start + offset) // width * width + width - offset, self._ends[piece])
        day = first_day(self.local(start) // DAY, grain)
        later = start
        while later <= start:  # a date that the zone skips begins together with the next one
            day = shifted_day(day, grain, 1)
            later = self.first_instant(day)
        return later

    def earlier(self, start: int, grain: str, count: int) -> int:
        """The beginning of the bucket ``count`` buckets before the one that begins at ``start``."""
        for _ in range(count):
            start = self.label(start - 1, grain)
        return start

    def buckets(self, start: int, end: int, grain: str) -> list[int]:
        """Beginnings of all buckets that meet ``[start, end)``, in order."""
        found = [self.label(start, grain)]
        while (following := self.following(found[-1], grain)) < end:
            found.append(following)
        return found

    def _piece(self, instant: int) -> int:
        piece = bisect_right(self._changes, instant) - 1
        if piece < 0:
            raise OverflowError("before the beginning of the clock")
        return piece

    def _pieces(self) -> Iterator[tuple[int, int, int]]:
        return zip(self._changes, self._offsets, self._ends, strict=True)


def first_day(day: int, grain: str) -> int:
    """The first day of the calendar unit that holds the day. Weeks begin on Monday; 1970-01-01 was a Thursday."""
    if grain == "DAY":
        return day
    if grain == "WEEK":
        return (day + 3) // 7 * 7 - 3
    there = day_date(day)
    month = (there.month - 1) // MONTHS[grain] * MONTHS[grain] + 1
    return day_number(there.replace(month=month, day=1))


def shifted_day(day: int, unit: str, count: int) -> int:
    """The day ``count`` calendar units later; where the month is too short, its last day."""
    if unit in {"DAY", "WEEK"}:
        return day + count * (7 if unit == "WEEK" else 1)
    there = day_date(day)
    month = there.year * 12 + there.month - 1 + count * MONTHS[unit]
    first = day_number(date(month // 12, month % 12 + 1, 1))
    length = day_number(date((month + 1) // 12, (month + 1) % 12 + 1, 1)) - first
    return first + min(there.day, length) - 1


@lru_cache(maxsize=64)
def zone_clock(name: str) -> ZoneClock:
    """The clock of an IANA zone; the changes are found by looking every twelve hours, and between by bisection."""
    zone = ZoneInfo(name or "UTC")

    def offset(second: int) -> int:
        delta = datetime.fromtimestamp(second, zone).utcoffset()
        assert delta is not None
        return round(delta.total_seconds())

    first = round(_FIRST.timestamp())
    changes, offsets = [first], [offset(first)]
    looks = range(first, round(_LAST.timestamp()), round(_STEP.total_seconds()))
    for low, high in pairwise(looks):
        if offset(high) != offsets[-1]:
            inside = range(low + 1, high + 1)
            at = bisect_right(inside, 0, key=lambda second: offset(second) != offsets[-1])
            changes.append(inside[at])
            offsets.append(offset(high))
    return ZoneClock([c * SECOND for c in changes], [o * SECOND for o in offsets])
