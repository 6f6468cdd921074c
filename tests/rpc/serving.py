"""The real server around the fakes."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc

from broker.adapters.auth_keys import ApiKey, KeyAuthenticator, digest
from broker.domain.principal import Principal
from broker.domain.state import BrokerState
from broker.domain.terms import AnswerPolicy
from broker.runtime.clock import SystemClock
from broker.telemetry.instruments import Telemetry
from broker.transport.call_path import CallPath, Door, open_door
from broker.transport.drain import Gate
from broker.transport.health import Check
from broker.transport.options import ServerOptions
from broker.transport.recollection import Recollection
from broker.transport.server import Server
from broker.transport.servicers.admin import AdminServicer
from broker.transport.servicers.catalog import CatalogServicer
from broker.transport.servicers.jobs import JobServicer
from broker.transport.servicers.operations import OperationsServicer
from broker.transport.servicers.query import QueryServicer
from broker.transport.services import CacheApp, RollupApp
from broker.transport.status import Statuses
from tests.rpc.fake_jobs import FakeJobs
from tests.rpc.fakes import KEY, NOON, FakeCatalog, FakeQueries

ANONYMOUS = Principal("anonymous", "default", frozenset({"*"}))
KEYED = Principal("reporting", "acme", frozenset({"dataset:flights"}))
OPTIONS = ServerOptions(address="127.0.0.1:0", drain_notice=0.0, drain_grace=5.0, check_interval=3_600.0)


@dataclass
class FakeAdmin:
    """An AdminApp."""

    drains: list[float | None] = field(default_factory=list)

    async def state(self) -> BrokerState:
        return BrokerState("instance", "0.1.0", NOON, NOON, draining=bool(self.drains))

    async def drain(self, grace: float | None) -> None:
        self.drains.append(grace)


@dataclass
class Serving:
    """A server with its fakes, and a channel to it."""

    server: Server
    channel: grpc.aio.Channel
    address: str
    queries: FakeQueries
    jobs: FakeJobs
    admin: FakeAdmin


@asynccontextmanager
async def serving(
    options: ServerOptions = OPTIONS,
    *,
    telemetry: Telemetry | None = None,
    checks: Mapping[str, Check] | None = None,
    anonymous: Principal | None = ANONYMOUS,
    door: Door = open_door,
    gate: Gate | None = None,
    rollups: RollupApp | None = None,
    cache: CacheApp | None = None,
) -> AsyncIterator[Serving]:
    """Starts a server on a free port, and drains it when the test is done: a call left behind would cost its grace."""
    queries, jobs, admin, clock = FakeQueries(), FakeJobs(), FakeAdmin(), SystemClock()
    numbers = itertools.count(1)

    def ids() -> str:
        return f"00000000-0000-4000-8000-{next(numbers):012}"

    statuses = Statuses(random=lambda: 0.5)
    keys = KeyAuthenticator([ApiKey(KEYED, (digest(KEY),))], anonymous)
    path = CallPath(keys, telemetry or Telemetry.off(), clock, ids, statuses, gate or Gate(), options, door)
    job_servicer = JobServicer(jobs, statuses, AnswerPolicy(), ids)
    services = (
        QueryServicer(
            queries, statuses, AnswerPolicy(), recollection=Recollection(queries.again, clock)
        ).service(),
        job_servicer.service(),
        CatalogServicer(FakeCatalog()).service(),
        AdminServicer(admin, job_servicer, rollups, cache).service(),
        OperationsServicer(jobs, statuses, clock).service(),
    )
    server = Server(path, services, checks or {}, options)
    port = await server.start()
    address = options.address if options.address.startswith("unix:") else f"127.0.0.1:{port}"
    try:
        async with grpc.aio.insecure_channel(address) as channel:
            yield Serving(server, channel, address, queries, jobs, admin)
    finally:
        await server.drain()
