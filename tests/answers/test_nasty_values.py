"""Random queries over values that formats stumble over: odd text, nulls in everything, NaN, decimals, stored clocks."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import grpc.aio

from querybroker.v1 import query_pb2 as q
from querybroker.v1 import query_service_pb2 as s
from querybroker.v1.query_service_pb2_grpc import QueryServiceStub
from tests.answers.failures import assert_right
from tests.conftest import FreshDatabase
from tests.oracle.ask import TIMEOUT, Asker, channel_to
from tests.oracle.cells import AmbiguousError
from tests.oracle.check import Checker, Drawing
from tests.oracle.choosing import Seeded
from tests.oracle.compare import difference
from tests.oracle.decode import from_table
from tests.oracle.evaluate import evaluate
from tests.oracle.events import SCHEMA, events, rows, yaml_model
from tests.oracle.generate import QuerySpace
from tests.oracle.narrowing import broad, narrower
from tests.oracle.zones import micros
from tests.support.server import running_broker

PAIRS, BATCH = 60, 20


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
        dsn,
        tmp_path / "home",
        config=config,
        overrides={"jobs.dsn": await fresh_database(), "cache.memory": 64 << 20, "cache.soft_age": 3600},
    )
    broker = await asyncio.to_thread(manager.__enter__)
    try:
        async with channel_to(broker.address) as channel:
            await assert_right(Checker(Asker(channel)), Drawing([space], seed), 220)
            contained = await answered_by_others(channel, space, seed)
    finally:
        await asyncio.to_thread(manager.__exit__, None, None, None)
    assert contained > PAIRS / 5


async def answered_by_others(channel: grpc.aio.Channel, space: QuerySpace, seed: int) -> int:
    """Asks for answers that are held, and what they may contain; how many were answered by others, all right."""
    chooser, contained = Seeded(seed), 0
    for first in range(0, PAIRS, BATCH):
        held = [broad(chooser, space) for _ in range(min(BATCH, PAIRS - first))]
        await asked(channel, held)
        queries = [narrower(chooser, space, query) for query in held]
        for query, panel in zip(queries, await asked(channel, queries), strict=True):
            assert not panel.HasField("error"), f"{query}\n{panel.error}"
            try:
                expected = evaluate(query, space.model, space.now)
            except AmbiguousError:
                continue
            assert (wrong := difference(expected, from_table(panel.table))) is None, f"{query}\n{wrong}"
            contained += any(part.source_name.startswith("contained:") for part in panel.status.parts)
    return contained


async def asked(channel: grpc.aio.Channel, queries: Sequence[q.Query]) -> Sequence[s.PanelAnswer]:
    request = s.DashboardRequest(panels=[s.Panel(query=query) for query in queries])
    response = await QueryServiceStub(channel).Dashboard(request, timeout=TIMEOUT)
    return list(response.panels)
