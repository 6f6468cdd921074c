"""A real database under ten times the load that it can carry: by the broker, and by what people write by hand.

Capacity is the best point of a sweep of asyncpg callers over queries of about 100 ms; that point also gives the seats.
Then requests come at 0.7 to 10 times that rate whatever becomes of them, dashboards and explorations of ten tenants,
each with a deadline; what counts is answers inside it, live ones, for no cache and no rollup exists. The database has
half of the processors to itself, as if it were another machine; how ten times the capacity goes where all share all
processors, from sweep to figures, is told beside. Rivals in the same run: a service with a semaphore of as many seats
and its FIFO, and one that admits everything. Further: explorers who would take all while dashboards come at an ordinary
rate, a quiet tenant beside a noisy one, and a spike.

How much a machine can do drifts, and the least of a few noisy points is not the truth, nor is the best. So goodput
counts what was told within a window, by asyncpg's rate with the best number of callers in the seconds right before and
right after it. Dashboards beside explorers come in short rounds, through the broker and bare in turns, with the same
arrivals, and their percentiles are of all rounds. Arrivals are random, their number is not. With a few dozen answers,
as in a quick run, a p99 is nearly a maximum all the same; a full run has hundreds.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from operator import itemgetter

import asyncpg

from broker.demo.embedded import EmbeddedPostgres
from tests.bench import harness
from tests.bench.live import SQL
from tests.bench.parts import declined, fates, placed, traffic
from tests.bench.parts.explorers import beside_explorers
from tests.bench.parts.place import Place, broker_over, flights_database
from tests.bench.parts.senders import (
    DATASETS,
    DEADLINE,
    NOISY,
    QUESTION,
    QUIET,
    TENANTS,
    Broker,
    broker,
    by_hand,
    keys,
)
from tests.bench.parts.traffic import Fate, Result, Source

WARM_UP = 1.5
"""Seconds of every load that are not counted: until queues are as long as they get."""
RIVALS_WARM_UP = DEADLINE + 0.3
"""The same of rivals, whose queues grow until the first of those who wait have lost their time."""
CALLERS, QUICK_CALLERS = (1, 2, 3, 4, 6, 8), (2, 4, 6)


@dataclass
class Bench:
    """One run: the place, the direct connections, capacity with its number of callers, and seconds of each part.

    ``latest`` is what the capacity is now, 0 where it has to be looked at; a ``slice`` is how long that takes.
    """

    place: Place
    pool: asyncpg.Pool
    capacity: float
    callers: int
    seats: int
    send: Broker
    seconds: float
    rivals_seconds: float
    slice: float
    latest: float

    def mix(self, load: float) -> list[Source]:
        """Dashboards and explorations, three to two."""
        rate = load * self.capacity
        return [Source(0.6 * rate, "dashboard", TENANTS), Source(0.4 * rate, "explore", TENANTS)]

    async def at(self, send: traffic.Send, load: float, seed: int) -> list[Result]:
        """What was told in steady traffic at a multiple of capacity, its beginning left out."""
        end = WARM_UP + self.seconds
        arrivals = traffic.poisson(self.mix(load), 0.0, end, random.Random(seed))
        results = await traffic.play(arrivals, send, DEADLINE)
        return [r for r in results if WARM_UP <= r.told < end]

    async def loaded(self, load: float) -> tuple[float, list[Result]]:
        """The same of the broker with its goodput, as a share of the capacity right before and after it."""
        before = self.latest or await self.rate()
        results = await self.at(self.send, load, 2)
        self.latest = await self.rate()
        return goodput(results, self.seconds, (before + self.latest) / 2), results

    async def rival(self, seats: int, load: float) -> tuple[float, list[Result]]:
        """The same of a rival, as a share of the capacity just before it; what is under way at the end is given up."""
        capacity, self.latest = self.latest or await self.rate(), 0.0
        end = RIVALS_WARM_UP + self.rivals_seconds
        arrivals = traffic.poisson(self.mix(load), 0.0, end, random.Random(2))
        async with by_hand(self.place.dsn, seats) as rival:
            results = await traffic.play(arrivals, rival, DEADLINE, end=end)
        results = [r for r in results if r.told >= RIVALS_WARM_UP]
        return goodput(results, self.rivals_seconds, capacity), results

    async def rate(self) -> float:
        """Queries per second of as many callers as are best."""
        return await traffic.closed(self.callers, self.slice, self.direct)

    async def beside_traffic(self, load: float, seed: int) -> tuple[float, float]:
        """Capacity beside the traffic of :meth:`at` if that is merely declined, and the p99 of being declined."""
        seconds = WARM_UP + self.seconds
        arrivals = traffic.poisson(self.mix(load), 0.0, seconds, random.Random(seed))
        times = DEADLINE, WARM_UP, self.seconds
        return await declined.beside(arrivals, self.place.dsn, self.seats, self.direct, times)

    async def direct(self, number: int) -> None:
        """The question straight to the database."""
        await self.pool.fetch(SQL, *QUESTION.range(number))

    async def quiet_tenant(self) -> tuple[float, float, float]:
        """p99 of a quiet tenant's dashboards alone and beside one that asks for ten times the capacity; its share
        of answers."""
        quiet = Source(0.15 * self.capacity, "dashboard", [QUIET])
        noisy = Source(10.0 * self.capacity, "dashboard", [NOISY])
        alone = await traffic.play(
            traffic.poisson([quiet], 0.0, 2 * self.seconds, random.Random(5)), self.send, DEADLINE
        )
        both = await traffic.play(
            traffic.poisson([quiet, noisy], 0.0, 2 * self.seconds, random.Random(5)), self.send, DEADLINE
        )
        calm = [r.seconds for r in alone]
        own = [r for r in both if r.arrival.tenant == QUIET]
        served = [r.seconds for r in own if r.fate is Fate.LIVE]
        return traffic.p99(calm), traffic.p99(served), len(served) / max(1, len(own))

    async def spike(self, send: traffic.Send) -> float:
        """Seconds after a spike of ten times capacity until 95 % of a second's requests are answered; retries on."""
        rng = random.Random(3)
        start, end, last = self.seconds / 2, 1.5 * self.seconds, 3.5 * self.seconds
        arrivals = [
            *traffic.poisson(self.mix(0.7), 0.0, start, rng),
            *traffic.poisson(self.mix(10.0), start, end, rng),
            *traffic.poisson(self.mix(0.7), end, last, rng),
        ]
        results = await traffic.play(arrivals, send, DEADLINE, attempts=3)
        step, at = 0.5, end
        while at + 1.0 <= last:
            window = [r for r in results if at <= r.arrival.at < at + 1.0]
            if window and sum(r.fate is Fate.LIVE for r in window) >= 0.95 * len(window):
                return at - end
            at += step
        return last - end


def goodput(results: Sequence[Result], seconds: float, capacity: float) -> float:
    """Live answers inside the deadline that were told within so many seconds, as a share of capacity."""
    return sum(r.fate is Fate.LIVE for r in results) / (capacity * seconds)


async def capacity_of(pool: asyncpg.Pool, numbers: Sequence[int], seconds: float) -> list[tuple[int, float]]:
    """Queries per second by number of callers."""

    async def direct(number: int) -> None:
        await pool.fetch(SQL, *QUESTION.range(number))

    await traffic.closed(numbers[-1], seconds / 2, direct)
    return [(callers, await traffic.closed(callers, seconds, direct)) for callers in numbers]


@asynccontextmanager
async def bench(
    postgres: EmbeddedPostgres, plain: str, *, quick: bool
) -> AsyncIterator[tuple[Bench, list[tuple[int, float]]]]:
    """Finds capacity, starts a broker with the best number of seats, and lets it learn."""
    async with AsyncExitStack() as stack:
        dsn = (
            plain + ("&" if "?" in plain else "?") + "max_parallel_workers_per_gather=0"
        )  # a seat is a process
        pool = await stack.enter_async_context(asyncpg.create_pool(dsn, max_size=20))
        sweep = await capacity_of(pool, QUICK_CALLERS if quick else CALLERS, 0.4 if quick else 4.0)
        callers, best = max(sweep, key=itemgetter(1))
        seats = max(3, next(number for number, rate in sweep if rate >= 0.93 * best))
        overrides = {
            "auth.api_keys": keys(),
            "database.limit.seats": seats,
            "pools.exploration.in_flight": 2 * seats,
            "pools.exploration.connections": 2 * seats,
        }
        place = await stack.enter_async_context(broker_over(postgres, dsn, overrides, DATASETS))
        send = await stack.enter_async_context(broker(place.broker.address))
        times = (4.5, 0.7, 1.0) if quick else (15.0, 15.0, 4.0)
        own = Bench(place, pool, best, callers, seats, send, *times, latest=best if quick else 0.0)
        before = traffic.poisson(own.mix(0.7), 0.0, 0.5 if quick else 2.0, random.Random(1))
        await traffic.play(before, send, DEADLINE)
        yield own, sweep


async def measure(options: harness.Options) -> harness.Report:
    """All of it in one run; ten times the capacity both ways, but for quick runs."""
    sections: list[harness.Section] = []
    together: dict[str, float] = {}
    async with flights_database(copies=2) as (postgres, dsn):
        with placed.apart(postgres.pid) as where:
            async with bench(postgres, dsn, quick=options.quick) as (own, sweep):
                metrics, rows = await _apart(own, quick=options.quick)
        sections += _sections(own, sweep, rows, where)
        if not options.quick:
            async with bench(postgres, dsn, quick=False) as (own, sweep):
                together, rows = await _together(own)
            sections += _sections(own, sweep, rows, placed.TOGETHER)
    sections.append(harness.Section("what the figures are", ("metric", "is"), declined.MEANINGS))
    return harness.Report(metrics | together, GOALS, sections)


async def _apart(own: Bench, *, quick: bool) -> tuple[dict[str, float], list[Sequence[object]]]:
    """Every load, the rivals, and the other questions."""
    metrics: dict[str, float] = {}
    rows: list[Sequence[object]] = []
    rivals = {"fifo": own.seats} if quick else {"fifo": own.seats, "nothing": 0}
    for load in (0.7, 10.0) if quick else (0.7, 1.0, 2.0, 5.0, 10.0):
        share, results = await own.loaded(load)
        rows.append(fates.row("broker", load, share, results))
        metrics |= fates.figures(load, share, results)
        for name, seats in rivals.items() if load > 1.0 or not quick else ():
            share, results = await own.rival(seats, load)
            rows.append(fates.row(name, load, share, results))
            metrics[f"{name}_goodput_{load:g}x"] = share
    rounds, seconds = (2, 2.5) if quick else (4, 7.5)
    beside = await beside_explorers(own.place, own.send, own.direct, own.capacity, rounds, seconds)
    metrics |= beside.figures()
    if not quick:
        calm, crowded, answered = await own.quiet_tenant()
        metrics |= {"quiet_p99_ratio": crowded / calm, "quiet_answered_share": answered}
        metrics["recovery_s"] = await own.spike(own.send)
        async with by_hand(own.place.dsn, own.seats) as rival:
            metrics["fifo_recovery_s"] = await own.spike(rival)
    return metrics, rows


async def _together(own: Bench) -> tuple[dict[str, float], list[Sequence[object]]]:
    """Ten times the capacity on one machine, and what of that machine the traffic alone takes."""
    share, results = await own.loaded(10.0)
    metrics = {
        f"{name}{placed.ONE_MACHINE}": value for name, value in fates.figures(10.0, share, results).items()
    }
    beside, declined_p99 = await own.beside_traffic(10.0, 2)
    metrics["goodput_10x_beside_traffic"] = goodput(results, own.seconds, beside)
    metrics["declined_p99_ms"] = 1000 * declined_p99
    return metrics, [fates.row("broker", 10.0, share, results)]


def _sections(
    own: Bench, sweep: Sequence[Sequence[object]], rows: Sequence[Sequence[object]], where: str
) -> list[harness.Section]:
    """The tables of one way to place the database; ``where`` says which."""
    callers = f"asyncpg callers, the broker gets {own.seats} seats; {where}"
    answers = f"live answers inside the deadline, as a share of capacity; {where}"
    return [
        harness.Section(callers, ("callers", "per second"), sweep),
        harness.Section(answers, fates.COLUMNS, rows),
    ]


GOALS = {
    "goodput_10x": harness.Goal(">=", 0.92),
    "goodput_5x": harness.Goal(">=", 0.94),
    "goodput_2x": harness.Goal(">=", 0.95),
    "false_refusals_0.7x": harness.Goal("<=", 0.002),
    "exploration_seat_share": harness.Goal(">=", 0.25),
    "dashboard_p99_vs_bare": harness.Goal("<=", 1.2),
    "refusal_p99_ms": harness.Goal("<=", 10.0),
    "quiet_p99_ratio": harness.Goal("<=", 1.5),
    "recovery_s": harness.Goal("<=", 15.0),
    "jain_10x": harness.Goal(">=", 0.97),
}


def main() -> None:
    """Run it."""
    harness.run("overload", __doc__, measure)
