"""A real database under ten times the load that it can carry: by the broker, and by what people write by hand.

Capacity is the best point of a sweep of asyncpg callers over queries of about 100 ms; that point also gives the seats.
Then requests come at 0.7 to 10 times that rate whatever becomes of them, dashboards and explorations of ten tenants,
each with a deadline; what counts is answers inside it, live ones, for no cache and no rollup exists. The database has
half of the processors to itself, as if it were another machine; how ten times the capacity goes where all share all
processors, from sweep to figures, is told beside. Rivals in the same run: a service with a semaphore of as many seats
and its FIFO, and one that admits everything. Further: explorers who would take all while dashboards come at an ordinary
rate, a quiet tenant beside a noisy one, and a spike.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import asyncpg

from broker.demo.embedded import EmbeddedPostgres
from querybroker.v1 import admin_service_pb2, admin_service_pb2_grpc
from tests.bench import harness
from tests.bench.live import SQL
from tests.bench.parts import declined, fates, placed, traffic
from tests.bench.parts.place import Place, broker_over, flights_database
from tests.bench.parts.senders import NOISY, QUESTION, QUIET, TENANTS, Broker, broker, by_hand, keys
from tests.bench.parts.traffic import Arrival, Fate, Result, Source

DEADLINE = 2.0
WARM_UP = 1.5
"""Seconds of every load that are not counted: until queues are as long as they get."""
CALLERS = (1, 2, 3, 4, 6, 8)


@dataclass(frozen=True)
class Bench:
    """One run: the place, the direct connections, and how long each part takes in seconds."""

    place: Place
    pool: asyncpg.Pool
    capacity: float
    seats: int
    seconds: float
    send: Broker

    def mix(self, load: float) -> list[Source]:
        """Dashboards and explorations, three to two."""
        rate = load * self.capacity
        return [Source(0.6 * rate, "dashboard", TENANTS), Source(0.4 * rate, "explore", TENANTS)]

    async def at(self, send: traffic.Send, load: float, seed: int) -> list[Result]:
        """Steady traffic at a multiple of capacity, without its beginning."""
        arrivals = traffic.poisson(self.mix(load), 0.0, WARM_UP + self.seconds, random.Random(seed))
        results = await traffic.play(arrivals, send, DEADLINE)
        return [r for r in results if r.arrival.at >= WARM_UP]

    def goodput(self, results: Sequence[Result]) -> float:
        """Live answers inside the deadline, as a share of capacity."""
        return sum(r.fate is Fate.LIVE for r in results) / (self.capacity * self.seconds)

    async def beside_traffic(self, load: float, seed: int) -> tuple[float, float]:
        """Capacity beside the traffic of :meth:`at` if that is merely declined, and the p99 of being declined."""
        seconds = WARM_UP + self.seconds
        arrivals = traffic.poisson(self.mix(load), 0.0, seconds, random.Random(seed))
        times = DEADLINE, WARM_UP, self.seconds
        return await declined.beside(arrivals, self.place.dsn, self.seats, self.direct, times)

    async def direct(self, number: int) -> None:
        """The question straight to the database."""
        await self.pool.fetch(SQL, *QUESTION.range(number))

    async def seat_share(self, stop: asyncio.Event) -> list[tuple[int, int]]:
        """Seats used by explorations, and by all, several times a second until told to stop."""
        stub = admin_service_pb2_grpc.AdminServiceStub(self.place.channel())
        metadata = (("authorization", "Bearer operator"),)
        found: list[tuple[int, int]] = []
        while not stop.is_set():
            state = await stub.GetState(admin_service_pb2.GetStateRequest(), metadata=metadata)
            used = {pool.name: pool.seats_used for pool in state.state.pools}
            waiting = {pool.name: pool.queue_length for pool in state.state.pools}
            if waiting["exploration"]:
                found.append((used["exploration"], used["exploration"] + used["dashboard"]))
            await asyncio.sleep(0.1)
        return found

    async def beside_explorers(self) -> tuple[float, float, float]:
        """Share of the seats that explorers get, and the p99 of dashboards through the broker and bare beside them."""
        dashboards = Source(0.25 * self.capacity, "dashboard", TENANTS)
        flood = Source(2.0 * self.capacity, "explore", TENANTS)
        rng = random.Random(11)
        arrivals = traffic.poisson([dashboards, flood], 0.0, 2 * self.seconds, rng)
        stop = asyncio.Event()
        sampling = asyncio.create_task(self.seat_share(stop))
        results = await traffic.play(arrivals, self.send, DEADLINE)
        stop.set()
        shares = await sampling
        explorers = sum(used for used, _ in shares) / max(1, len(shares))
        share = explorers / max(1e-9, sum(every for _, every in shares) / max(1, len(shares)))
        bare = await self.bare([a for a in arrivals if a.kind == "dashboard"], explorers)
        through = [r.seconds for r in results if r.arrival.kind == "dashboard" and r.fate is not Fate.REFUSED]
        return share, traffic.p99(through), traffic.p99([r.seconds for r in bare])

    async def bare(self, arrivals: Sequence[Arrival], explorers: float) -> list[Result]:
        """The same dashboards by asyncpg, beside as many explorers (on average) as the broker let run."""
        whole, part = int(explorers), explorers - int(explorers)
        done = asyncio.Event()

        async def explorer(duty: float, me: int) -> None:
            loop = asyncio.get_running_loop()
            number = 1_000 * me
            while not done.is_set():
                started = loop.time()
                await self.direct(number)
                number += 1
                if duty < 1.0:
                    await asyncio.sleep((loop.time() - started) * (1.0 / duty - 1.0))

        async def send(arrival: Arrival, left: float) -> tuple[Fate, str]:
            try:
                async with asyncio.timeout(left):
                    await self.direct(arrival.number)
            except TimeoutError:
                return Fate.LATE, ""
            return Fate.LIVE, ""

        duties = [1.0] * whole + ([part] if part > 0.05 else [])
        crowd = [asyncio.create_task(explorer(duty, me)) for me, duty in enumerate(duties)]
        try:
            return await traffic.play(arrivals, send, DEADLINE)
        finally:
            done.set()
            await asyncio.gather(*crowd)

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


async def capacity_of(pool: asyncpg.Pool, seconds: float) -> list[tuple[int, float]]:
    """Queries per second by number of callers."""

    async def direct(number: int) -> None:
        await pool.fetch(SQL, *QUESTION.range(number))

    await traffic.closed(4, seconds, direct)
    return [(callers, await traffic.closed(callers, seconds, direct)) for callers in CALLERS]


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
        sweep = await capacity_of(pool, 0.6 if quick else 4.0)
        best = max(rate for _, rate in sweep)
        seats = max(3, next(callers for callers, rate in sweep if rate >= 0.93 * best))
        overrides = {
            "auth.api_keys": keys(),
            "database.limit.seats": seats,
            "pools.exploration.in_flight": 2 * seats,
            "pools.exploration.connections": 2 * seats,
        }
        place = await stack.enter_async_context(broker_over(postgres, dsn, overrides))
        send = await stack.enter_async_context(broker(place.broker.address))
        own = Bench(place, pool, best, seats, 3.0 if quick else 15.0, send)
        before = traffic.poisson(own.mix(0.7), 0.0, 2.0, random.Random(1))
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
        results = await own.at(own.send, load, 2)
        rows.append(fates.row("broker", load, own.goodput(results), results))
        metrics |= fates.figures(load, own.goodput(results), results)
        for name, seats in rivals.items() if load > 1.0 or not quick else ():
            async with by_hand(own.place.dsn, seats) as rival:
                other = await own.at(rival, load, 2)
            rows.append(fates.row(name, load, own.goodput(other), other))
            metrics[f"{name}_goodput_{load:g}x"] = own.goodput(other)
    share, through, bare = await own.beside_explorers()
    metrics |= {
        "exploration_seat_share": share,
        "dashboard_p99_vs_bare": through / bare,
        "dashboard_p99_ms": 1000 * through,
    }
    if not quick:
        calm, beside, answered = await own.quiet_tenant()
        metrics |= {"quiet_p99_ratio": beside / calm, "quiet_answered_share": answered}
        metrics["recovery_s"] = await own.spike(own.send)
        async with by_hand(own.place.dsn, own.seats) as rival:
            metrics["fifo_recovery_s"] = await own.spike(rival)
    return metrics, rows


async def _together(own: Bench) -> tuple[dict[str, float], list[Sequence[object]]]:
    """Ten times the capacity on one machine, and what of that machine the traffic alone takes."""
    results = await own.at(own.send, 10.0, 2)
    found = fates.figures(10.0, own.goodput(results), results)
    metrics = {f"{name}{placed.ONE_MACHINE}": value for name, value in found.items()}
    beside, declined_p99 = await own.beside_traffic(10.0, 2)
    metrics["goodput_10x_beside_traffic"] = own.goodput(results) * own.capacity / beside
    metrics["declined_p99_ms"] = 1000 * declined_p99
    return metrics, [fates.row("broker", 10.0, own.goodput(results), results)]


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
