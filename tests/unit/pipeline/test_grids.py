"""Grids that are parts of decades are the grids that are built for their range alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from broker.domain.query import AbsoluteRange, Grain
from broker.domain.timegrid import build
from broker.pipeline.grids import GridCache

ZONES = ("UTC", "America/New_York", "Pacific/Apia", "America/Sao_Paulo", "Asia/Kathmandu", "Asia/Beirut")
CALENDAR = tuple(grain for grain in Grain if grain.calendar)


@pytest.mark.parametrize("zone", ZONES)
def test_parts_of_decades_are_built_grids(zone: str) -> None:
    random, grids = Random(zone), GridCache()
    for _ in range(120):
        start = datetime(random.choice([1969, 1987, 2009, 2011]), 1, 1, tzinfo=UTC) + timedelta(
            minutes=random.randrange(5 * 365 * 1440)
        )
        bounds = AbsoluteRange(start, start + timedelta(minutes=random.choice([1, 1440, 50_000, 900_000])))
        for grain in CALENDAR:
            found, expected = grids(bounds, grain, zone), build(bounds, grain, zone)
            assert found == expected, (bounds, grain)
            assert found.packed == expected.packed
            assert found.alignment == expected.alignment
            assert grids(bounds, grain, zone) is found


@pytest.mark.parametrize("year", [3, 1949, 2099, 9000])
def test_ranges_far_from_now_are_built_alone(year: int) -> None:
    start = datetime(year, 12, 30, 12, tzinfo=UTC)
    bounds = AbsoluteRange(start, start + timedelta(days=9))
    assert GridCache()(bounds, Grain.WEEK, "Asia/Tokyo") == build(bounds, Grain.WEEK, "Asia/Tokyo")
