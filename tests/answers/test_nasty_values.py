"""Random queries over values that formats stumble over: odd text, nulls in everything, NaN, decimals, stored clocks."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import asyncpg

from tests.answers.failures import assert_right
from tests.conftest import FreshDatabase
from tests.oracle.ask import Asker, channel_to
from tests.oracle.check import Checker, Drawing
from tests.oracle.events import SCHEMA, events, rows, yaml_model
from tests.oracle.generate import QuerySpace
from tests.oracle.zones import micros
from tests.support.server import running_broker


async def test_panels_and_explorations_over_nasty_values(
    fresh_database: FreshDatabase, tmp_path: Path, seed: int
) -> None:
    table = rows()
    dsn = await fresh_database()
    connection = await asyncpg.connect(dsn)
    await connection.execute(SCHEMA)
    await connection.copy_records_to_table("events", records=table)
    await connection.close()
    config = tmp_path / "events.yaml"
    config.write_text(yaml_model(), "utf-8")
    space = QuerySpace.over(events(table), micros(datetime.now(UTC)))
    manager = running_broker(
        dsn, tmp_path / "home", config=config, overrides={"jobs.dsn": await fresh_database()}
    )
    broker = await asyncio.to_thread(manager.__enter__)
    try:
        async with channel_to(broker.address) as channel:
            await assert_right(Checker(Asker(channel)), Drawing([space], seed), 220)
    finally:
        await asyncio.to_thread(manager.__exit__, None, None, None)
