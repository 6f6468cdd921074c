"""Which partitions should exist, and how often the rows are asked for that."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from broker.adapters.pg_rollup_extent import SHARE, Extents, wanted
from broker.domain.errors import BrokerError
from broker.domain.query import Grain
from broker.domain.rollup import Span, micros
from tests.support.rollup_world import DATASET, ROLLUP
from tests.support.segments import HandClock

NOW = datetime(2024, 6, 1, tzinfo=UTC)
ROWS = Span(micros(datetime(2024, 1, 15, tzinfo=UTC)), micros(NOW))


class Slow:
    """A connection that takes a while."""

    def __init__(self, clock: HandClock, seconds: float) -> None:
        self._clock, self._seconds = clock, seconds
        self.asked = 0

    async def fetchrow(self, _: str, **__: float) -> dict[str, int]:
        self.asked += 1
        self._clock.seconds += self._seconds
        return {"lo": ROWS.lo, "hi": ROWS.hi - 1}


@pytest.mark.parametrize(("seconds", "asked"), [(0.01, 3), (2.0, 1)])
async def test_what_takes_long_to_find_is_known_for_a_while(seconds: float, asked: int) -> None:
    clock = HandClock()
    extents, connection = Extents(clock), Slow(clock, seconds)
    for _ in range(3):
        assert await extents.find(cast(Any, connection), DATASET, ROLLUP) == ROWS
    assert connection.asked == asked
    clock.seconds += SHARE * seconds
    await extents.find(cast(Any, connection), DATASET, ROLLUP)
    assert connection.asked == asked + 1


@pytest.mark.parametrize(
    ("start", "retention", "months"),
    [
        (None, None, 5),
        (datetime(2024, 3, 10, tzinfo=UTC), None, 3),
        (datetime(2020, 1, 1, tzinfo=UTC), None, 5),
        (None, timedelta(days=40), 2),
        (datetime(2024, 3, 10, tzinfo=UTC), timedelta(days=400), 3),
        (datetime(2025, 1, 1, tzinfo=UTC), None, 0),
    ],
)
def test_start_and_retention_bound_the_partitions(
    start: datetime | None, retention: timedelta | None, months: int
) -> None:
    kept = replace(ROLLUP, start=start, retention=None if retention is None else retention.total_seconds())
    found = wanted(DATASET, kept, ROWS, NOW)
    assert len(found) == months
    assert not found or found[-1].hi >= ROWS.hi


def test_without_rows_there_are_no_partitions() -> None:
    assert wanted(DATASET, ROLLUP, None, NOW) == ()


def test_a_wrong_year_is_an_error_that_says_what_to_do() -> None:
    days = replace(ROLLUP, partition=Grain.DAY)
    with pytest.raises(BrokerError, match="`start`"):
        wanted(DATASET, days, Span(micros(datetime(24, 1, 1, tzinfo=UTC)), ROWS.hi), NOW)
    with pytest.raises(BrokerError, match="20000"):
        wanted(DATASET, days, Span(micros(datetime(1954, 1, 1, tzinfo=UTC)), ROWS.hi), NOW)
