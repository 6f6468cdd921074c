"""Calendars of time zones, as pieces of constant offset.

Everything follows from one list per zone: the instants at which the offset changes, and the offset from there on.
An instant is an integer, microseconds since 1970 in UTC; a *local time* is the same on the zone's clock, so it may
stand for no instant (skipped) or for two (repeated). A day is its number since 1970-01-01.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
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
_FIRST, _LAST = datetime(1990, 1, 1, tzinfo=UTC), datetime(2040, 1, 1, tzinfo=UTC)
_STEP = timedelta(hours=6)

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


@dataclass(frozen=True, slots=True)
class ZoneClock:
    """The clock of a zone from 1990 to 2040: ``offsets[i]`` is added from ``changes[i]`` to ``changes[i + 1]``."""

    name: str
    changes: Instants
    offsets: Instants

    def local(self, instants: Instants) -> Instants:
        """Local times of instants."""
        local: Instants = instants + self.offsets[self._piece(instants)]
        return local

    def instants(self, local: int) -> list[int]:
        """The instants that show a local time, in order: none, one or two."""
        there = local - self.offsets
        return [int(i) for i in there[(self.changes <= there) & (there < self._ends())]]

    def as_if_unchanged(self, local: int) -> int:
        """The instant at which a clock that was not put forward would show a local time that the zone skips."""
        for change, before, after in zip(self.changes[1:], self.offsets, self.offsets[1:], strict=False):
            if change + before <= local < change + after:
                return int(local - before)
        raise ValueError("the local time is not skipped")

    def first_instant(self, day: int) -> int:
        """The first instant whose local date is that day or later: midnight, or the change that skips it."""
        piece = int(np.argmax(self._ends() + self.offsets > day * DAY))
        return max(int(self.changes[piece]), day * DAY - int(self.offsets[piece]))

    def labels(self, instants: Instants, grain: str) -> Instants:
        """The beginning of the bucket that holds each instant."""
        if grain in CLOCK_WIDTHS:
            pieces = self._piece(instants)
            local = instants + self.offsets[pieces]
            floors = local // CLOCK_WIDTHS[grain] * CLOCK_WIDTHS[grain] - self.offsets[pieces]
            starts: Instants = np.maximum(floors, self.changes[pieces])
            return starts
        days = first_days(self.local(instants) // DAY, grain)
        unique, positions = np.unique(days, return_inverse=True)
        starts = np.array([self.first_instant(int(day)) for day in unique], dtype=np.int64)
        return starts[positions] if len(unique) else starts

    def label(self, instant: int, grain: str) -> int:
        """The beginning of the bucket that holds the instant."""
        return int(self.labels(np.array([instant], dtype=np.int64), grain)[0])

    def following(self, start: int, grain: str) -> int:
        """The beginning of the next bucket after the one that begins at ``start``."""
        if grain in CLOCK_WIDTHS:
            piece = int(self._piece(np.array([start]))[0])
            offset, width = int(self.offsets[piece]), CLOCK_WIDTHS[grain]
            following = (start + offset) // width * width + width - offset
            return min(following, int(self._ends()[piece]))
        day = int(first_days(self.local(np.array([start])) // DAY, grain)[0])
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

    def _piece(self, instants: Instants) -> npt.NDArray[np.intp]:
        pieces: npt.NDArray[np.intp] = np.searchsorted(self.changes, instants, side="right") - 1
        return pieces

    def _ends(self) -> Instants:
        return np.append(self.changes[1:], micros(_LAST))


def first_days(days: Instants, grain: str) -> Instants:
    """The first day of the calendar unit of each day. Weeks begin on Monday; 1970-01-01 was a Thursday."""
    if grain == "DAY":
        return days
    if grain == "WEEK":
        return (days + 3) // 7 * 7 - 3
    months = days.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)
    firsts = months // MONTHS[grain] * MONTHS[grain]  # 1970-01 is month 0 and begins a quarter and a year
    return firsts.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)


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
    """The clock of an IANA zone; the changes are found by looking every six hours, and between by bisection."""
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
    return ZoneClock(name, np.array(changes) * SECOND, np.array(offsets) * SECOND)
