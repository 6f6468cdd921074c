"""2 M rows streamed as Arrow through Explore, against what users write by hand: asyncpg ``fetch`` and a cursor loop.

The hand-written sides build a Polars frame from the records, as a caller that wants columns must. Reported besides: the
lag of the broker's event loop while it streams, and the memory of the broker and its workers above idle, for the full
and for half the number of rows (it must not depend on them).
"""

from __future__ import annotations

import asyncio
import io
import time
from dataclasses import dataclass

import asyncpg
import grpc.aio
import polars as pl
import psutil

from querybroker.v1 import admin_service_pb2, admin_service_pb2_grpc, query_pb2, query_service_pb2
from querybroker.v1.query_service_pb2_grpc import QueryServiceStub
from tests.bench import harness
from tests.bench.parts.place import Place, flights_broker

COPIES = 6
COLUMNS = ("flight_id", "time_hour", "carrier", "origin", "dest")
ROWS = {
    "table": "public.flights",
    "primary_key": {"id": "int64"},
    "dimensions": {
        "flight_id": {"column": "id", "type": "int64"},
        "time_hour": "timestamp",
        "carrier": "string",
        "origin": "string",
        "dest": "string",
    },
    "measures": {"flights": "count"},
}
SQL = "SELECT id, time_hour, carrier, origin, dest FROM flights ORDER BY id LIMIT $1"
CURSOR_ROWS = 50_000
MIB = 1 << 20


def request(rows: int) -> query_service_pb2.ExploreRequest:
    """Flights as they are, one row for each."""
    query = query_pb2.Query(
        dataset="rows",
        dimensions=COLUMNS,
        order=[query_pb2.OrderKey(member="flight_id")],
        limit=rows,
    )
    return query_service_pb2.ExploreRequest(query=query, format=query_service_pb2.RESULT_FORMAT_ARROW)


async def through(channel: grpc.aio.Channel, rows: int) -> int:
    """Reads the stream and decodes every batch."""
    events = QueryServiceStub(channel).Explore(request(rows), timeout=600)
    blocks = [event.batch.arrow_ipc async for event in events if event.HasField("batch")]
    return sum(pl.read_ipc_stream(io.BytesIO(block)).height for block in blocks)


async def fetched(connection: asyncpg.Connection, rows: int) -> int:
    """All records at once, then a frame."""
    records = await connection.fetch(SQL, rows)
    return pl.DataFrame([tuple(r) for r in records], schema=list(COLUMNS), orient="row").height


async def by_cursor(connection: asyncpg.Connection, rows: int) -> int:
    """Records by cursor, a frame for every block."""
    frames = []
    async with connection.transaction():
        cursor = await connection.cursor(SQL, rows)
        while block := await cursor.fetch(CURSOR_ROWS):
            frames.append(pl.DataFrame([tuple(r) for r in block], schema=list(COLUMNS), orient="row"))
    return sum(frame.height for frame in frames)


@dataclass(slots=True)
class Watch:
    """Samples memory of the broker and its workers, and the loop's lag as the broker itself reports it."""

    place: Place
    peak: int = 0
    lag: float = 0.0

    def memory(self) -> int:
        """Proportional or resident bytes of the broker and everything below it."""
        family = [psutil.Process(self.place.broker.process.pid), *self.place.broker.workers()]
        return sum(process.memory_full_info().uss for process in family)

    async def run(self) -> None:
        """Samples until cancelled."""
        while True:
            self.peak = max(self.peak, await asyncio.to_thread(self.memory))
            await asyncio.sleep(0.05)

    async def read_lag(self, channel: grpc.aio.Channel) -> None:
        """The lag over the last seconds."""
        stub = admin_service_pb2_grpc.AdminServiceStub(channel)
        state = (await stub.GetState(admin_service_pb2.GetStateRequest(), timeout=10)).state
        self.lag = max(self.lag, state.event_loop_lag_p99.ToTimedelta().total_seconds())


async def watched(place: Place, rows: int) -> tuple[float, Watch]:
    """Seconds of one stream with its memory above idle and its lag."""
    async with place.channel() as channel:
        watch = Watch(place)
        idle = watch.memory()
        sampling = asyncio.create_task(watch.run())
        started = time.perf_counter()
        count = await through(channel, rows)
        seconds = time.perf_counter() - started
        sampling.cancel()
        await watch.read_lag(channel)
        watch.peak -= idle
        if count != rows:
            raise RuntimeError(f"{count} rows instead of {rows}")
        return seconds, watch


async def measure(options: harness.Options) -> harness.Report:
    """Interleaved rounds; the medians' ratios are the metrics."""
    total = 500_000 if options.quick else 2_000_000
    overrides = {"server.deadlines.explore.cap": 600}
    async with flights_broker(COPIES, overrides, {"rows": ROWS}) as place:
        connection = await asyncpg.connect(place.dsn)
        try:
            await watched(place, 50_000)  # warm
            seconds: dict[str, list[float]] = {"broker": [], "fetch": [], "cursor": []}
            peak = lag = half = 0.0
            for _ in range(2 if options.quick else 3):
                taken, watch = await watched(place, total)
                seconds["broker"].append(taken)
                peak, lag = max(peak, watch.peak / MIB), max(lag, watch.lag)
                half = max(half, (await watched(place, total // 2))[1].peak / MIB)
                for name, side in (("fetch", fetched), ("cursor", by_cursor)):
                    started = time.perf_counter()
                    await side(connection, total)
                    seconds[name].append(time.perf_counter() - started)
        finally:
            await connection.close()
    medians = {name: harness.median(values) for name, values in seconds.items()}
    rows = [(name, value, total / value) for name, value in medians.items()]
    return harness.Report(
        {
            "rows": total,
            "rows_ratio": medians["fetch"] / medians["broker"],
            "cursor_ratio": medians["cursor"] / medians["broker"],
            "loop_lag_p99_ms": lag * 1000,
            "peak_mb": peak,
            "peak_half_rows_mb": half,
        },
        {
            "rows_ratio": harness.Goal(">=", 2),
            "cursor_ratio": harness.Goal(">=", 1.4),
            "loop_lag_p99_ms": harness.Goal("<=", 20),
            "peak_mb": harness.Goal("<=", 256),
        },
        [harness.Section(f"{total:,} rows of {len(COLUMNS)} columns", ("side", "seconds", "rows/s"), rows)],
    )


def main() -> None:
    """Run it."""
    harness.run("stream", __doc__, measure)
