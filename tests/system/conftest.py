"""A broker over a small database of its own, with a view that sleeps."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import grpc.aio
import pytest

from broker.demo.embedded import EmbeddedPostgres
from querybroker.v1 import admin_service_pb2, admin_service_pb2_grpc, query_pb2, query_service_pb2
from querybroker.v1.query_service_pb2_grpc import QueryServiceStub
from tests.support.pg import Connection, Databases, prepare, run_sync
from tests.support.server import RunningBroker, running_broker
from tests.system.secured import Secured, secured_broker

SCHEMA = """
CREATE TABLE events AS
  SELECT i::bigint AS id, timestamptz '2024-01-01' + i * interval '1 minute' AS at,
         'kind-' || i % 7 AS kind, i % 1000 AS value, md5(i::text) AS note
  FROM generate_series(1, 200000) AS i;
ALTER TABLE events ADD PRIMARY KEY (id);
CREATE VIEW slow AS SELECT 1::bigint AS id, 'slept'::text || pg_sleep(10)::text AS note;
CREATE VIEW locked AS SELECT 1::bigint AS id, pg_advisory_xact_lock_shared(42)::text AS note;
ANALYZE;
"""
MODEL = """
datasets:
  events:
    table: public.events
    primary_key: {id: int64}
    default_time: at
    dimensions:
      id: int64
      at: {type: timestamp, time: true}
      kind: string
      value: int64
      note: string
    measures:
      events: {kind: count}
      total: {kind: sum, column: value, type: int64}
      kinds: {kind: approx_distinct, column: note, type: string}
  slow:
    table: public.slow
    dimensions: {note: string}
    measures: {rows: {kind: count}}
  locked:
    table: public.locked
    dimensions: {note: string}
    measures: {rows: {kind: count}}
"""
CHANNEL = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0))


def query(dataset: str = "events", **fields: object) -> query_pb2.Query:
    """A query; a count by kind unless said otherwise."""
    fields = fields or {"measures": ["events"], "dimensions": ["kind"]}
    return query_pb2.Query(dataset=dataset, **fields)  # type: ignore[arg-type] # fields of the message


def dashboard(*queries: query_pb2.Query) -> query_service_pb2.DashboardRequest:
    """A panel for each query."""
    return query_service_pb2.DashboardRequest(panels=[query_service_pb2.Panel(query=q) for q in queries])


SLOW = query("slow", measures=["rows"], dimensions=["note"])


@dataclass(frozen=True)
class System:
    """A broker and its database."""

    broker: RunningBroker
    postgres: EmbeddedPostgres
    dsn: str
    config: Path = Path()

    def channel(self) -> grpc.aio.Channel:
        """A connection of its own, which retries nothing by itself."""
        return grpc.aio.insecure_channel(self.broker.address, options=CHANNEL)

    async def state(self) -> admin_service_pb2.BrokerState:
        """What the broker says of itself."""
        async with self.channel() as channel:
            stub = admin_service_pb2_grpc.AdminServiceStub(channel)
            return (await stub.GetState(admin_service_pb2.GetStateRequest(), timeout=10)).state

    async def answers(self) -> int:
        """Asks for the number of events."""
        async with self.channel() as channel:
            response = await QueryServiceStub(channel).Dashboard(
                dashboard(query(measures=["events"])), timeout=30
            )
            return int(response.panels[0].table.columns.columns[0].int64_values.values[0])


@pytest.fixture(scope="session")
def system(
    postgres: EmbeddedPostgres, databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[System]:
    """A system that all tests share; nobody breaks it."""
    dsn = run_sync(databases.create())
    yield from _system(postgres, dsn, tmp_path_factory.mktemp("broker"))


@pytest.fixture
def own_system(
    own_postgres: EmbeddedPostgres, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[System]:
    """A system that the test may break; its parameter, if there is one, is more of the configuration."""
    dsn = own_postgres.dsn("postgres")
    yield from _system(own_postgres, dsn, tmp_path, getattr(request, "param", {}))


def _system(
    postgres: EmbeddedPostgres, dsn: str, home: Path, more: Mapping[str, object] | None = None
) -> Iterator[System]:
    run_sync(prepare(dsn, SCHEMA))
    model = home / "broker.yaml"
    model.write_text(MODEL)
    overrides = {"pools.dashboard.workers": 1, "pools.exploration.workers": 1, **(more or {})}
    with running_broker(dsn, home, config=model, overrides=overrides) as broker:
        yield System(broker, postgres, dsn, model)


@pytest.fixture(scope="session")
def secured(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """A broker with API keys, tenants and SQL, that all tests share; nobody breaks it."""
    dsn = run_sync(databases.create())
    with secured_broker(dsn, tmp_path_factory.mktemp("secured")) as place:
        yield place


@pytest.fixture
async def beside(secured: Secured) -> AsyncIterator[Connection]:
    """A connection to its database, to look at what goes on there, to write, and to hold what statements wait for."""
    connection = await asyncpg.connect(secured.dsn)
    yield connection
    await connection.close()


Activity = Callable[[], Awaitable[int]]


@pytest.fixture
async def activity(system: System) -> AsyncIterator[Activity]:
    """Counts statements of the broker that PostgreSQL is executing."""
    connection = await asyncpg.connect(system.dsn)

    async def count() -> int:
        return int(
            await connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid()"
                " AND datname = current_database() AND backend_type = 'client backend'"
                " AND query NOT LIKE '%broker.job%'"
            )
        )

    yield count
    await connection.close()
