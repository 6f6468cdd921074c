"""A database that goes away and comes back, is not there yet, or does not let the broker in."""

from __future__ import annotations

import asyncio
import socket

import asyncpg
import pytest

from broker.demo.embedded import EmbeddedPostgres
from broker.domain.errors import BrokerError, ErrorReason
from tests.integration.store.conftest import MakeStore, Watcher, read
from tests.integration.store.types_dataset import CATALOG, COUNT, SLEEP, available, unavailable
from tests.support.eventually import eventually


@pytest.mark.parametrize("kill", [False, True])
async def test_a_restart_of_the_server_needs_none_of_the_broker(
    own_postgres: EmbeddedPostgres, make_store: MakeStore, kill: bool
) -> None:
    store = await make_store(own_postgres.dsn())
    expected = await read(store, COUNT, CATALOG)
    at_work = asyncio.create_task(read(store, SLEEP, CATALOG))
    admin = await asyncpg.connect(own_postgres.dsn(), server_settings={"application_name": "watcher"})
    await eventually(Watcher(admin).something_sleeps, "the statement runs")
    if kill:
        await asyncio.to_thread(own_postgres.kill9)
    else:
        await asyncio.to_thread(own_postgres.stop)
    with pytest.raises(BrokerError) as caught:
        await at_work
    assert caught.value.reason is ErrorReason.STORE_UNAVAILABLE
    for _ in range(3):
        await unavailable(store)
    await asyncio.to_thread(own_postgres.start)
    await eventually(lambda: available(store), "the breaker closes")
    assert await read(store, COUNT, CATALOG) == expected
    assert await store.ping()
    admin.terminate()


async def test_the_broker_may_start_before_the_database(make_store: MakeStore) -> None:
    with socket.socket() as taken:  # bound but not listening: nobody else gets the port
        taken.bind(("127.0.0.1", 0))
        store = await make_store(f"postgresql://postgres@127.0.0.1:{taken.getsockname()[1]}/x")
        await unavailable(store)
        for call in (store.ping(), store._pools.check()):
            with pytest.raises(BrokerError) as caught:
                await call
            assert caught.value.reason is ErrorReason.STORE_UNAVAILABLE
            assert caught.value.retry_after is not None


async def test_wrong_credentials_are_told_without_showing_them(
    flights_dsn: str, make_store: MakeStore
) -> None:
    head, _, tail = flights_dsn.rpartition("@")
    store = await make_store(f"{head}wrong@{tail}")
    with pytest.raises(BrokerError) as caught:
        await store.ping()
    assert caught.value.reason is ErrorReason.STORE_UNAVAILABLE
    assert caught.value.metadata["condition"] == "invalid_password"
    assert "DSN" in caught.value.message
    assert head.rpartition(":")[2] not in str(vars(caught.value))
