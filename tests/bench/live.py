"""The same live query through the broker and directly by asyncpg, in one run.

Three shapes: a day (PostgreSQL needs half a millisecond), a month, a year. Calls alternate between the two sides, so a
slow moment of the machine hits both; never the same filter twice in a row. With one caller, the added median is the
difference of the two medians; it is told of the day, where nothing hides it. With eight callers, the ratio is the
broker's rate to asyncpg's, rounds alternating; it is told of the year, the ordinary live question that scans much, and
of the two others besides: the less PostgreSQL has to do, the more of the machine goes to the calls themselves.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import asyncpg
from google.protobuf.timestamp_pb2 import Timestamp

from querybroker.v1 import query_pb2, query_service_pb2, query_service_pb2_grpc
from tests.bench import harness
from tests.bench.parts.place import Place, flights_broker

SQL = """
SELECT carrier, origin, count(*), sum(distance), avg(dep_delay::float8)
FROM flights WHERE time_hour >= $1 AND time_hour < $2
GROUP BY carrier, origin ORDER BY carrier COLLATE "C", origin COLLATE "C"
"""
MEASURES = ("flights", "miles", "dep_delay")
CALLERS = 8


@dataclass(frozen=True, slots=True)
class Shape:
    """A range that moves by a step with every call."""

    name: str
    length: timedelta
    step: timedelta

    def range(self, number: int) -> tuple[datetime, datetime]:
        """The range of the call with this number, always inside 2013."""
        span = timedelta(days=365) - self.length
        offset = self.step * number % span if span else timedelta(0)
        start = datetime(2013, 1, 1, tzinfo=UTC) + offset
        return start, start + self.length


SHAPES = (
    Shape("day", timedelta(days=1), timedelta(hours=29)),
    Shape("month", timedelta(days=30), timedelta(hours=67)),
    Shape("year", timedelta(days=364), timedelta(minutes=7)),
)


def request(shape: Shape, number: int) -> query_service_pb2.DashboardRequest:
    """A dashboard of one panel."""
    start, end = shape.range(number)
    bounds = query_pb2.AbsoluteTimeRange(start_time=stamp(start), end_time=stamp(end))
    query = query_pb2.Query(
        dataset="flights",
        measures=MEASURES,
        dimensions=["carrier", "origin"],
        time=query_pb2.TimeSelection(absolute=bounds),
    )
    return query_service_pb2.DashboardRequest(panels=[query_service_pb2.Panel(query=query)])


def stamp(instant: datetime) -> Timestamp:
    """The instant as a message."""
    message = Timestamp()
    message.FromDatetime(instant)
    return message


Call = Callable[[int], Awaitable[object]]


async def timed(call: Call, number: int) -> float:
    """Seconds that one call takes."""
    started = time.perf_counter()
    await call(number)
    return time.perf_counter() - started


async def rate(call: Call, seconds: float, first: int) -> float:
    """Calls per second of eight callers."""
    end = time.perf_counter() + seconds
    counts = [0] * CALLERS

    async def caller(me: int) -> None:
        number = first + me * 1_000
        while time.perf_counter() < end:
            await call(number)
            number += 1
            counts[me] += 1

    started = time.perf_counter()
    await asyncio.gather(*(caller(i) for i in range(CALLERS)))
    return sum(counts) / (time.perf_counter() - started)


async def compare(place: Place, pool: asyncpg.Pool, shape: Shape, *, quick: bool) -> tuple[float, ...]:
    """Medians with one caller in ms, and rates with eight, each direct and through the broker."""
    async with place.channel() as channel:
        stub = query_service_pb2_grpc.QueryServiceStub(channel)

        async def through(number: int) -> None:
            response = await stub.Dashboard(request(shape, number), timeout=30)
            if response.panels[0].HasField("error"):
                raise RuntimeError(str(response.panels[0].error))

        async def direct(number: int) -> None:
            await pool.fetch(SQL, *shape.range(number))

        for number in range(20):
            await through(number)
            await direct(number)
        samples: tuple[list[float], list[float]] = ([], [])
        for number in range(60 if quick else 400):
            samples[0].append(await timed(direct, number))
            samples[1].append(await timed(through, number))
        alone = [harness.median(s) * 1000 for s in samples]
        rates: tuple[list[float], list[float]] = ([], [])
        for turn in range(2 if quick else 5):
            rates[0].append(await rate(direct, 1.5 if quick else 4.0, turn * 100))
            rates[1].append(await rate(through, 1.5 if quick else 4.0, turn * 100))
        return (*alone, harness.median(rates[0]), harness.median(rates[1]))


async def measure(options: harness.Options) -> harness.Report:
    """All shapes in one run."""
    async with (
        flights_broker() as place,
        asyncpg.create_pool(place.dsn, min_size=CALLERS, max_size=CALLERS) as pool,
    ):
        results = {s.name: await compare(place, pool, s, quick=options.quick) for s in SHAPES}
    rows = [
        (name, direct, through, through - direct, slow, fast, fast / slow)
        for name, (direct, through, slow, fast) in results.items()
    ]
    columns = ("shape", "direct ms", "broker ms", "added ms", "direct/s at 8", "broker/s at 8", "ratio")
    ratios = {name: fast / slow for name, (_, _, slow, fast) in results.items()}
    return harness.Report(
        {
            "added_median_ms": results["day"][1] - results["day"][0],
            "throughput_ratio_8": ratios["year"],
            "throughput_ratio_8_month": ratios["month"],
            "throughput_ratio_8_day": ratios["day"],
        },
        {"added_median_ms": harness.Goal("<=", 1.5), "throughput_ratio_8": harness.Goal(">=", 0.85)},
        [harness.Section("one caller, and eight", columns, rows)],
    )


def main() -> None:
    """Run it."""
    harness.run("live", __doc__, measure)
