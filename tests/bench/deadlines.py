"""Work that nobody waits for any more: deadlines, cancels, clients that vanish.

A view that sleeps for ten seconds is asked under a deadline of 300 ms; measured are how much later than the deadline
the client has its answer, and what still works on it half a second after that, in PostgreSQL and in the worker
processes. The same for a cancel and for a client process that is killed. Then dashboards are cancelled at random
moments, and seats, connections and workers are compared with before.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import grpc
import grpc.aio

from querybroker.v1 import admin_service_pb2, admin_service_pb2_grpc, query_pb2, query_service_pb2
from querybroker.v1.query_service_pb2_grpc import QueryServiceStub

if TYPE_CHECKING:
    from querybroker.v1.query_service_pb2_grpc import QueryServiceAsyncStub
from tests.bench import harness
from tests.bench.parts.place import CHANNEL, extended_model, flights_database
from tests.support.server import RunningBroker, running_broker

DEADLINE = 0.3
SETTLE = 0.5
VIEW = """
CREATE OR REPLACE VIEW slow AS SELECT 1::bigint AS id, 'slept'::text || pg_sleep(10)::text AS note
"""
SLOW = {
    "table": "public.slow",
    "dimensions": {"note": {"column": "note", "type": "string"}},
    "measures": {"rows": {"kind": "count"}},
}


SLOW_QUERY = query_pb2.Query(dataset="slow", measures=["rows"], dimensions=["note"])


def ordinary(rng: random.Random) -> query_service_pb2.DashboardRequest:
    """A dashboard of a few panels of random weight, some finished in worker processes."""
    panels = []
    for _ in range(rng.randint(1, 4)):
        dimensions = rng.sample(["carrier", "origin", "dest", "tailnum"], rng.randint(0, 3))
        measures = rng.sample(["flights", "miles", "dep_delay", "median_delay"], 2)
        query = query_pb2.Query(dataset="flights", measures=measures, dimensions=dimensions)
        panels.append(query_service_pb2.Panel(query=query))
    return query_service_pb2.DashboardRequest(panels=panels)


async def call(stub: QueryServiceAsyncStub, number: int, seconds: float | None) -> None:
    """One slow call to its end, dashboards and explorations in turn."""
    if number % 2:
        panel = query_service_pb2.Panel(query=SLOW_QUERY)
        await stub.Dashboard(query_service_pb2.DashboardRequest(panels=[panel]), timeout=seconds)
        return
    async for _ in stub.Explore(query_service_pb2.ExploreRequest(query=SLOW_QUERY), timeout=seconds):
        pass


@dataclass(frozen=True, slots=True)
class Bench:
    """The broker, and a view of its database from outside."""

    broker: RunningBroker
    outside: asyncpg.Connection

    async def running(self) -> int:
        """Statements of the broker that are being executed, and worker tasks under way."""
        statements = await self.outside.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid()"
            " AND backend_type = 'client backend' AND application_name LIKE 'querybroker%'"
        )
        pools = (await self.state()).pools
        return int(statements) + sum(pool.worker_task_count for pool in pools)

    async def state(self) -> admin_service_pb2.BrokerState:
        """What the broker says of itself."""
        async with grpc.aio.insecure_channel(self.broker.address, options=CHANNEL) as channel:
            stub = admin_service_pb2_grpc.AdminServiceStub(channel)
            return (await stub.GetState(admin_service_pb2.GetStateRequest(), timeout=10)).state

    async def deadlines(self, rounds: int) -> tuple[list[float], int]:
        """Milliseconds after the deadline at the client, and what ran on."""
        late, left = [], 0
        async with grpc.aio.insecure_channel(self.broker.address, options=CHANNEL) as channel:
            stub: QueryServiceAsyncStub = QueryServiceStub(channel)
            for number in range(rounds):
                started = time.perf_counter()
                try:
                    await call(stub, number, DEADLINE)
                except grpc.aio.AioRpcError as error:
                    if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                        raise
                late.append((time.perf_counter() - started - DEADLINE) * 1000)
                await asyncio.sleep(SETTLE)
                left += await self.running()
        return late, left

    async def cancels(self, rounds: int) -> int:
        """What ran on half a second after a cancel."""
        left = 0
        async with grpc.aio.insecure_channel(self.broker.address, options=CHANNEL) as channel:
            stub: QueryServiceAsyncStub = QueryServiceStub(channel)
            for number in range(rounds):
                task = asyncio.create_task(call(stub, number, None))
                await asyncio.sleep(DEADLINE)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                await asyncio.sleep(SETTLE)
                left += await self.running()
        return left

    async def vanishing(self, rounds: int) -> int:
        """What ran on half a second after a client process was killed."""
        left = 0
        for _ in range(rounds):
            client = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "tests.bench.parts.vanishing_client",
                self.broker.address,
                stdout=asyncio.subprocess.PIPE,
            )
            assert client.stdout is not None
            await client.stdout.readline()
            await asyncio.sleep(DEADLINE)
            client.kill()
            await client.wait()
            await asyncio.sleep(SETTLE)
            left += await self.running()
        return left

    async def random_cancels(self, count: int, rng: random.Random) -> int:
        """Seats, worker tasks, busy connections and lost workers after so many cancels at random moments."""
        before = await self.state()
        async with grpc.aio.insecure_channel(self.broker.address, options=CHANNEL) as channel:
            stub: QueryServiceAsyncStub = QueryServiceStub(channel)

            async def one() -> None:
                task = asyncio.ensure_future(_ordinary(stub, rng))
                await asyncio.sleep(rng.expovariate(1 / 0.02))
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

            for _ in range(count // 10):
                await asyncio.gather(*(one() for _ in range(10)))
        await asyncio.sleep(2 * SETTLE)
        after = await self.state()
        leaked = await self.running()
        for old, new in zip(before.pools, after.pools, strict=True):
            leaked += new.seats_used + new.queue_length + abs(new.worker_count - old.worker_count)
        return leaked


async def _ordinary(stub: QueryServiceAsyncStub, rng: random.Random) -> None:
    await stub.Dashboard(ordinary(rng), timeout=30)


async def measure(options: harness.Options) -> harness.Report:
    """All of it in one run."""
    rounds, cancels = (6, 200) if options.quick else (40, 1_000)
    async with flights_database() as (_, dsn):
        outside = await asyncpg.connect(dsn)
        await outside.execute(VIEW)
        with tempfile.TemporaryDirectory(prefix="deadlines-") as home:
            config = extended_model(Path(home), {"slow": SLOW})
            manager = running_broker(dsn, Path(home), config=config)
            broker = await asyncio.to_thread(manager.__enter__)
            try:
                bench = Bench(broker, outside)
                late, left = await bench.deadlines(rounds)
                left_cancel = await bench.cancels(max(4, rounds // 2))
                left_vanish = await bench.vanishing(3 if options.quick else 10)
                leaked = await bench.random_cancels(cancels, random.Random(7))
            finally:
                await asyncio.to_thread(manager.__exit__, None, None, None)
                await outside.close()
    return harness.Report(
        {
            "client_over_ms": harness.percentile(late, 99),
            "client_over_median_ms": harness.median(late),
            "left_running": left + left_cancel + left_vanish,
            "random_cancels": cancels,
            "leaked": leaked,
        },
        {
            "client_over_ms": harness.Goal("<=", 100),
            "left_running": harness.Goal("<=", 0),
            "leaked": harness.Goal("<=", 0),
        },
        [
            harness.Section(
                "still running half a second later",
                ("after", "statements and worker tasks"),
                [("deadline", left), ("cancel", left_cancel), ("client killed", left_vanish)],
            )
        ],
    )


def main() -> None:
    """Run it."""
    harness.run("deadlines", __doc__, measure)
