"""Rollups against live PostgreSQL, against tables made by hand, and against the least handler that could serve them.

*Scan shapes* read nearly all years there are: months by carrier, days of a zone, totals to the hour, a percentile and
distinct counts by carrier. *Selective* questions read 14 to 90 days of one carrier. Every side runs in the same run on
the same database, in turns, and no filter is used twice. One caller asks one after the other, as many in a turn as fit
into a tenth of a second, and one at least: what it waits for is the answer, not caches that another side has emptied
before each of its calls. The tables by hand are by day and by hour, with an index on
carrier and time and one on time; each question takes the smallest that can answer it. Speedups are of medians with one
caller. ``selective_rate_vs_bare`` is the rate of the broker with ten callers by that of a bare grpc.aio handler that
runs two statements in one REPEATABLE READ transaction on a pool of connections. Nobody reads the metrics and traces of
either; the broker writes its log of calls.

With ``--growth`` all of it is done for 1, 5 and 20 million rows (with ``--quick`` for a third, two thirds and one). The
data is made before anything is measured and kept between runs: ``--build`` makes it and ends, goes on where it was
stopped, and needs about 10 GB of disk for 20 million rows.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import grpc
import grpc.aio

from querybroker.v1 import answer_pb2, query_service_pb2
from tests.bench import harness
from tests.bench.parts import barehandler
from tests.bench.parts.place import CHANNEL
from tests.bench.parts.rollup_data import rollup_broker
from tests.bench.parts.rollup_shapes import DISTINCT, PERCENTILE, SCANS, SELECTIVE, SKETCHES, Shape

DASHBOARD = "/querybroker.v1.QueryService/Dashboard"
CALLERS = 10
TURN = 0.1
"""Seconds in which one caller asks a side, again and again, before it is another's turn."""
WARM = 12
"""Calls of each shape before those that are measured."""
LIVE, TABLE, BARE = "PostgreSQL live", "table by hand", "bare handler"
SEGMENTS, STORED = "broker, segments", "broker, table"
SIDES = {SEGMENTS: "in_segments", STORED: "in_table"}

Unary = grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]
Ask = Callable[[int], Awaitable[Any]]


@dataclass(slots=True)
class Samples:
    """Seconds of single calls, and calls per second of several callers."""

    alone: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)

    def row(self, *names: object) -> tuple[object, ...]:
        """A row of the table of details."""
        p50, p99 = (harness.percentile(self.alone, p) * 1000 for p in (50, 99))
        one = len(self.alone) / sum(self.alone)
        return (*names, p50, p99, one, harness.median(self.rates) if self.rates else "")

    @property
    def p50(self) -> float:
        """The median with one caller."""
        return harness.median(self.alone)


class Bench:
    """All sides over one database; ``years`` of flights. Numbers of questions are given away once."""

    def __init__(self, stub: Unary, bare: Unary, pool: asyncpg.Pool, years: int) -> None:
        self._stub, self._bare, self._pool, self._years = stub, bare, pool, years
        self._numbers: Iterator[int] = itertools.count()
        self.refused = 0

    def sides(self, shape: Shape) -> Mapping[str, Ask]:
        """What can answer a shape, by name."""

        def sql(text: str) -> Ask:
            async def ask(number: int) -> None:
                await self._pool.fetch(text, *shape.arguments(shape.call(number, self._years)))

            return ask

        def broker(dataset: str) -> Ask:
            async def ask(number: int) -> bytes:
                return await self._stub(shape.request(dataset, shape.call(number, self._years)), timeout=60)

            return ask

        async def bare(number: int) -> None:
            await self._bare(barehandler.request(shape.call(number, self._years)), timeout=60)

        found = {LIVE: sql(shape.live)}
        if shape.table:
            found[TABLE] = sql(shape.table)
        if shape is SELECTIVE:
            found[BARE] = bare
            found[STORED] = broker(SIDES[STORED])
        found[SEGMENTS] = broker(SIDES[SEGMENTS])
        return found

    async def alone(self, sides: Mapping[str, Ask], seconds: float, found: Mapping[str, Samples]) -> None:
        """The calls of one caller in turns, for so long, but three turns at least; some before, unmeasured: statements
        are prepared, files opened, costs learned.
        """
        for name, ask in sides.items():
            for _ in range(WARM if name in SIDES else 0):
                await ask(next(self._numbers))
            answer = await ask(next(self._numbers))
            if name in SIDES:
                checked(answer)
        end = time.perf_counter() + seconds
        for turn in itertools.count(1):
            for name, ask in sides.items():
                over = time.perf_counter() + TURN
                while True:
                    number = next(self._numbers)
                    started = time.perf_counter()
                    await ask(number)
                    ended = time.perf_counter()
                    found[name].alone.append(ended - started)
                    if ended > over:
                        break
            if time.perf_counter() > end and turn >= 3:
                return

    async def rates(
        self, sides: Mapping[str, Ask], seconds: float, rounds: int, found: Mapping[str, Samples]
    ) -> None:
        """Calls per second of ten callers, the sides in turns."""
        for _ in range(rounds):
            for name, ask in sides.items():
                started, count = time.perf_counter(), 0

                async def caller(ask: Ask = ask, end: float = started + seconds) -> int:
                    made = 0
                    while time.perf_counter() < end:
                        try:
                            await ask(next(self._numbers))
                        except grpc.aio.AioRpcError as error:
                            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                                raise
                            self.refused += 1
                        else:
                            made += 1
                    return made

                count = sum(await asyncio.gather(*(caller() for _ in range(CALLERS))))
                found[name].rates.append(count / (time.perf_counter() - started))


def checked(answer: bytes) -> None:
    """Raises when the broker answered from anything but a rollup."""
    panel = query_service_pb2.DashboardResponse.FromString(answer).panels[0]
    if panel.HasField("error") or panel.status.kind != answer_pb2.ANSWER_KIND_ROLLUP:
        panel.ClearField("table")
        raise RuntimeError(f"no answer of a rollup:\n{panel}")


async def measured(copies: int, *, quick: bool) -> dict[tuple[Shape, str], Samples]:
    """All shapes over so many years of flights."""
    found: dict[tuple[Shape, str], Samples] = {}
    async with AsyncExitStack() as stack:
        place = await stack.enter_async_context(rollup_broker(copies))
        address = await stack.enter_async_context(barehandler.running(place.dsn))
        channel = await stack.enter_async_context(
            grpc.aio.insecure_channel(place.broker.address, options=CHANNEL)
        )
        beside = await stack.enter_async_context(grpc.aio.insecure_channel(address, options=CHANNEL))
        pool = await stack.enter_async_context(
            asyncpg.create_pool(place.dsn, min_size=CALLERS, max_size=CALLERS, reset=barehandler.unchanged)
        )
        bench = Bench(channel.unary_unary(DASHBOARD), beside.unary_unary(barehandler.METHOD), pool, copies)
        for shape in (*SCANS, *SKETCHES, SELECTIVE):
            sides = bench.sides(shape)
            own = {name: Samples() for name in sides}
            await bench.alone(sides, 2.0 if quick else 10.0, own)
            if shape is SELECTIVE:
                several = {name: ask for name, ask in sides.items() if name != LIVE}
                await bench.rates(several, 1.2 if quick else 4.0, 2 if quick else 4, own)
            elif shape is SCANS[0]:
                await bench.rates(sides, 1.0 if quick else 5.0, 1, own)
            found |= {(shape, name): samples for name, samples in own.items()}
    return found


def figures(found: Mapping[tuple[Shape, str], Samples]) -> dict[str, float]:
    """The metrics."""

    def ratios(other: str, shapes: tuple[Shape, ...]) -> list[float]:
        return [found[shape, other].p50 / found[shape, SEGMENTS].p50 for shape in shapes]

    bare, stored = found[SELECTIVE, BARE], found[SELECTIVE, STORED]
    return {
        "speedup_live_median": harness.median(ratios(LIVE, SCANS)),
        "speedup_table_scan": harness.median(ratios(TABLE, SCANS)),
        "speedup_percentile": ratios(LIVE, (PERCENTILE,))[0],
        "speedup_distinct": ratios(LIVE, (DISTINCT,))[0],
        "selective_rate_vs_bare": harness.median(
            [a / b for a, b in zip(stored.rates, bare.rates, strict=True)]
        ),
        "selective_p50_ms": stored.p50 * 1000,
        "selective_rate": harness.median(stored.rates),
        "bare_rate": harness.median(bare.rates),
    }


def details(copies: int, found: Mapping[tuple[Shape, str], Samples]) -> harness.Section:
    """Every side of every shape."""
    rows = [samples.row(shape.name, side) for (shape, side), samples in found.items()]
    columns = ("shape", "side", "p50 ms", "p99 ms", "calls/s of 1", f"calls/s of {CALLERS}")
    return harness.Section(f"{copies * 336_776:,} flights", columns, rows)


async def measure(options: harness.Options) -> harness.Report:
    """One size, or with --growth three of them; the metrics are those of the second, of 5 million rows."""
    quick, full = ([1, 2, 3], [3, 15, 60]) if options.own.growth else ([3], [15])
    sizes = quick if options.quick else full
    if options.own.build or len(sizes) > 1:  # what is made between measurements would slow them down
        for copies in sizes:
            async with rollup_broker(copies):
                pass
    if options.own.build:
        return harness.Report({})
    found = {copies: await measured(copies, quick=options.quick) for copies in sizes}
    sections = [details(copies, each) for copies, each in found.items()]
    if len(sizes) > 1:
        columns = ("shape", "side", *(f"{copies * 0.336776:.2g} M rows, p50 ms" for copies in sizes))
        rows = [(s.name, side, *(found[c][s, side].p50 * 1000 for c in sizes)) for s, side in found[sizes[0]]]
        sections.append(harness.Section("growth", columns, rows))
    goals = {
        "speedup_live_median": 20,
        "speedup_table_scan": 3,
        "speedup_percentile": 30,
        "speedup_distinct": 30,
    }
    return harness.Report(
        figures(found[sizes[min(1, len(sizes) - 1)]]),
        {
            **{name: harness.Goal(">=", bound) for name, bound in goals.items()},
            "selective_rate_vs_bare": harness.Goal(">=", 0.6),
            "selective_p50_ms": harness.Goal("<=", 2),
        },
        sections,
    )


def arguments(parser: argparse.ArgumentParser) -> None:
    """What this benchmark alone takes."""
    parser.add_argument("--growth", action="store_true", help="1, 5 and 20 million rows")
    parser.add_argument("--build", action="store_true", help="only make the data that is missing, and end")


def main() -> None:
    """Run it."""
    harness.run("rollup", __doc__, measure, add_arguments=arguments)
