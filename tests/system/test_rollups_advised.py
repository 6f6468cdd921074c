"""A broker records what it is asked, and ``broker rollup advise`` proposes from it what can be pasted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import asyncpg
import grpc.aio
import pytest

from broker.config.loader import load
from broker.domain.query import Grain
from querybroker.v1 import query_pb2, query_service_pb2
from querybroker.v1.query_service_pb2_grpc import QueryServiceStub
from tests.conftest import FreshDatabase
from tests.support.server import ROOT, running_broker

MODEL = """\
datasets:
  events:
    table: public.events
    primary_key: {id: int64}
    default_time: at
    dimensions:
      at: {type: timestamp, time: true}
      kind: string
      shop: string
    measures:
      events: {kind: count}
      total: {kind: sum, column: value, type: int64}
"""
EVENTS = """
CREATE TABLE events AS
  SELECT i::bigint AS id, timestamptz '2024-01-01Z' + i * interval '1 minute' AS at, 'kind-' || i % 7 AS kind,
         'shop-' || i % 5 AS shop, i % 1000 AS value
  FROM generate_series(1, 300000) AS i;
ALTER TABLE events ADD PRIMARY KEY (id);
ANALYZE events;
"""


def panel(*dimensions: str) -> query_service_pb2.Panel:
    query = query_pb2.Query(dataset="events", measures=["events", "total"], dimensions=dimensions)
    query.time.grain = query_pb2.TIME_GRAIN_DAY
    query.time.zone = "Europe/Berlin"
    query.time.dates.start_date.year, query.time.dates.start_date.month, query.time.dates.start_date.day = (
        2024,
        1,
        1,
    )
    query.time.dates.end_date.year, query.time.dates.end_date.month, query.time.dates.end_date.day = (
        2024,
        8,
        1,
    )
    return query_service_pb2.Panel(query=query)


def advise(config: Path, dsn: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "broker", "rollup", "advise", "-c", str(config), *arguments]
    command += ["--set", f"database.dsn={dsn}"]
    return subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize("given", ["log", "setting"])
async def test_what_was_asked_is_proposed(fresh_database: FreshDatabase, tmp_path: Path, given: str) -> None:
    dsn, config, log = await fresh_database(), tmp_path / "model.yaml", tmp_path / "log"
    config.write_text(MODEL)
    owner = await asyncpg.connect(dsn)
    await owner.execute(EVENTS)
    await owner.close()
    with running_broker(dsn, tmp_path, config=config, overrides={"rollups.query_log": str(log)}) as broker:
        async with grpc.aio.insecure_channel(broker.address) as channel:
            asked = query_service_pb2.DashboardRequest(panels=[panel("kind"), panel("kind", "shop"), panel()])
            for _ in range(2):
                await QueryServiceStub(channel).Dashboard(asked, timeout=60)
        assert broker.stop() == 0
    where = ["--log", str(log)] if given == "log" else ["--set", f"rollups.query_log={log}"]
    done = advise(config, dsn, *where)
    assert done.returncode == 0, done.stderr
    assert "would answer 100.0% of 6 questions" in done.stderr
    config.write_text(MODEL + done.stdout.removeprefix("datasets:\n  events:\n"))
    (rollup,) = load(config, {}, {"database.dsn": dsn}).model.datasets["events"].rollups.values()
    assert rollup.dimensions == ("kind", "shop")
    assert rollup.measures == ("events", "total")
    assert (rollup.base, rollup.zone) == (Grain.DAY, "Europe/Berlin")


async def test_without_a_log_it_says_how_to_make_one(fresh_database: FreshDatabase, tmp_path: Path) -> None:
    config, dsn = tmp_path / "model.yaml", await fresh_database()
    config.write_text(MODEL)
    done = advise(config, dsn)
    assert done.returncode == 3
    assert "rollups.query_log" in done.stderr
    (tmp_path / "empty").mkdir()
    done = advise(config, dsn, "--log", str(tmp_path / "empty"))
    assert done.returncode == 3
    assert "nothing was recorded yet" in done.stderr
