"""A broker with a cache, over a PostgreSQL that a test may stop: callers with rows of their own, sources that tell."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import asyncpg
import grpc.aio

from broker.adapters.auth_keys import digest, make_key
from broker.demo.embedded import EmbeddedPostgres
from querybroker.v1 import admin_service_pb2, answer_pb2, policy_pb2, query_pb2, query_service_pb2
from querybroker.v1.admin_service_pb2_grpc import AdminServiceStub
from querybroker.v1.query_service_pb2_grpc import QueryServiceStub
from tests.support.eventually import eventually
from tests.support.pg import prepare, run_sync
from tests.support.server import RunningBroker, running_broker
from tests.system.secured import free_port

EVENTS = 20_000
SCHEMA = f"""
CREATE TABLE events AS
  SELECT i::bigint AS id, timestamptz '2024-01-01' + i * interval '1 minute' AS at,
         'kind-' || i % 7 AS kind, CASE WHEN i % 4 = 0 THEN 'globex' ELSE 'acme' END AS tenant
  FROM generate_series(1, {EVENTS}) AS i;
ALTER TABLE events ADD PRIMARY KEY (id);
CREATE VIEW slow AS SELECT 1::bigint AS id, 'slept'::text || pg_advisory_xact_lock_shared(42)::text AS note;
CREATE TABLE asked (at timestamptz);
ANALYZE;
"""
LOCK = 42
_MODEL = """
cache: {memory: 64MB, soft_age: 0s, hard_age: 1h, poll: 50ms}
auth:
  anonymous: {enabled: false}
  api_keys:
KEYS
tenants: {acme: {}, globex: {}}
datasets:
  events:
    table: public.events
    primary_key: {id: int64}
    default_time: at
    dimensions:
      at: {type: timestamp, time: true}
      kind: string
    measures: {events: count}
  kept:
    table: public.events
    default_time: at
    cache: {soft_age: 1h}
    dimensions:
      at: {type: timestamp, time: true}
      id: int64
      kind: string
    measures: {events: count}
  owned:
    table: public.events
    default_time: at
    cache: {soft_age: 1h}
    dimensions:
      at: {type: timestamp, time: true}
      id: int64
      kind: string
    measures: {events: count}
    row_policies:
      own: {sql: "owned.tenant = {tenant}", unless: [see_all]}
  tracked:
    table: public.events
    default_time: at
    dimensions:
      at: {type: timestamp, time: true}
      kind: string
    measures: {events: count, last: {kind: max, column: id, type: int64}}
    rollups:
      never_built: {dimensions: [kind], measures: [events], tracking: change_token, token: SELECT count(*) FROM events}
  slow:
    table: public.slow
    cache: {soft_age: 1h}
    dimensions: {note: string}
    measures: {rows: count}
"""
CALLERS = {"alice": ("acme",), "andy": ("acme",), "bob": ("globex",), "boss": ("acme", "*")}


@dataclass(frozen=True)
class Reply:
    """The only panel of a dashboard, with the trailers of the call."""

    status: answer_pb2.AnswerStatus
    table: answer_pb2.Table
    trailers: Mapping[str, str]

    @property
    def kind(self) -> str:
        return answer_pb2.AnswerKind.Name(self.status.kind).removeprefix("ANSWER_KIND_")

    @property
    def reasons(self) -> list[str]:
        name = answer_pb2.DegradationReason.Name
        return [name(each).removeprefix("DEGRADATION_REASON_") for each in self.status.reasons]

    @property
    def walk(self) -> list[tuple[str, str]]:
        return [
            (
                answer_pb2.LadderRung.Name(step.rung).removeprefix("LADDER_RUNG_"),
                answer_pb2.LadderVerdict.Name(step.verdict).removeprefix("LADDER_VERDICT_"),
            )
            for step in self.status.ladder
        ]

    @property
    def total(self) -> int:
        return sum(self.table.columns.columns[-1].int64_values.values)


@dataclass(frozen=True)
class Place:
    """A broker with a cache, and its database."""

    broker: RunningBroker
    postgres: EmbeddedPostgres
    dsn: str

    def channel(self) -> grpc.aio.Channel:
        options = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0))
        return grpc.aio.insecure_channel(self.broker.address, options=options)

    async def ask(
        self,
        channel: grpc.aio.Channel,
        name: str = "boss",
        question: query_pb2.Query | None = None,
        policy: policy_pb2.AnswerPolicy | None = None,
        *,
        seconds: float = 15,
    ) -> Reply:
        """Asks one panel."""
        panel = query_service_pb2.Panel(query=question or COUNT)
        request = query_service_pb2.DashboardRequest(panels=[panel], policy=policy)
        call = QueryServiceStub(channel).Dashboard(request, timeout=seconds, metadata=as_caller(name))
        response = await call
        (found,) = response.panels
        trailers = {key: str(value) for key, value in await call.trailing_metadata()}
        return Reply(found.status, found.table, trailers)

    async def settled(self, channel: grpc.aio.Channel) -> None:
        """Waits until nothing that was given out before is to be read again behind it: that would take seats too."""

        def scraped() -> str:
            with urlopen(f"http://{self.broker.metrics}/metrics") as page:
                return str(page.read(), "utf-8")

        async def still() -> bool:
            lines = (await asyncio.to_thread(scraped)).splitlines()
            waiting = [line for line in lines if line.startswith("querybroker_cache_refreshes_waiting")]
            assert waiting, "the gauge is there"
            request = admin_service_pb2.GetStateRequest()
            state = (await AdminServiceStub(channel).GetState(request, metadata=as_caller("boss"))).state
            used = any(pool.seats_used for pool in state.pools)
            return not used and not any(float(line.split()[-1]) for line in waiting)

        await eventually(still, "nothing is read behind the answers")

    async def execute(self, sql: str) -> None:
        """Runs a statement beside the broker."""
        connection = await asyncpg.connect(self.dsn)
        try:
            await connection.execute(sql)
        finally:
            await connection.close()

    async def stop(self) -> None:
        """Takes the database away."""
        await asyncio.to_thread(self.postgres.stop, "fast")

    async def start(self) -> None:
        """Brings it back."""
        await asyncio.to_thread(self.postgres.start)


def as_caller(name: str) -> tuple[tuple[str, str], ...]:
    """The metadata of a caller."""
    return (("authorization", f"Bearer {_key(name)}"),)


def query(dataset: str, **fields: object) -> query_pb2.Query:
    """A query; a count by kind unless said otherwise."""
    fields = fields or {"measures": ["events"], "dimensions": ["kind"]}
    return query_pb2.Query(dataset=dataset, **fields)  # type: ignore[arg-type] # fields of the message


def kept(number: int, dataset: str = "kept") -> query_pb2.Query:
    """A question that no other test asks, of a dataset whose answers are fresh for an hour."""
    other = query_pb2.Condition(
        member="id",
        operator=query_pb2.FILTER_OPERATOR_NE,
        values=[query_pb2.Value(int64_value=-number)],
    )
    condition = query_pb2.Filter(condition=other)
    return query(dataset, measures=["events"], dimensions=["kind"], filter=condition)


COUNT, TRACKED = query("events"), query("tracked")
SLOW = query("slow", measures=["rows"], dimensions=["note"])


def _key(name: str) -> str:
    return make_key(name.encode().ljust(24, b"."))


@contextmanager
def cached_broker(
    postgres: EmbeddedPostgres, home: Path, overrides: Mapping[str, object] | None = None
) -> Iterator[Place]:
    """Starts it."""
    dsn = postgres.dsn("postgres")
    run_sync(prepare(dsn, SCHEMA))
    keys = [
        f"    {name}: {{tenant: {tenant}, grants: {list(grants)}, hashes: ['sha256:{digest(_key(name)).hex()}']}}"
        for name, (tenant, *grants) in CALLERS.items()
    ]
    model = home / "broker.yaml"
    model.write_text(_MODEL.replace("KEYS", "\n".join(keys)))
    own = {
        "pools.dashboard.workers": 1,
        "pools.exploration.workers": 1,
        "cache.memory": "64MB",
        "telemetry.prometheus_port": free_port(),
    }
    with running_broker(dsn, home, config=model, overrides={**own, **(overrides or {})}) as broker:
        yield Place(broker, postgres, dsn)
