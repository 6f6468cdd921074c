"""Where buckets of a grain begin, by enumeration in a zone, in microseconds."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from struct import iter_unpack
from zoneinfo import ZoneInfo

from broker.domain.query import Grain
from broker.domain.rollup import EPOCH, Rule, Span, micros
from broker.domain.timegrid import TimeGrid, add_units, floor_date, local_date, local_midnight

WIDTHS = {Grain.MINUTE: 60_000_000, Grain.FIFTEEN_MINUTES: 900_000_000, Grain.HOUR: 3_600_000_000}
"""Of buckets that begin at every multiple of a width in UTC."""
_DAY = 86_400_000_000
_LEAST = {Grain.WEEK: 5, Grain.MONTH: 26, Grain.QUARTER: 88, Grain.YEAR: 363}
"""Days that no bucket of the calendar is shorter than: a zone may leave out a day, and clocks are changed."""
_FIRST = micros(datetime(2, 1, 1, tzinfo=UTC))
_LAST = micros(datetime(9998, 1, 1, tzinfo=UTC))
_HELD = 4096
_TELLING = 24
"""Misaligned buckets that are looked at for a reason."""


def beginning(at: int, otherwise: int) -> int:
    """The instant, or another where it is so early that it stands for no bound."""
    return at if at > _FIRST else otherwise


def ending(at: int, otherwise: int) -> int:
    """The instant, or another where it is so late that it stands for no bound."""
    return at if at < _LAST else otherwise


def limited(span: Span) -> bool:
    """Whether a span has bounds on both sides."""
    return span.lo > _FIRST and span.hi < _LAST


class Boundaries:
    """The beginnings of one grain's buckets: in UTC up to an hour, else at midnights of a zone.

    With a ``width`` they are its multiples; so are days of UTC. Instants outside of the years 2 to 9997, the ends of
    time among them, count as boundaries.
    """

    def __init__(self, grain: Grain, zone: str) -> None:
        self.grain, self.zone = grain, zone
        self.width = _DAY if grain is Grain.DAY and zone == "UTC" else WIDTHS.get(grain, 0)
        self.least = self.width or _LEAST.get(grain, 0) * _DAY
        """Nothing that is shorter holds a whole bucket."""
        self._around = lru_cache(_HELD)(partial(_around, grain, ZoneInfo(zone)))

    def floor(self, at: int) -> int:
        """The last beginning that is not after the instant."""
        if not _FIRST <= at < _LAST:
            return at
        return at - at % self.width if self.width else self._around(at)[0]

    def ceil(self, at: int) -> int:
        """The first beginning that is not before the instant."""
        if not _FIRST <= at < _LAST:
            return at
        return at + -at % self.width if self.width else self._around(at)[1]

    def begin(self, cuts: Iterable[int]) -> list[bool]:
        """Whether a bucket begins at each of the instants."""
        if width := self.width:  # most of the calls of a decision are these
            return [not at % width or not _FIRST <= at < _LAST for at in cuts]
        return [self.floor(at) == at for at in cuts]

    def inner(self, span: Span) -> Span:
        """The whole buckets within a span; without any, its end is not after its beginning."""
        lo, hi, width = *span, self.width
        if width and lo >= _FIRST and hi < _LAST:
            return Span(lo + -lo % width, hi - hi % width)
        return Span(self.ceil(span.lo), self.floor(span.hi))

    def outer(self, span: Span) -> Span:
        """All buckets that a span touches."""
        return Span(self.floor(span.lo), self.ceil(span.hi))


def _around(grain: Grain, zone: ZoneInfo, at: int) -> tuple[int, int]:
    """The beginnings before and after the instant, which is both when it is one itself."""
    day = floor_date(local_date(EPOCH + timedelta(microseconds=at), zone), grain)
    before = micros(local_midnight(day, zone))
    return before, at if before == at else micros(local_midnight(add_units(day, grain, 1), zone))


def aligned(grid: TimeGrid, span: Span, base: Boundaries) -> bool:
    """Whether buckets of the grid within the span can be put together from buckets of the base."""
    if base.width:
        if grid.alignment % base.width == 0:
            return True
    elif grid.grain is base.grain and grid.zone == base.zone:
        return True  # the same enumeration
    starts = (at for (at,) in iter_unpack("<q", grid.packed[8:]))
    return all(base.floor(at) == at for at in starts if span.lo < at < span.hi)


def misalignment(grid: TimeGrid, span: Span, base: Boundaries) -> Rule | None:
    """Why buckets of the grid cannot be put together from buckets of the base, or None when they can.

    TZ when they could if the grid's zone were that of the base, else GRAIN; the first misaligned ones of a long grid
    tell which.
    """
    zone, found, seen = ZoneInfo(grid.zone), None, 0
    for start in grid.starts[1:]:
        at = micros(start)
        if span.lo < at < span.hi and base.floor(at) != at:
            found, seen = _why(start.astimezone(zone), base), seen + 1
            if found is Rule.GRAIN or seen == _TELLING:
                return found
    return found


def _why(local: datetime, base: Boundaries) -> Rule:
    """Whether the wall clock shows a beginning of the base's buckets, were it the base's own clock."""
    if base.width:
        fits = micros(local.replace(tzinfo=UTC)) % base.width == 0
    else:
        fits = local.time() == datetime.min.time() and floor_date(local.date(), base.grain) == local.date()
    return Rule.TZ if fits else Rule.GRAIN
