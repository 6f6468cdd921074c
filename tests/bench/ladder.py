"""Ten times the load that the database can carry, of dashboards seen before: who is answered, how, and how soon.

Capacity is the best point of a sweep of asyncpg callers over queries of about 100 ms. Dashboards (each of a hundred
panels was answered once) and explorations, three to two, then come at multiples of it, whatever becomes of them, with a
deadline of two seconds. What is asked is written to all the time, and every answer holds the last number that was
written: so what it says of its age is compared with what its age is. The database has half of the processors to itself,
as if it were another machine; how it goes where all share all processors is told beside, from sweep to figures.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg
import psutil

from broker.demo.embedded import EmbeddedPostgres
from broker.demo.flights import load_flights
from querybroker.v1 import answer_pb2, query_service_pb2
from tests.bench import harness
from tests.bench.parts import aged, placed, traffic
from tests.bench.parts.place import Place, broker_over, extended_model
from tests.bench.parts.senders import METHODS, TENANTS, Callers, fate_of, keys
from tests.bench.parts.traffic import Arrival, Fate, Result, Source
from tests.support.pg import temporary_server
from tests.support.rollups import install

DEADLINE = 2.0
PANELS = 50
"""Of each of the two tables."""
LENGTH = timedelta(days=350)
COPIES = 2
CALLERS = (1, 2, 3, 4, 6, 8)
SQL = """
SELECT carrier, origin, count(*), sum(distance), max(tick) FROM bench_aged
WHERE time_hour >= $1 AND time_hour < $2 GROUP BY carrier, origin
"""


@dataclass
class Sender:
    """Sends dashboards and explorations to a broker, and keeps what came of the former."""

    callers: Callers
    panels: Sequence[aged.Panel]
    staleness: float
    seen: list[tuple[Arrival, float, float, aged.Seen]] = field(default_factory=list)
    messages: list[bytes] = field(default_factory=list)
    explorations: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.messages = [panel.request(self.staleness) for panel in self.panels]
        asks = map(query_service_pb2.DashboardRequest.FromString, self.messages)
        self.explorations = [
            query_service_pb2.ExploreRequest(query=ask.panels[0].query).SerializeToString() for ask in asks
        ]

    def panel(self, arrival: Arrival) -> aged.Panel:
        """What a dashboard asks for."""
        return self.panels[arrival.number % len(self.panels)]

    async def __call__(self, arrival: Arrival, left: float) -> tuple[Fate, str]:
        """One call."""
        asks = self.messages if arrival.kind == "dashboard" else self.explorations
        connection = await self.callers.of(arrival.tenant)
        sent = time.time()
        reply = await connection.call(METHODS[arrival.kind], asks[arrival.number % len(asks)], left)
        if reply.status:
            return fate_of(reply)
        if arrival.kind == "dashboard":
            now = time.time()
            answer = aged.read(reply.message, now)
            if isinstance(answer, str):
                return Fate.FAILED, ""
            self.seen.append((arrival, sent, now - sent, answer))
        return Fate.LIVE, ""


@dataclass(frozen=True)
class Bench:
    """A broker, who writes, and what the database can carry."""

    place: Place
    writer: aged.Writer
    capacity: float
    seconds: float
    staleness: float

    def sender(self, callers: Callers) -> Sender:
        """Who has seen nothing yet."""
        found = [panel for table in aged.TABLES for panel in aged.panels(table, PANELS, LENGTH)]
        return Sender(callers, found, self.staleness)

    async def warmed(self, callers: Callers) -> None:
        """Every panel is answered once."""
        sender = self.sender(callers)
        for number in range(len(sender.panels)):
            await sender(Arrival(0.0, number, "dashboard", TENANTS[number % len(TENANTS)]), 30.0)

    async def at(self, callers: Callers, load: float) -> tuple[Sender, list[Result], float]:
        """Steady traffic at a multiple of capacity; and the CPU seconds of the broker, its workers aside."""
        rate = load * self.capacity
        mix = [Source(0.6 * rate, "dashboard", TENANTS), Source(0.4 * rate, "explore", TENANTS)]
        sender = self.sender(callers)
        arrivals = traffic.poisson(mix, 0.0, self.seconds, random.Random(2))
        process = psutil.Process(self.place.broker.process.pid)
        before = process.cpu_times()
        results = await traffic.play(arrivals, sender, DEADLINE)
        after = process.cpu_times()
        return sender, results, after.user + after.system - before.user - before.system


async def capacity_of(dsn: str, seconds: float) -> list[tuple[int, float]]:
    """Queries per second by number of callers."""
    asked = aged.panels("bench_aged", PANELS, LENGTH)
    async with asyncpg.create_pool(dsn, min_size=1, max_size=max(CALLERS)) as pool:

        async def direct(number: int) -> None:
            panel = asked[number % len(asked)]
            await pool.fetch(SQL, panel.start, panel.end)

        await traffic.closed(4, seconds, direct)
        return [(callers, await traffic.closed(callers, seconds, direct)) for callers in CALLERS]


@asynccontextmanager
async def database() -> AsyncIterator[EmbeddedPostgres]:
    """A database of its own, with what is asked about."""
    async with AsyncExitStack() as stack:
        home = Path(stack.enter_context(TemporaryDirectory(prefix="ladder-")))
        manager = temporary_server(max_parallel_workers_per_gather="0")  # a seat is a process
        postgres = await asyncio.to_thread(manager.__enter__)
        stack.push_async_callback(asyncio.to_thread, manager.__exit__, None, None, None)
        connection = await asyncpg.connect(postgres.dsn())
        await load_flights(connection, copies=COPIES)
        await aged.make_tables(connection)
        await connection.close()
        await install(postgres.dsn(), extended_model(home, aged.datasets()))
        yield postgres


@asynccontextmanager
async def bench(
    postgres: EmbeddedPostgres, *, quick: bool
) -> AsyncIterator[tuple[Bench, list[tuple[int, float]]]]:
    """The capacity of a database, and a broker with the best number of seats."""
    async with AsyncExitStack() as stack:
        dsn = postgres.dsn()
        sweep = await capacity_of(dsn, 0.6 if quick else 4.0)
        best = max(rate for _, rate in sweep)
        seats = max(3, next(callers for callers, rate in sweep if rate >= 0.93 * best))
        settings: Mapping[str, object] = {
            "auth.api_keys": keys(),
            "cache.memory": 64 << 20,
            "database.limit.seats": seats,
        }
        place = await stack.enter_async_context(broker_over(postgres, dsn, settings, aged.datasets()))
        writer = aged.Writer(dsn)
        writing = asyncio.create_task(writer.run())
        stack.callback(writing.cancel)
        yield Bench(place, writer, best, 5.0 if quick else 30.0, 120.0 if quick else 300.0), sweep


def figures(load: float, sender: Sender, results: Sequence[Result], own: Bench) -> dict[str, float]:
    """The metrics of one load."""
    dashboards = [r for r in results if r.arrival.kind == "dashboard"]
    answered = sum(r.fate is Fate.LIVE for r in dashboards)
    unlabelled = sum(
        not answer.honest(sender.panel(arrival).table, own.writer, sent)
        for arrival, sent, _, answer in sender.seen
    )
    beyond = sum(sent - answer.as_of > own.staleness for _, sent, _, answer in sender.seen)
    degraded = [seconds for _, _, seconds, answer in sender.seen if answer.status.degraded]
    end = f"_{load:g}x"
    return {
        f"answered_share{end}": answered / max(1, len(dashboards)),
        f"unlabelled{end}": unlabelled,
        f"beyond_staleness{end}": beyond,
        f"degraded_share{end}": len(degraded) / max(1, len(sender.seen)),
        f"degraded_p99_ms{end}": 1000 * traffic.p99(degraded),
        f"degraded_median_ms{end}": 1000 * harness.median(degraded) if degraded else float("nan"),
        f"dashboard_p99_ms{end}": 1000 * traffic.p99([s for _, _, s, _ in sender.seen]),
    }


async def measure(options: harness.Options) -> harness.Report:
    """All of it in one run; at ten times capacity both ways, but for quick runs."""
    loads = (1.0, 10.0) if options.quick else (0.7, 1.0, 2.0, 5.0, 10.0)
    metrics: dict[str, float] = {}
    sections: list[harness.Section] = []
    async with database() as postgres:
        with placed.apart(postgres.pid) as where:
            metrics |= await _measured(postgres, loads, where, sections, quick=options.quick)
        together: dict[str, float] = {}
        if not options.quick:
            together = await _measured(postgres, loads[-1:], placed.TOGETHER, sections, quick=False)
    for name in ("answered_share", "unlabelled", "beyond_staleness", "degraded_p99_ms"):
        metrics[name] = metrics.pop(f"{name}_10x")
        if together:
            metrics[f"{name}{placed.ONE_MACHINE}"] = together[f"{name}_10x"]
    return harness.Report(metrics, GOALS, sections)


async def _measured(
    postgres: EmbeddedPostgres,
    loads: Sequence[float],
    where: str,
    sections: list[harness.Section],
    *,
    quick: bool,
) -> dict[str, float]:
    """The metrics of some loads, and the tables that belong to them; ``where`` says who runs where."""
    metrics: dict[str, float] = {}
    rows: list[tuple[object, ...]] = []
    async with bench(postgres, quick=quick) as (own, sweep):
        callers = Callers(own.place.broker.address, keyed=True)
        try:
            await own.warmed(callers)
            for load in loads:
                sender, results, spent = await own.at(callers, load)
                metrics |= figures(load, sender, results, own)
                metrics[f"broker_cpu_ms_per_call_{load:g}x"] = 1000 * spent / len(results)
                rows += _rows(load, sender, results)
        finally:
            callers.close()
    columns = ("load", "kind", "reasons or fates", "calls", "median ms", "p99 ms")
    sections.append(harness.Section(f"asyncpg callers; {where}", ("callers", "per second"), sweep))
    sections.append(harness.Section(f"answers; {where}", columns, rows))
    return metrics


GOALS = {
    "answered_share": harness.Goal(">=", 0.99),
    "unlabelled": harness.Goal("<=", 0),
    "beyond_staleness": harness.Goal("<=", 0),
    "degraded_p99_ms": harness.Goal("<=", 100.0),
}


def _rows(load: float, sender: Sender, results: Sequence[Result]) -> list[tuple[object, ...]]:
    """What the dashboards got, then what became of all calls."""
    found: dict[tuple[str, str], list[float]] = {}
    for _, _, seconds, answer in sender.seen:
        reasons = ", ".join(map(_reason, answer.status.reasons))
        found.setdefault((answer.kind, reasons), []).append(1000 * seconds)
    rows: list[tuple[object, ...]] = [
        (load, *key, len(times), harness.median(times), traffic.p99(times))
        for key, times in sorted(found.items(), key=lambda pair: -len(pair[1]))
    ]
    for kind in ("dashboard", "explore"):
        fates = Counter(r.fate.value for r in results if r.arrival.kind == kind)
        rows.append((load, f"all of {kind}", _told(fates), sum(fates.values()), "", ""))
    return rows


def _reason(reason: answer_pb2.DegradationReason.ValueType) -> str:
    return answer_pb2.DegradationReason.Name(reason).removeprefix("DEGRADATION_REASON_").lower()


def _told(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in counts.most_common())


def main() -> None:
    """Run it."""
    harness.run("ladder", __doc__, measure)
