from __future__ import annotations

from pathlib import Path

import asyncpg
import pytest

from tests.support.pg import Databases, run_sync


@pytest.fixture(scope="session")
def shop_dsn(databases: Databases) -> str:
    """A database with the tables of `shop.sql`, analysed; shared and therefore read only."""

    async def make() -> str:
        dsn = await databases.create()
        connection = await asyncpg.connect(dsn)
        try:
            await connection.execute(Path(__file__).with_name("shop.sql").read_text(encoding="utf-8"))
        finally:
            await connection.close()
        await databases.make_read_only(dsn)
        return dsn

    return run_sync(make())
