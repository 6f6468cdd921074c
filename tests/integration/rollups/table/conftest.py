"""A store on a database of sales."""

from __future__ import annotations

from collections.abc import AsyncIterator
from random import Random

import asyncpg
import pytest

from broker.adapters.pg_connection import Settings
from broker.adapters.pg_pool import PgPools
from broker.adapters.pg_store import PgStore
from broker.domain.pool import PoolLimits, PoolName
from tests.conftest import FreshDatabase
from tests.integration.rollups.table import sales
from tests.integration.store.conftest import CLOCK
from tests.support.pg import Connection


@pytest.fixture
async def sales_dsn(fresh_database: FreshDatabase) -> str:
    """A database with sales."""
    return await fresh_database()


@pytest.fixture
async def owner(sales_dsn: str) -> AsyncIterator[Connection]:
    """A connection that may write."""
    connection = await asyncpg.connect(sales_dsn)
    await sales.fill(connection, Random(7), 4_000)
    yield connection
    await connection.close()


@pytest.fixture
async def store(owner: Connection, sales_dsn: str) -> AsyncIterator[PgStore]:
    """A store on the sales."""
    limits = {name: PoolLimits(8, 8, 2, 1) for name in PoolName}
    pools = await PgPools.open(sales_dsn, limits, Settings("table test", connect_timeout=20.0))
    yield PgStore(pools, CLOCK)
    await pools.aclose()
