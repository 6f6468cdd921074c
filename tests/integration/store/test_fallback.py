"""A pool whose replica is away reads the primary, if it may."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from random import Random

import pytest
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from broker.adapters.pg_connection import Settings
from broker.adapters.pg_pool import PgPools
from broker.adapters.pg_store import PgStore
from broker.app.backends import Backends, backends_of
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.pool import PoolLimits, PoolName
from broker.domain.state import Breaker
from broker.telemetry.instruments import Telemetry
from tests.integration.store.conftest import CLOCK, in_time, read
from tests.integration.store.types_dataset import CATALOG, COUNT
from tests.support.metrics import read as read_metrics

SETTINGS = Settings("store under test", connect_timeout=20.0, patience=1.0)
REJECTIONS = "querybroker.backend.breaker.rejections"


@pytest.fixture
def nowhere() -> Iterator[str]:
    """An address at which nobody listens."""
    with socket.socket() as taken:  # bound but not listening: nobody else gets the port
        taken.bind(("127.0.0.1", 0))
        yield f"postgresql://postgres@127.0.0.1:{taken.getsockname()[1]}/x"


async def test_a_pool_reads_the_primary_while_its_replica_is_away_if_it_may(
    flights_dsn: str, nowhere: str, telemetry: Telemetry, reader: InMemoryMetricReader
) -> None:
    limits = {
        PoolName.DASHBOARD: PoolLimits(8, 8, 2, 1, replica_dsn=nowhere, fallback=True),
        PoolName.EXPLORATION: PoolLimits(8, 8, 2, 1, replica_dsn=nowhere),
        PoolName.ADMIN: PoolLimits(8, 8, 2, 1),
    }
    pools = await PgPools.open(flights_dsn, limits, SETTINGS, telemetry, {"copy": nowhere}, Random(1))
    store = PgStore(pools, CLOCK)
    try:
        found, refused = [], []
        for _ in range(30):
            try:
                found.append(await read(store, COUNT, CATALOG))
            except BrokerError as error:
                refused.append(error.reason)
        assert len(found) >= 20
        assert set(refused) == {ErrorReason.STORE_UNAVAILABLE}
        assert pools.guard(PoolName.DASHBOARD).state is not Breaker.CLOSED
        assert pools.guard(PoolName.ADMIN).state is Breaker.CLOSED
        assert read_metrics(reader)[REJECTIONS]["copy", "diverted"] >= 20
        with pytest.raises(BrokerError) as caught:
            async with store.snapshot(PoolName.EXPLORATION, in_time()):
                raise AssertionError("this pool may not")
        assert caught.value.reason is ErrorReason.STORE_UNAVAILABLE
        backends = Backends(store, pools.guard, CLOCK, 5.0, backends_of(limits, {"copy": nowhere}))
        await backends.check()  # one of them answers
        told = {
            state.name: (state.breaker is Breaker.CLOSED, bool(state.last_error))
            for state in backends.states(())
        }
        assert told == {"primary": (True, False), "copy": (False, True)}
    finally:
        await pools.aclose()
