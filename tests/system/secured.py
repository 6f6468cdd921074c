"""A broker as an operator would set it up: API keys, tenants, row policies, SQL, small limits."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc.aio

from broker.adapters.auth_keys import digest, make_key
from querybroker import Client
from tests.support.pg import prepare, run_sync
from tests.support.server import RunningBroker, running_broker

PLAIN = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0))
SCHEMA = """
CREATE TABLE sales AS
  SELECT i::bigint AS id, CASE WHEN i % 4 = 0 THEN 'globex' ELSE 'acme' END AS tenant,
         'region-' || i % 5 AS region, i % 100 AS amount, i % 3 AS divisor, repeat(md5(i::text), 4) AS note,
         timestamptz '2024-01-01' + i * interval '1 minute' AS at
  FROM generate_series(1, 20000) AS i;
ALTER TABLE sales ADD PRIMARY KEY (id);
CREATE TABLE ledger AS SELECT i::bigint AS id, i * 2 AS cents FROM generate_series(1, 10) AS i;
CREATE VIEW shifting AS SELECT 1::bigint AS id, 'secret' AS note;
CREATE VIEW asleep AS SELECT 1::bigint AS id, 'slept'::text || pg_sleep(30)::text AS note;
CREATE VIEW allowed AS SELECT current_setting('statement_timeout') AS note;
CREATE VIEW locked AS SELECT 1::bigint AS id, pg_advisory_xact_lock_shared(42)::text AS note;
CREATE VIEW tired AS SELECT 1::bigint AS id, pg_sleep(1.5)::text AS note;
CREATE FUNCTION twice(bigint) RETURNS bigint IMMUTABLE LANGUAGE sql AS 'SELECT $1 * 2';
ANALYZE;
"""
_MODEL = """
server:
  sql: {enabled: true, functions: [twice]}
  deadlines:
    dashboard: {default: 5s, cap: 20s}
  dashboard: {max_rows: 15000, max_bytes: 1MB}
auth:
  anonymous: {enabled: true, grants: []}
  api_keys:
KEYS
tenants:
  default: {}
  acme: {attributes: {region: region-1}}
  globex: {attributes: {region: region-2}}
datasets:
  sales:
    table: public.sales
    primary_key: {id: int64}
    default_time: at
    dimensions:
      id: int64
      at: {type: timestamp, time: true}
      tenant: string
      region: string
      amount: int64
      note: string
      odds: {type: int64, sql: 100 / sales.divisor}
    measures:
      sales: count
      revenue: {kind: sum, column: amount, type: int64}
      notes: {kind: approx_distinct, column: note, type: string}
    row_policies:
      own: {sql: "sales.tenant = {tenant}", unless: [see_all]}
  regional:
    table: public.sales
    dimensions: {region: string}
    measures: {sales: count}
    row_policies:
      own: {sql: "regional.region = {attributes.region}"}
  shifting:
    table: public.shifting
    primary_key: {id: int64}
    dimensions: {id: int64, note: string}
    measures:
      rows: count
      total: {kind: sum, column: id, type: int64}
      middle: {kind: approx_percentile, column: id}
  ledger:
    table: public.ledger
    grants: [finance]
    dimensions: {id: int64, cents: int64}
    measures: {entries: count}
"""
_VIEWS = "".join(
    f"  {name}: {{table: public.{name}, dimensions: {{note: string}}, measures: {{rows: count}}}}\n"
    for name in ("asleep", "allowed", "locked", "tired")
)
LOCK = 42
"""Advisory lock that the dataset ``locked`` waits for."""
CALLERS = {
    "alice": ("acme", "sql"),
    "andy": ("acme",),
    "carol": ("acme", "jobs.read_all"),
    "bob": ("globex", "sql", "finance"),
    "boss": ("default", "*"),
}
"""Callers by name: tenant, then grants."""


def key_of(name: str) -> str:
    """The API key of a caller."""
    return make_key(name.encode().ljust(24, b"."))


def model() -> str:
    """The configuration."""
    keys = [
        f"    {name}: {{tenant: {tenant}, grants: {list(grants)}, hashes: ['sha256:{digest(key_of(name)).hex()}']}}"
        for name, (tenant, *grants) in CALLERS.items()
    ]
    return _MODEL.replace("KEYS", "\n".join(keys)) + _VIEWS


@dataclass(frozen=True)
class Secured:
    """A broker that knows its callers, and a worker."""

    broker: RunningBroker
    dsn: str
    worker_metrics: str = ""

    def client(self, name: str = "", key: str = "") -> Client:
        """A client of a caller; without a name, or another key, of nobody."""
        return Client(self.broker.address, api_key=key or (key_of(name) if name else ""))

    def plain(self) -> grpc.aio.Channel:
        """A connection that retries nothing by itself; calls on it name their caller with :func:`as_caller`."""
        return grpc.aio.insecure_channel(self.broker.address, options=PLAIN)


def as_caller(name: str) -> tuple[tuple[str, str], ...]:
    """Metadata of a caller."""
    return (("x-api-key", key_of(name)),)


@contextmanager
def secured_broker(
    dsn: str, home: Path, overrides: Mapping[str, object] | None = None, *, worker: bool = True
) -> Iterator[Secured]:
    """Prepares the database and runs a broker over it, and a worker."""
    run_sync(prepare(dsn, SCHEMA, ("jobs",)))
    config = home / "secured.yaml"
    config.write_text(model())
    small: dict[str, object] = {
        "pools.dashboard.workers": 1,
        "pools.exploration.workers": 1,
        "jobs.lease": 2,
        "telemetry.prometheus_port": free_port(),
        **(overrides or {}),
    }
    with ExitStack() as stack:
        broker = stack.enter_context(running_broker(dsn, home, config=config, overrides=small))
        metrics = ""
        if worker:
            port = free_port()
            own = {**small, "telemetry.prometheus_port": port}
            stack.enter_context(running_broker(dsn, home, config=config, overrides=own, role="worker"))
            metrics = f"127.0.0.1:{port}"
        yield Secured(broker, dsn, metrics)


def free_port() -> int:
    """A port that nobody listens on, for what cannot choose one by itself."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
