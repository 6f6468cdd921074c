"""The flights of many years with tables by hand beside them, loaded once and kept between runs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg

from broker.adapters.migrate import migrations
from broker.adapters.sql import rollup_table
from broker.aggregation import segment_file
from broker.demo.embedded import EmbeddedPostgres
from broker.demo.install import reachable_data_dir
from broker.domain.fingerprint import fingerprint
from tests.bench.parts.place import KEPT, Place, flights_database
from tests.support.rollups import install, rollup_store
from tests.support.server import running_broker

_KEPT = """
CREATE TABLE {name} AS
SELECT {t} AS t, carrier, origin, count(*) AS flights, sum(distance) AS miles,
       count(dep_delay) AS delay_n, sum(dep_delay) AS delay_s
FROM flights GROUP BY 1, 2, 3 ORDER BY carrier, t;
CREATE INDEX {name}_key ON {name} (carrier, t);
CREATE INDEX {name}_time ON {name} (t);
"""
_STATE = "CREATE TABLE hand_state AS SELECT now() AS refresh_time"
_HAND = {"hand_day": "date_trunc('day', time_hour, 'UTC')", "hand_hour": "time_hour"}

_ROWS: Mapping[str, object] = {
    "table": "public.flights",
    "primary_key": {"id": "int64"},
    "default_time": "time_hour",
    "dimensions": {"time_hour": {"type": "timestamp", "time": True}, "carrier": "string", "origin": "string"},
    "measures": {
        "flights": "count",
        "miles": {"kind": "sum", "column": "distance", "type": "int64"},
        "dep_delay": {"kind": "avg", "column": "dep_delay", "type": "int64"},
        "p95": {"kind": "approx_percentile", "column": "arr_delay", "percentile": 0.95},
        "planes": {"kind": "approx_distinct", "column": "tailnum", "type": "string"},
    },
}
_ADDITIVE = ["flights", "miles", "dep_delay"]
DATASETS: Mapping[str, object] = {
    "in_segments": {
        **_ROWS,
        "rollups": {
            "base": {"dimensions": ["carrier", "origin"], "measures": _ADDITIVE},
            "sketched": {
                "dimensions": ["carrier", "origin"],
                "measures": ["p95", "planes"],
                "grains": ["day", "month"],
            },
        },
    },
    "in_table": {
        **_ROWS,
        "rollups": {
            "days": {
                "dimensions": ["carrier", "origin"],
                "measures": _ADDITIVE,
                "grains": ["day"],
                "storage": "table",
            },
        },
    },
}


@asynccontextmanager
async def rollup_database(copies: int) -> AsyncIterator[tuple[EmbeddedPostgres, str]]:
    """A PostgreSQL with so many years of flights and the tables by hand."""
    async with flights_database(copies) as (postgres, dsn):
        connection = await asyncpg.connect(dsn)
        try:
            for name, t in _HAND.items():
                if await connection.fetchval("SELECT to_regclass($1)", f"public.{name}") is None:
                    async with connection.transaction():
                        await connection.execute(_KEPT.format(name=name, t=t))
                    await connection.execute(f"VACUUM ANALYZE {name}")
            if await connection.fetchval("SELECT to_regclass('public.hand_state')") is None:
                await connection.execute(_STATE)
        finally:
            await connection.close()
        yield postgres, dsn


def model(home: Path) -> Path:
    """The model of the benchmark as a file in ``home``."""
    config = home / "rollups.yaml"
    config.write_text(json.dumps({"datasets": DATASETS}))  # JSON is YAML
    return config


@asynccontextmanager
async def rollup_broker(copies: int) -> AsyncIterator[Place]:
    """A broker over so many years of flights, whose rollups are built and whose mirror is filled."""
    kept = reachable_data_dir(KEPT / f"rollups-{copies}")
    async with rollup_database(copies) as (postgres, dsn):
        overrides = {"rollups.mirror_dir": str(kept / "mirror"), "rollups.verify_share": 0}
        with TemporaryDirectory(prefix="broker-") as name:
            home = Path(name)
            await build(dsn, home, overrides)
            manager = running_broker(dsn, home, config=model(home), overrides=overrides)
            running = await asyncio.to_thread(manager.__enter__)
            try:
                yield Place(dsn, running, postgres)
            finally:
                await asyncio.to_thread(manager.__exit__, None, None, None)


def _code() -> str:
    """A hash of what decides how rollups are stored."""
    aggregation = Path(segment_file.__file__).parent
    deciding = [*sorted(aggregation.glob("segment_*.py")), Path(rollup_table.__file__)]
    sources = [path.read_text() for path in deciding]
    return fingerprint(sources, [each.sha256 for each in migrations("rollups")], json.dumps(DATASETS))


async def build(dsn: str, home: Path, overrides: Mapping[str, object]) -> None:
    """Lets a worker build the rollups, until nothing is missing; all of them, where other code has built them."""
    config = model(home)
    marked = Path(str(overrides["rollups.mirror_dir"])).with_name("built-by")
    if not marked.exists() or marked.read_text() != _code():
        connection = await asyncpg.connect(dsn)
        await connection.execute(
            "DROP SCHEMA IF EXISTS broker, broker_rollup CASCADE"
        )  # tables of other code as well
        await connection.close()
        marked.parent.mkdir(parents=True, exist_ok=True)
        marked.write_text(_code())
    await install(dsn, config)
    async with rollup_store(dsn, config) as (store, known):

        async def missing() -> int:
            return sum(
                [
                    partition.segment is None or bool(partition.dirty)
                    for dataset in known.datasets.values()
                    for rollup in dataset.rollups.values()
                    for partition in (await store.status(dataset, rollup)).partitions
                ]
            )

        if not await missing():
            return
        manager = running_broker(dsn, home / "worker", config=config, overrides=overrides, role="worker")
        await asyncio.to_thread(manager.__enter__)
        try:
            while count := await missing():
                print(f"partitions to be built: {count}", flush=True)
                await asyncio.sleep(2)
        finally:
            await asyncio.to_thread(manager.__exit__, None, None, None)
