"""How often intervals of estimates hold, and what an estimate saves: block samples of real tables.

A trial is all that the broker does: a pilot, the decision, a sample of the blocks that it asks for, and the limits. The
truth is what the exact statement says of the same table. The shapes of filter: one row in ten anywhere (`uniform`); the
same with amounts of which few make up much (`skewed`); a range of time in a table that lies in the order of time, so
that few blocks hold all matches (`clustered`); averages and ratios over both; and ten groups at once (`grouped`).

`row_variance_coverage` is how often the usual formula for a share of independent rows holds over the clustered
samples: it takes every row for a witness of its own. `speedup_*` is the time of the exact statement by that of an
estimate within 5 %, medians, by the number of rows. `wilson_ok` is 1 when the 95 % interval (Wilson) of each coverage
meets 93 to 97 %.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random

import asyncpg

from broker.adapters.pg_connection import Settings
from broker.adapters.pg_pool import PgPools
from broker.adapters.pg_samples import PgSamples
from broker.adapters.pg_store import PgStore
from broker.adapters.sql.compiler import SqlCompiler
from broker.domain.deadline import Deadline
from broker.domain.plan import Plan
from broker.domain.pool import PoolLimits, PoolName
from broker.domain.principal import Principal
from broker.domain.query import Query
from broker.domain.sample import BlockSums, NoEstimate
from broker.pipeline.drawing import Asked, draw
from broker.policy.estimate_design import DEFAULT_LIMIT, Told
from broker.policy.estimate_figures import figures
from broker.policy.resolve import resolve_query
from broker.runtime.clock import SystemClock
from tests.bench import harness
from tests.bench.harness import Goal, Options, Report, Section, median
from tests.support.pg import temporary_server
from tests.support.samples import KIND, START, clustered, events, make_events, uniform

LOW, HIGH = 0.93, 0.97
CLOCK = SystemClock()
SHAPES = {
    "uniform": uniform("events", "pieces"),
    "skewed": uniform("revenue"),
    "clustered": clustered("events", "revenue"),
    "average": uniform("mean_amount", "per_piece"),
    "clustered average": clustered("mean_amount"),
    "grouped": Query("events", ("pieces",), ("shop",), filter=KIND),
}
DATASET = events()


@dataclass(slots=True)
class Tally:
    """What came of a shape: limits that held, of all that were told, refusals, and how wide the limits were."""

    held: int = 0
    told: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    widths: list[float] = field(default_factory=list)
    drawn: list[float] = field(default_factory=list)

    @property
    def coverage(self) -> float:
        """The share of limits that held."""
        return self.held / self.told if self.told else math.nan

    @property
    def wilson(self) -> tuple[float, float]:
        """The 95 % interval of the coverage (E. B. Wilson, J. Am. Stat. Assoc. 22, 1927)."""
        return wilson(self.held, self.told)


def wilson(held: int, told: int) -> tuple[float, float]:
    """The 95 % interval of a share."""
    if not told:
        return 0.0, 1.0
    z, share = 1.96, held / told
    middle = share + z * z / (2 * told)
    side = z * math.sqrt(share * (1 - share) / told + (z / (2 * told)) ** 2)
    scale = 1 + z * z / told
    return (middle - side) / scale, (middle + side) / scale


def main() -> None:
    harness.run("estimate", __doc__, measure)


@asynccontextmanager
async def opened(dsn: str) -> AsyncIterator[PgStore]:
    """A store of the server."""
    limits = {name: PoolLimits(8, 8, 2, 1) for name in PoolName}
    pools = await PgPools.open(dsn, limits, Settings("bench"))
    try:
        yield PgStore(pools, CLOCK)
    finally:
        await pools.aclose()


def plan_of(query: Query, table: str) -> Plan:
    """The plan of a question about a table."""
    dataset = DATASET if table == "events" else events(table)
    return resolve_query(query, dataset, Principal("bench", "bench"), START)


async def estimate(
    samples: PgSamples, plan: Plan, rng: Random, limit: float = DEFAULT_LIMIT
) -> tuple[Told, BlockSums] | NoEstimate:
    """One estimate, as the broker makes it."""
    deadline = Deadline.after(60.0, CLOCK.monotonic())
    async with samples.table(PoolName.ADMIN, plan, deadline) as table:
        asked = Asked(figures(plan), limit, deadline)
        return await draw(table, asked, lambda: rng.randrange(2**31), CLOCK)


async def truth(dsn: str, plan: Plan) -> tuple[dict[tuple[object, ...], list[float]], float]:
    """The exact figures by group, and the seconds that they took."""
    (statements,) = SqlCompiler().compile(plan)
    assert statements.grouped is not None
    text, values = statements.grouped.whole()
    connection = await asyncpg.connect(dsn, server_settings={"jit": "off"})
    try:
        rows = await connection.fetch(text, *values)
        times: list[float] = []
        for _ in range(3):
            began = time.perf_counter()
            await connection.fetch(text, *values)
            times.append(time.perf_counter() - began)
    finally:
        await connection.close()
    keys, own = len(plan.main.dimensions), figures(plan)
    found = {
        tuple(row)[:keys]: [
            float(row[figure.above]) / (float(row[figure.below]) if figure.below else 1) for figure in own
        ]
        for row in rows
    }
    return found, median(times)


async def trials(dsn: str, store: PgStore, query: Query, count: int, rng: Random) -> tuple[Tally, Tally]:
    """So many estimates of a question; beside them what the formula for independent rows says of the first figure."""
    plan, samples = plan_of(query, "events"), PgSamples(store)
    exact, _ = await truth(dsn, plan)
    connection = await asyncpg.connect(dsn)
    rows = await connection.fetchval("SELECT count(*) FROM events")
    await connection.close()
    tally, by_row = Tally(), Tally()
    for _ in range(count):
        found = await estimate(samples, plan, rng)
        if isinstance(found, NoEstimate):
            tally.refused[found.value] += 1
            continue
        told, sample = found
        tally.drawn.append(float(sample.drawn))
        for key, limits in told.groups.items():
            for each, value in zip(limits, exact[key], strict=True):
                tally.told += 1
                tally.held += each.lower <= value <= each.upper
                tally.widths.append(each.relative)
        by_row.told += 1
        by_row.held += _as_rows(sample, rows, exact[()][0]) if () in exact else 0
    return tally, by_row


def _as_rows(sample: BlockSums, rows: int, value: float) -> bool:
    """Whether the share of matching rows lies within the limits that it would have if rows were drawn one by one."""
    drawn = sample.drawn * rows / sample.blocks
    share = sample.groups[0].sums[0].powers[1, 0] / drawn
    error = 1.96 * math.sqrt(max(0.0, share * (1 - share)) / drawn * (1 - sample.drawn / sample.blocks))
    return abs(share * rows - value) <= error * rows


async def speed(dsn: str, store: PgStore, table: str, rounds: int, rng: Random) -> tuple[float, float, float]:
    """Milliseconds of the exact statement and of an estimate within 5 %, and how many of those there were."""
    plan, samples = plan_of(uniform("revenue"), table), PgSamples(store)
    _, exact = await truth(dsn, plan)
    times: list[float] = []
    for _ in range(rounds):
        began = time.perf_counter()
        found = await estimate(samples, plan, rng, 0.05)
        if not isinstance(found, NoEstimate):
            times.append(time.perf_counter() - began)
    return exact * 1e3, median(times) * 1e3 if times else math.nan, len(times)


async def measure(options: Options) -> Report:
    """All of it, on a server of its own."""
    rng = Random(20_240_607)
    count = 80 if options.quick else 2_000
    sizes = [400_000, 1_200_000] if options.quick else [400_000, 1_600_000, 6_400_000]
    with temporary_server() as server:
        dsn = server.dsn("postgres")
        connection = await asyncpg.connect(dsn)
        await make_events(connection, sizes[1])
        tallies: dict[str, Tally] = {}
        by_row = Tally()
        async with opened(dsn) as store:
            for name, query in SHAPES.items():
                tallies[name], rows = await trials(dsn, store, query, count, Random(f"{name} of 2024"))
                if name == "clustered":
                    by_row = rows
            speeds = {}
            for size in sizes:
                table = "events" if size == sizes[1] else f"events_{size}"
                if table != "events":
                    await make_events(connection, size, table)
                speeds[size] = await speed(dsn, store, table, 7 if options.quick else 25, rng)
        await connection.close()
    return _report(tallies, by_row, speeds)


def _report(
    tallies: dict[str, Tally], by_row: Tally, speeds: dict[int, tuple[float, float, float]]
) -> Report:
    covered = [tally.coverage for tally in tallies.values()]
    meets = all(tally.wilson[0] <= HIGH and tally.wilson[1] >= LOW for tally in tallies.values())
    metrics: dict[str, float] = {
        "coverage_min": min(covered),
        "coverage_max": max(covered),
        "wilson_ok": float(meets),
        "row_variance_coverage": by_row.coverage,
        "trials": float(sum(len(t.drawn) + t.refused.total() for t in tallies.values())),
        "refused": float(sum(t.refused.total() for t in tallies.values())),
    }
    for size, (exact, sampled, _) in speeds.items():
        metrics[f"speedup_{size // 1000}k"] = exact / sampled
    goals = {
        "coverage_min": Goal(">=", LOW),
        "coverage_max": Goal("<=", HIGH),
        "wilson_ok": Goal(">=", 1),
        "row_variance_coverage": Goal("<=", 0.6),
    }
    return Report(metrics, goals, [_shapes(tallies), _speeds(speeds)])


def _shapes(tallies: dict[str, Tally]) -> Section:
    rows: list[Sequence[object]] = [
        (
            name,
            tally.told,
            tally.coverage,
            f"{tally.wilson[0]:.3f} to {tally.wilson[1]:.3f}",
            f"{median(tally.widths):.1%}" if tally.widths else "",
            int(median(tally.drawn)) if tally.drawn else 0,
            ", ".join(f"{code} {n}" for code, n in tally.refused.items()),
        )
        for name, tally in tallies.items()
    ]
    return Section(
        "coverage of nominal 95 % limits",
        ("shape", "limits", "held", "Wilson", "half-width", "blocks", "refused"),
        rows,
    )


def _speeds(speeds: dict[int, tuple[float, float, float]]) -> Section:
    rows: list[Sequence[object]] = [
        (f"{size:,} rows", exact, sampled, exact / sampled, int(told))
        for size, (exact, sampled, told) in speeds.items()
    ]
    return Section(
        "a skewed sum within 5 %", ("table", "exact ms", "estimate ms", "times faster", "estimates"), rows
    )
