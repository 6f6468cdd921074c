"""The short way is taken by those whom it is for, and counts what it gives."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace

import grpc
import pytest

from broker.adapters.auth_keys import KeyAuthenticator
from broker.domain.principal import Principal
from broker.transport.drain import Gate
from querybroker.v1 import query_service_pb2
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


async def test_an_answer_that_is_too_large_is_not_counted_and_one_beyond_the_quota_is_read(
    broker: Serving, cache: Cache
) -> None:
    for _ in range(3):
        await ask(broker, request())
    assert (cache.reads, cache.counted) == (2, 1)
    for _ in range(2):
        await ask(broker, request(), metadata=(("querybroker-max-response-bytes", "100"),))
    assert (cache.reads, cache.counted) == (4, 1), "what is read is counted where it is answered"
    cache.quota = False
    await ask(broker, request())
    assert (cache.reads, cache.counted) == (5, 2)


async def test_an_id_of_another_length_and_the_usual_one_take_turns(broker: Serving, cache: Cache) -> None:
    for _ in range(2):
        await ask(broker, request())
    for named in ("a", "b" * 128, "", "c" * 40, ""):
        response, _ = await ask(broker, request(), metadata=(("x-request-id", named),) if named else ())
        assert isinstance(response, query_service_pb2.DashboardResponse)
        assert {panel.status.request_id for panel in response.panels} == {response.request_id}
        assert response.request_id == named or (not named and len(response.request_id) == 36)
    assert cache.reads == 2, "the id is no part of who asks"


async def test_a_draining_server_recalls_nothing(cache: Cache) -> None:
    gate = Gate()
    async with serving(gate=gate) as running:
        running.queries.on_dashboard, running.queries.on_again = cache.dashboard, cache.again
        for _ in range(3):
            await ask(running, request())
        gate.close()
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await ask(running, request())
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_credentials_that_may_end_are_looked_at_every_time(
    broker: Serving, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, authenticate = [], KeyAuthenticator.authenticate

    async def counted(self: KeyAuthenticator, metadata: Mapping[str, str], peer: str) -> Principal:
        asked.append(peer)
        return await authenticate(self, metadata, peer)

    monkeypatch.setattr(KeyAuthenticator, "authenticate", counted)
    for _ in range(4):
        await ask(broker, request(), metadata=KEYED)
    assert (cache.reads, cache.agains, len(asked)) == (2, 1, 1), "a key is the same as long as the process"
    monkeypatch.setattr(KeyAuthenticator, "lasting", lambda *_: False)
    for _ in range(3):
        await ask(broker, request())
    assert (cache.reads, len(asked)) == (3, 4)


async def test_a_new_connection_has_what_others_have_asked_for(broker: Serving, cache: Cache) -> None:
    for _ in range(2):
        await ask(broker, request())
    options = (("grpc.use_local_subchannel_pool", 1),)
    async with grpc.aio.insecure_channel(broker.address, options=options) as channel:
        await ask(replace(broker, channel=channel), request())
    assert (cache.reads, cache.agains) == (2, 1)


async def test_who_calls_is_told_by_what_identifies_and_by_nothing_else(
    broker: Serving, cache: Cache
) -> None:
    for number in range(4):
        await ask(broker, request(), metadata=(("x-number", str(number)),))
    assert (cache.reads, cache.agains) == (2, 1)
    for told in (("x-forwarded-for", "10.0.0.1"), ("authorization", "Bearer qb_unknown")):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await ask(broker, request(), metadata=(told,))
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await ask(broker, request(), metadata=(("querybroker-criticality", "unheard of"),))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert cache.reads == 2
