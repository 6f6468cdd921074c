"""Buckets and partitions of rollups: which widths fit into which, and where days begin."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from broker.config.document import Path
from broker.config.schema_rollups import RollupConfig
from broker.domain.model import Dimension
from broker.domain.query import Grain
from broker.domain.rollup import Storage
from broker.domain.timegrid import MAX_BUCKETS, local_midnight
from broker.domain.values import DataType
from broker.policy.ranges import CLOCK_WIDTH

FIRST_YEAR, LAST_YEAR = 2000, 2037
"""Years of which offsets are looked at where `start` does not say more; the tables of zones end with the last."""
_ORDER = tuple(Grain)


def multiple(coarse: Grain, fine: Grain) -> bool:
    """Whether every bucket of the coarser grain is made of whole buckets of the finer one, in one zone."""
    if Grain.WEEK in (coarse, fine) and coarse is not fine:
        return coarse is Grain.WEEK and _ORDER.index(fine) <= _ORDER.index(Grain.DAY)
    return _ORDER.index(fine) <= _ORDER.index(coarse)


def grains_of(given: RollupConfig, *, dated: bool) -> Sequence[Grain]:
    """The widths of a rollup's buckets, the finest first."""
    days = [Grain.DAY, Grain.MONTH]
    return given.grains or (days if dated else [Grain.FIFTEEN_MINUTES, *days])


def width_problems(
    given: RollupConfig, time: Dimension | None, grains: Sequence[Grain], partition: Grain
) -> Iterator[tuple[Path, str]]:
    """What is wrong with buckets and partitions."""
    external = given.storage is Storage.EXTERNAL
    if external and not given.grains:
        yield (), "needs `grains`: the width of the relation's buckets, such as [hour]"
    if external and len(given.grains) > 1:
        yield ("grains", 1), "an external relation has buckets of one width; declare one rollup for each"
    for i, grain in enumerate(given.grains):
        before = given.grains[i - 1] if i else None
        if time is not None and time.type is DataType.DATE and not grain.calendar:
            yield ("grains", i), f"{time.name!r} holds dates, which have no {grain}s; begin with day"
        elif before is not None and _ORDER.index(grain) <= _ORDER.index(before):
            yield ("grains", i), f"{grain} does not come after {before}; put the finest first"
        elif before is not None and not multiple(grain, before):
            yield ("grains", i), f"a {grain} is not made of whole {before}s; leave one of them out"
    if not partition.calendar:
        yield ("partition",), f"is a {partition}; partitions are of a day or more"
        return
    for grain in grains:
        if not multiple(partition, grain):
            text = f"a {partition} does not hold whole buckets of one {grain}; use a longer partition"
            if grain is Grain.WEEK:
                text = f"a week may begin in one {partition} and end in the next; use `partition: week`, or no weeks"
            yield ("partition",), text
            return
    if grains and grains[0] is Grain.MINUTE and partition in {Grain.QUARTER, Grain.YEAR}:
        text = f"a {partition} holds more than {MAX_BUCKETS} minutes, which no build reads at once; use month or less"
        yield ("partition",), text


def read_start(text: str, zone: str) -> datetime | None:
    """The instant of a date, which begins in the zone, or of an instant with its offset; None when it is neither."""
    try:
        if len(text) == 10:
            return local_midnight(date.fromisoformat(text), ZoneInfo(zone or "UTC"))
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


def odd_offset(zone: str, base: Grain, start: datetime | None) -> str | None:
    """An offset of the zone from UTC that is no multiple of the base's width, as ``+05:30``; None when there is none.

    Looks once a week, which no zone has ever kept an offset for less than.
    """
    width = CLOCK_WIDTH.get(base)
    if width is None or zone == "UTC":
        return None
    rules = ZoneInfo(zone)
    moment = start or datetime(FIRST_YEAR, 1, 1, tzinfo=UTC)
    while moment.year <= LAST_YEAR:
        local = moment.astimezone(rules)
        offset = local.utcoffset()
        if offset is not None and offset % width:
            sign, size = ("-", -offset) if offset < timedelta(0) else ("+", offset)
            return f"{sign}{size // timedelta(hours=1):02}:{size // timedelta(minutes=1) % 60:02}"
        moment += timedelta(days=7)
    return None
