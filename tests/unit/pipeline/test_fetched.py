"""What cannot be fetched is left to the tables, unless they no longer have it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from broker.domain.deadline import Deadline
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.plan import LocalFile
from broker.domain.principal import Principal
from broker.domain.query import Query
from broker.domain.rollup import Cover, Coverage, Piece, Rollup, Segment, Span
from broker.pipeline.fetched import fetched
from broker.pipeline.routes import Route, ScanRoute
from broker.policy.resolve import resolve_query
from broker.policy.rollups.costs import Costs
from tests.support.datasets import flights
from tests.support.segments import BY_CARRIER, DAY, START, FakeSegments

AWAY = BrokerError(ErrorReason.STORE_UNAVAILABLE, "no room")
SOON = Deadline(1.0)


class Mirror:
    """Has the segments of some ids; fetching the others fails."""

    def __init__(self, here: set[int], error: Exception | None = None) -> None:
        self.here, self.error = here, error
        self.asked: list[int] = []

    def local(self, rollup: Rollup, segment: Segment) -> tuple[LocalFile, ...] | None:
        return () if segment.id in self.here else None

    async def ensure(self, rollup: Rollup, segments: Sequence[Segment], deadline: Deadline) -> None:
        self.asked += [segment.id for segment in segments]
        if self.error is not None:
            raise self.error
        self.here |= {segment.id for segment in segments}

    def want(self, rollup: Rollup, segments: Sequence[Segment]) -> None:
        raise AssertionError

    def forget(self, path: str) -> None:
        raise AssertionError


def route() -> Route:
    dataset = replace(flights(), rollups={BY_CARRIER.name: BY_CARRIER})
    plan = resolve_query(Query("flights", ("flights",)), dataset, Principal("ada", "acme"), START)
    return Route((ScanRoute(plan.main, (BY_CARRIER,), ()),), Costs.predicted(1.0))


COVER = Cover((Piece("by_carrier", (Span(1 * DAY, 3 * DAY),)), Piece("", (Span(3 * DAY, 4 * DAY),))), 0.1)


@pytest.fixture
def coverage() -> dict[str, Coverage]:
    store = FakeSegments()
    return {"by_carrier": Coverage("by_carrier", tuple(store.segment(n) for n in range(4)))}


def ids(coverage: Coverage) -> list[int]:
    return [segment.id for segment in coverage.segments]


async def test_only_what_the_cover_needs_and_is_not_here_is_fetched(coverage: dict[str, Coverage]) -> None:
    mirror = Mirror({1})
    assert await fetched(mirror, route(), [COVER], coverage, SOON) == {}
    assert mirror.asked == [2]
    assert await fetched(mirror, route(), [COVER], coverage, SOON) == {}
    assert mirror.asked == [2]


@pytest.mark.parametrize("error", [AWAY, LookupError("replaced")])
async def test_what_cannot_be_had_is_left_out(coverage: dict[str, Coverage], error: Exception) -> None:
    less = await fetched(Mirror({1}, error), route(), [COVER], coverage, SOON)
    assert ids(less["by_carrier"]) == [0, 1, 3]


@pytest.mark.parametrize("error", [AWAY, LookupError("replaced")])
async def test_a_sealed_segment_must_be_had(coverage: dict[str, Coverage], error: Exception) -> None:
    own = coverage["by_carrier"]
    sealed = replace(own, segments=tuple(replace(s, sealed=s.id == 2) for s in own.segments))
    less = await fetched(Mirror(set(), error), route(), [COVER], {"by_carrier": sealed}, SOON)
    assert ids(less["by_carrier"]) == [0, 2, 3]
    with pytest.raises(BrokerError) as raised:
        await fetched(Mirror(set(), error), route(), [COVER], less, SOON)
    assert raised.value.reason is ErrorReason.STORE_UNAVAILABLE


async def test_there_is_no_time_left_for_the_tables_either(coverage: dict[str, Coverage]) -> None:
    late = BrokerError(ErrorReason.DEADLINE_EXCEEDED, "late")
    with pytest.raises(BrokerError) as raised:
        await fetched(Mirror(set(), late), route(), [COVER], coverage, SOON)
    assert raised.value is late
