"""The clocks of all IANA zones of the installed time zone database, and every change of an offset since 2000.

Offsets come from ``zoneinfo`` alone: an offset is looked at every two days, and changes between are found by bisection.
No zone has changed its offset twice within two days since 2000. Many names share a file, which is looked at once.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib import resources
from itertools import pairwise
from pathlib import Path
from zoneinfo import TZPATH, ZoneInfo, available_timezones

from tests.oracle.zones import SECOND, ZoneClock, micros, moment

FIRST, LAST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
"""Changes in this range are asked about."""
MARGIN = timedelta(days=180)
_STEP = timedelta(days=2)
_NO_ZONES = ("posix/", "right/", "localtime", "posixrules", "Factory")
"""Of the machine, with leap seconds, or a placeholder: not names of the IANA database."""


@dataclass(frozen=True, slots=True)
class Change:
    """An instant, in microseconds, at which clocks are changed, and their offsets before and after it."""

    at: int
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class Clocks:
    """Names of zones whose clocks have been the same since 2000: the clock and its changes, in order."""

    names: tuple[str, ...]
    clock: ZoneClock
    changes: tuple[Change, ...]


def names() -> list[str]:
    """All zones of the database."""
    return sorted(name for name in available_timezones() if not name.startswith(_NO_ZONES))


def clocks(wanted: Iterable[str]) -> list[Clocks]:
    """The clocks of the zones, each once, by the first of their names."""
    files: dict[bytes, list[str]] = {}
    for name in wanted:
        files.setdefault(_content(name), []).append(name)
    same: dict[tuple[tuple[int, int], ...], list[str]] = {}
    for shared in files.values():
        same.setdefault(_offsets(ZoneInfo(shared[0])), []).extend(shared)
    return sorted((_clocks(found, sorted(shared)) for found, shared in same.items()), key=lambda c: c.names)


def _clocks(found: tuple[tuple[int, int], ...], shared: list[str]) -> Clocks:
    changes = [Change(at, before, after) for (_, before), (at, after) in pairwise(found)]
    asked = tuple(change for change in changes if micros(FIRST) <= change.at < micros(LAST))
    return Clocks(tuple(shared), ZoneClock([at for at, _ in found], [offset for _, offset in found]), asked)


def _content(name: str) -> bytes:
    for root in TZPATH:
        path = Path(root, name)
        if path.is_file():
            return path.read_bytes()
    return resources.files("tzdata").joinpath("zoneinfo", *name.split("/")).read_bytes()


def _offsets(zone: ZoneInfo) -> tuple[tuple[int, int], ...]:
    """When each offset begins, and the offset, in microseconds; the first begins with the range."""
    first, last = round((FIRST - MARGIN).timestamp()), round((LAST + MARGIN).timestamp())
    at = partial(datetime.fromtimestamp, tz=zone)
    low, before = first, at(first).utcoffset()
    found = [(first, before)]
    for high in range(first, last, round(_STEP.total_seconds())):
        after = at(high).utcoffset()
        if after != before:
            inside = range(low + 1, high + 1)
            old = before
            found.append((inside[bisect_right(inside, 0, key=lambda s: at(s).utcoffset() != old)], after))
        low, before = high, after
    return tuple((second * SECOND, _micros(offset)) for second, offset in found)


def _micros(offset: timedelta | None) -> int:
    assert offset is not None
    return offset // timedelta(microseconds=1)


def shown(instant: int) -> str:
    """The instant for people."""
    return moment(instant).isoformat()
