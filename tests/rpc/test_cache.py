"""InvalidateCache: what it names is what is removed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2

from broker.domain.answer import Interval
from querybroker.client import Client
from querybroker.v1.admin_service_pb2 import InvalidateCacheRequest
from querybroker.v1.admin_service_pb2_grpc import AdminServiceStub
from querybroker.v1.answer_pb2 import TimeInterval
from tests.rpc.raw import detail, status
from tests.rpc.serving import Serving, serving

APRIL = TimeInterval(start_time=Timestamp(seconds=1_364_774_400))


@dataclass
class FakeCache:
    """Tells what it was asked to remove."""

    asked: list[tuple[str, str, Interval | None]] = field(default_factory=list)

    async def invalidate(self, dataset: str, rollup: str, interval: Interval | None) -> int:
        """Removes as many as it was asked."""
        self.asked.append((dataset, rollup, interval))
        return len(self.asked)


@pytest.fixture
def cache() -> FakeCache:
    return FakeCache()


@pytest.fixture
async def served(cache: FakeCache) -> AsyncIterator[Serving]:
    async with serving(cache=cache) as running:
        yield running


async def test_datasets_rollups_and_intervals_are_handed_on(served: Serving, cache: FakeCache) -> None:
    async with Client(served.address) as client:
        assert await client.cache.invalidate() == 1
        assert await client.cache.invalidate("flights") == 2
        assert await client.cache.invalidate(rollup="datasets/flights/rollups/daily", interval=APRIL) == 3
        assert [tier.name for tier in await client.cache.tiers()] == [
            tier.name for tier in (await served.admin.state()).caches
        ]
    april = Interval(datetime(2013, 4, 1, tzinfo=UTC), None)
    assert cache.asked == [("", "", None), ("flights", "", None), ("flights", "daily", april)]


@pytest.mark.parametrize(
    ("request_", "field_"),
    [
        (InvalidateCacheRequest(dataset="flights"), "dataset"),
        (InvalidateCacheRequest(rollup="flights.daily"), "rollup"),
        (InvalidateCacheRequest(dataset="datasets/a", rollup="datasets/b/rollups/c"), "rollup"),
        (
            InvalidateCacheRequest(
                interval=TimeInterval(start_time=APRIL.start_time, end_time=APRIL.start_time)
            ),
            "interval.end_time",
        ),
    ],
)
async def test_what_cannot_be_meant_removes_nothing(
    served: Serving, cache: FakeCache, request_: InvalidateCacheRequest, field_: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await AdminServiceStub(served.channel).InvalidateCache(request_)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    bad = detail(status(caught.value), error_details_pb2.BadRequest)
    assert bad is not None
    assert [violation.field for violation in bad.field_violations] == [field_]
    assert cache.asked == []
