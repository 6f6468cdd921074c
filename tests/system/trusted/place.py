"""A database with a rollup of three months, and brokers that serve from it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio

from broker.adapters.pg_rollups import PgRollups
from broker.domain.model import Dataset
from broker.ports.rollups import RollupStatus
from querybroker.v1 import answer_pb2, policy_pb2, query_pb2, query_service_pb2
from querybroker.v1.query_service_pb2_grpc import QueryServiceStub
from tests.support.eventually import eventually
from tests.support.rollups import entered, rollup_store
from tests.support.server import RunningBroker, running_broker

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
    measures:
      events: {kind: count}
    rollups:
      by_kind: {dimensions: [kind], measures: [events]}
"""
EVENTS = """
CREATE TABLE events AS
  SELECT i::bigint AS id, timestamptz '2024-01-01Z' + i / 100 * interval '1 hour' AS at,
         'kind-' || i % 3 AS kind
  FROM generate_series(0, 218399) AS i;
ALTER TABLE events ADD PRIMARY KEY (id);
ANALYZE events;
"""
PER_KIND = 218_400 // 3
LIVE, ROLLUP = answer_pb2.ANSWER_KIND_LIVE, answer_pb2.ANSWER_KIND_ROLLUP


@dataclass(frozen=True)
class Place:
    """A database with a rollup of three months that is built, and the file that declares it."""

    dsn: str
    home: Path
    config: Path

    @property
    def mirror(self) -> Path:
        return self.home / "mirror"

    @asynccontextmanager
    async def serving(
        self, overrides: Mapping[str, object] | None = None, dsn: str = ""
    ) -> AsyncIterator[Asked]:
        """A broker that serves from it."""
        settings = {"rollups.mirror_dir": str(self.mirror), "rollups.verify_share": 0, **(overrides or {})}
        run = running_broker(dsn or self.dsn, self.home, config=self.config, overrides=settings)
        async with AsyncExitStack() as stack:
            broker = await entered(stack, run)
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(broker.address))
            yield Asked(broker, QueryServiceStub(channel))

    @asynccontextmanager
    async def store(self) -> AsyncIterator[tuple[PgRollups, Dataset]]:
        async with rollup_store(self.dsn, self.config) as (store, model):
            yield store, model.datasets["events"]

    async def status(self) -> RollupStatus:
        async with self.store() as (store, dataset):
            return await store.status(dataset, dataset.rollups["by_kind"])

    def files(self) -> list[Path]:
        """The local files."""
        return sorted(self.mirror.glob("*/*.arrow"))


@dataclass(frozen=True)
class Asked:
    """A broker that can be asked how many events of each kind there are."""

    broker: RunningBroker
    stub: Any  # the asynchronous one

    async def __call__(
        self, mode: policy_pb2.RollupMode.ValueType = policy_pb2.ROLLUP_MODE_AUTO
    ) -> tuple[int, dict[str, int]]:
        """Kind of the answer, and the counts."""
        status, counts = await self.told(mode)
        return status.kind, counts

    async def told(
        self, mode: policy_pb2.RollupMode.ValueType = policy_pb2.ROLLUP_MODE_AUTO
    ) -> tuple[answer_pb2.AnswerStatus, dict[str, int]]:
        """Status of the answer, and the counts."""
        query = query_pb2.Query(dataset="events", measures=["events"], dimensions=["kind"])
        query.time.absolute.start_time.FromJsonString("2024-01-01T00:00:00Z")
        query.time.absolute.end_time.FromJsonString("2024-04-01T00:00:00Z")
        panel = query_service_pb2.Panel(query=query, policy=policy_pb2.AnswerPolicy(rollup_mode=mode))
        asked = query_service_pb2.DashboardRequest(panels=[panel])
        (answer,) = (await self.stub.Dashboard(asked, timeout=30)).panels
        kinds, counts = answer.table.columns.columns
        names = [kinds.string_values.dictionary[i] for i in kinds.string_values.indices]
        return answer.status, dict(zip(names, counts.int64_values.values, strict=True))


async def rolled(asked: Asked) -> dict[str, int]:
    """The counts as soon as rollups give them: the first answers may be live, while nothing is known of their cost."""
    found: list[dict[str, int]] = []

    async def answered() -> bool:
        kind, counts = await asked()
        found.append(counts)
        return kind == ROLLUP

    await eventually(answered, "the rollup answers")
    return found[-1]


RIGHT = {f"kind-{i}": PER_KIND for i in range(3)}
