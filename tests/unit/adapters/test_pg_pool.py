"""What is asked of connection pools without a database."""

from __future__ import annotations

from broker.adapters.pg_connection import Settings
from broker.adapters.pg_pool import PgPools
from broker.domain.pool import PoolName
from broker.telemetry.instruments import Telemetry


async def test_a_pool_without_connections_is_not_down() -> None:
    pools = PgPools({}, {}, Settings(), Telemetry.off())
    assert pools.down(PoolName.JOB) is None
    await pools.aclose()
