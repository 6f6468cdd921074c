"""A dashboard from the cache beside an empty grpc.aio handler that returns the same bytes, in one run.

The broker sends its metrics and one trace in ten to a collector that throws them away. The same client floods either
side in turns, so that a slow moment of the machine hits both: with eight calls under way for the rate and the server's
CPU per answer, with one for the latency. Then the same with two processes on one port on both sides. The tiers are told
apart by the questions: asked again of the same broker, and for the first time of another broker that shares a Valkey
with it.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from operator import sub, truediv
from pathlib import Path

import grpc.aio
import psutil

from querybroker.v1 import query_pb2, query_service_pb2, query_service_pb2_grpc
from tests.bench import harness
from tests.bench.live import Shape, request
from tests.bench.parts import emptyhandler
from tests.bench.parts.collector import collecting
from tests.bench.parts.flood import flood
from tests.bench.parts.place import broker_over, extended_model, flights_database
from tests.support.fleet_server import running_fleet
from tests.support.valkey import valkey_server

PATH = "/querybroker.v1.QueryService/Dashboard"
WIDE, CONNECTIONS = 8, 4
"""Calls under way in all, and the connections that they share."""
CACHE = {
    "cache.memory": 256 * 1024 * 1024,
    "cache.soft_age": 3600,
    "server.lag_limit": 10,
    "telemetry.sampling_ratio": 0.1,
}
DAYS = Shape("300 days", timedelta(days=300), timedelta(hours=29))


def dashboard(number: int) -> query_service_pb2.DashboardRequest:
    """Three measures day by day: about 6 KB."""
    asked = request(DAYS, number)
    query = asked.panels[0].query
    del query.dimensions[:]
    query.time.grain = query_pb2.TIME_GRAIN_DAY
    return asked


@dataclass(frozen=True, slots=True)
class Side:
    """A server: where it answers, and the processes that serve there."""

    address: str
    processes: Sequence[psutil.Process]

    def cpu(self) -> float:
        """Seconds of CPU that they have used."""
        return sum(sum(process.cpu_times()[:2]) for process in self.processes)


@dataclass(slots=True)
class Figures:
    """What was measured of a side, round by round: CPU per answer, answers per second, and seconds of single calls."""

    cpu: list[float]
    rate: list[float]
    alone: list[float]


async def answered(
    address: str, message: query_service_pb2.DashboardRequest
) -> query_service_pb2.DashboardResponse:
    """The response to a dashboard that every process behind the address has been asked; from the cache at last."""
    response = query_service_pb2.DashboardResponse()
    for _ in range(8):
        options = (("grpc.use_local_subchannel_pool", 1),)
        async with grpc.aio.insecure_channel(address, options=options) as channel:
            stub = query_service_pb2_grpc.QueryServiceStub(channel)
            for _ in range(3):
                response = await stub.Dashboard(message, timeout=30)
    kinds = {panel.status.kind for panel in response.panels}
    if kinds != {2}:
        raise RuntimeError(f"the dashboard was not answered from the cache: {response.panels[0]}"[:2000])
    return response


async def compare(
    ours: Side, empty: Side, message: bytes, *, rounds: int, seconds: float
) -> tuple[Figures, Figures]:
    """Both sides in turns."""
    figures = Figures([], [], []), Figures([], [], [])
    for turn in range(rounds + 1):
        for side, found in zip((ours, empty), figures, strict=True):
            before = side.cpu()
            calls = await flood(side.address, PATH, message, seconds, CONNECTIONS, WIDE // CONNECTIONS)
            used = side.cpu() - before
            single = await flood(side.address, PATH, message, seconds / 2, 1, 1)
            if turn:  # the first one warms up
                found.cpu.append(used / len(calls))
                found.rate.append(len(calls) / seconds)
                found.alone.append(statistics.median(single))
    return figures


@asynccontextmanager
async def empty(response: bytes, processes: int) -> AsyncIterator[Side]:
    """The empty handler."""
    with tempfile.NamedTemporaryFile() as body:
        body.write(response)
        body.flush()
        async with emptyhandler.running(Path(body.name), PATH, processes) as (address, numbers):
            yield Side(address, [psutil.Process(number) for number in numbers])


def ratios(ours: Figures, bare: Figures, suffix: str = "") -> dict[str, float]:
    """The metrics of one comparison, turn by turn: a slow moment of the machine lasts longer than a turn of both."""

    def each(one: Sequence[float], other: Sequence[float], by: Callable[[float, float], float]) -> float:
        return harness.median([by(a, b) for a, b in zip(one, other, strict=True)])

    return {
        f"cpu_ratio{suffix}": each(ours.cpu, bare.cpu, truediv),
        f"throughput_ratio{suffix}": each(ours.rate, bare.rate, truediv),
        f"added_median_ms{suffix}": each(ours.alone, bare.alone, sub) * 1000,
    }


def told(name: str, found: Figures) -> tuple[object, ...]:
    """A row of the table."""
    cpu, rate, alone = (harness.median(values) for values in (found.cpu, found.rate, found.alone))
    return name, cpu * 1000, rate, alone * 1000


async def tiers(dsn: str, postgres: object, count: int) -> list[tuple[object, ...]]:
    """Latency of a question from the tables, from memory and from the shared tier, and how many were hits."""
    rows: list[tuple[object, ...]] = []
    with valkey_server() as valkey:
        overrides = {**CACHE, "cache.shared": valkey.url, "cache.prefix": "bench"}
        async with AsyncExitStack() as stack:
            first = await stack.enter_async_context(broker_over(postgres, dsn, overrides))  # type: ignore[arg-type] # as the caller got it
            second = await stack.enter_async_context(broker_over(postgres, dsn, overrides))  # type: ignore[arg-type] # as the caller got it
            for name, place in (("tables", first), ("memory", first), ("shared tier", second)):
                channel = await stack.enter_async_context(place.channel())
                stub = query_service_pb2_grpc.QueryServiceStub(channel)
                seconds, hits = [], 0
                for number in range(count):
                    began = time.perf_counter()
                    response = await stub.Dashboard(dashboard(number), timeout=30)
                    seconds.append(time.perf_counter() - began)
                    hits += response.panels[0].status.kind == 2
                rows.append(
                    (
                        name,
                        hits / count,
                        harness.median(seconds) * 1000,
                        harness.percentile(seconds, 99) * 1000,
                    )
                )
    return rows


async def measure(options: harness.Options) -> harness.Report:
    """One process, two processes, the tiers."""
    rounds, seconds = (10, 0.25) if options.quick else (40, 0.5)
    asked = dashboard(7)
    message = asked.SerializeToString()
    async with flights_database() as (postgres, dsn), collecting() as collector:
        settings = {**CACHE, "telemetry.otlp_endpoint": collector.endpoint}
        async with broker_over(postgres, dsn, settings) as place:
            response = await answered(place.broker.address, asked)
            ours = Side(place.broker.address, [psutil.Process(place.broker.process.pid)])
            async with empty(response.SerializeToString(), 1) as bare:
                one = await compare(ours, bare, message, rounds=rounds, seconds=seconds)
        with tempfile.TemporaryDirectory(prefix="broker-") as home:
            config = extended_model(Path(home), {})
            manager = running_fleet(dsn, Path(home), config, 2, settings)
            fleet = await asyncio.to_thread(manager.__enter__)
            try:
                await answered(fleet.address, asked)
                ours = Side(fleet.address, fleet.children())
                async with empty(response.SerializeToString(), 2) as bare:
                    two = await compare(ours, bare, message, rounds=rounds, seconds=seconds)
            finally:
                await asyncio.to_thread(manager.__exit__, None, None, None)
        found = await tiers(dsn, postgres, 20 if options.quick else 200)
        if not (collector.traces and collector.metrics):
            raise RuntimeError(f"the broker was to send its telemetry: {collector}")
    columns = ("server", "CPU ms per answer", "answers/s", "one caller ms")
    return harness.Report(
        {
            **ratios(*one),
            **ratios(*two, "_2"),
            "answer_bytes": len(response.SerializeToString()),
            "hit_rate_memory": float(str(found[1][1])),
            "hit_rate_shared": float(str(found[2][1])),
            "shared_median_ms": float(str(found[2][2])),
        },
        {
            "cpu_ratio": harness.Goal("<=", 1.5),
            "throughput_ratio": harness.Goal(">=", 0.6),
            "added_median_ms": harness.Goal("<=", 0.5),
        },
        [
            harness.Section("One process", columns, [told("broker", one[0]), told("empty handler", one[1])]),
            harness.Section(
                "Two processes", columns, [told("broker", two[0]), told("empty handler", two[1])]
            ),
            harness.Section("Tiers", ("source", "hit rate", "median ms", "p99 ms"), found),
        ],
    )


def main() -> None:
    """Runs it."""
    harness.run("hit", __doc__, measure)
