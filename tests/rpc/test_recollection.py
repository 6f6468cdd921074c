"""Requests that come again are answered from what is held without being read, and their answers say the same."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import grpc
import pytest

from broker.domain.deadline import Deadline
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.held import Held, Reach
from broker.domain.pool import PoolName
from broker.domain.principal import Principal
from broker.domain.request import CallContext
from broker.domain.terms import AnswerPolicy
from broker.transport.call import Call
from broker.transport.decode_request import decode_dashboard
from broker.transport.recollection import Recollection, split
from querybroker.v1 import query_service_pb2
from tests.rpc.fakes import answer
from tests.rpc.repeating import KEYED, Cache, ask, request
from tests.rpc.serving import Serving, serving


@pytest.fixture
async def cache() -> Cache:
    """What is held."""
    return Cache()


@pytest.fixture
async def broker(cache: Cache) -> AsyncIterator[Serving]:
    """A server over it."""
    async with serving() as running:
        running.queries.on_dashboard, running.queries.on_again = cache.dashboard, cache.again
        yield running


def timeless(response: object) -> str:
    """A response without what differs from call to call."""
    assert isinstance(response, query_service_pb2.DashboardResponse)
    plain = query_service_pb2.DashboardResponse.FromString(response.SerializeToString())
    plain.ClearField("request_id")
    for panel in plain.panels:
        for name in ("as_of", "staleness", "request_id"):
            panel.status.ClearField(name)
    return str(plain)


async def test_a_request_that_comes_again_is_not_read_and_answered_the_same(
    broker: Serving, cache: Cache
) -> None:
    await ask(broker, request())
    second, noted = await ask(broker, request())
    assert (cache.reads, cache.agains) == (2, 0)
    third, recalled = await ask(broker, request())
    assert (cache.reads, cache.agains) == (2, 1)
    assert timeless(third) == timeless(second)
    assert noted["querybroker-answer-kind"] == "cache_fresh"
    assert recalled == {"querybroker-answer-kind": "cache_fresh"}, "the rest is in the message"
    assert isinstance(third, query_service_pb2.DashboardResponse)
    for panel in third.panels:
        assert panel.status.as_of.ToDatetime(UTC) <= datetime.now(UTC)
        assert panel.status.staleness.ToTimedelta() < timedelta(seconds=1)
        assert panel.status.request_id == third.request_id
        assert panel.status.guarantee_bound.ToTimedelta() == timedelta(seconds=0.25)


async def test_each_call_has_its_own_request_id(broker: Serving, cache: Cache) -> None:
    named = [str(uuid.uuid4()) for _ in range(4)]
    for one in named:
        response, _ = await ask(broker, request(request_id=one))
        assert isinstance(response, query_service_pb2.DashboardResponse)
        assert response.request_id == one
    assert cache.reads == 2, "the id is no part of what a request means"


async def test_an_answer_that_is_held_no_more_is_read(broker: Serving, cache: Cache) -> None:
    for _ in range(3):
        await ask(broker, request())
    cache.held.clear()
    response, _ = await ask(broker, request())
    assert cache.reads == 3
    assert isinstance(response, query_service_pb2.DashboardResponse)
    assert [panel.status.kind for panel in response.panels] == [1, 1], "live"


async def test_a_newer_answer_is_given_with_its_own_status(broker: Serving, cache: Cache) -> None:
    for _ in range(3):
        await ask(broker, request(panels=1))
    larger = answer(500)
    cache.held["p0"] = Held("p0", larger.table, larger.status, Reach("flights"))
    response, _ = await ask(broker, request(panels=1))
    assert isinstance(response, query_service_pb2.DashboardResponse)
    assert (cache.reads, response.panels[0].table.row_count) == (2, 500)


async def test_another_principal_is_read_anew(broker: Serving, cache: Cache) -> None:
    for _ in range(3):
        await ask(broker, request())
    await ask(broker, request(), metadata=KEYED)
    assert cache.reads == 3
    for _ in range(3):
        await ask(broker, request(), metadata=KEYED)
        await ask(broker, request())
    assert cache.reads == 3, "each is remembered for itself"


async def test_a_small_receiver_is_read_anew(broker: Serving, cache: Cache) -> None:
    cache.held = {
        f"p{i}": Held(f"p{i}", answer(900).table, answer().status, Reach("flights")) for i in range(2)
    }
    for _ in range(2):
        await ask(broker, request())
    assert cache.reads == 1
    response, _ = await ask(broker, request(), metadata=(("querybroker-max-response-bytes", "1500"),))
    assert cache.reads == 2
    assert isinstance(response, query_service_pb2.DashboardResponse)
    assert any(panel.HasField("error") for panel in response.panels), "one of them did not fit"


@dataclass
class Watch:
    """A clock that stands still."""

    at: datetime

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return 0.0


async def test_what_is_relative_to_now_means_the_same_until_the_minute_ends(cache: Cache) -> None:
    read = datetime(2026, 3, 1, 12, 0, 59, tzinfo=UTC)
    watch = Watch(read + timedelta(seconds=0.9))
    recollection = Recollection(cache.again, watch)
    asked = request(relative=True, panels=1)
    raw, principal = asked.SerializeToString(), Principal("a", "b")
    for _ in range(2):
        context = CallContext("r", principal, Deadline(10.0), read)
        ask = decode_dashboard(asked, AnswerPolicy())
        recollection.remember(Call(context, 1 << 20, raw), ask, await cache.dashboard(context, ask))
    assert recollection.recall(split(raw)[1], principal, 1 << 20, 0.0) is not None
    watch.at = read + timedelta(seconds=1)  # a request that is read now may mean other instants
    assert recollection.recall(split(raw)[1], principal, 1 << 20, 0.0) is None
    watch.at = read
    assert recollection.recall(split(raw)[1], principal, 1 << 20, 0.0) is None, "it was forgotten"


async def test_the_door_is_for_requests_that_have_to_be_read(cache: Cache) -> None:
    closed: list[bool] = []

    def door(pool: PoolName, _principal: Principal, _left: float) -> BrokerError | None:
        return BrokerError(ErrorReason.OVERLOADED, "no seat", retry_after=1.0) if closed else None

    async with serving(door=door) as running:
        running.queries.on_dashboard, running.queries.on_again = cache.dashboard, cache.again
        for _ in range(2):
            await ask(running, request())
        closed.append(True)
        await ask(running, request())
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await ask(running, request(panels=3))
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
