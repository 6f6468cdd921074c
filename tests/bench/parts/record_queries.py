"""Runs a log of queries and keeps how long each took: ``python -m tests.bench.parts.record_queries``.

Queries run one after the other, on a database that does nothing else, as the broker reads panels. What else the machine
does would be taken for the query's own time, so the whole log is run again, and queries whose two best runs differ by
more than 8 % (and 0.3 ms) up to three times more; the best run counts. The planner is asked before the first run.
Takes about half an hour.
"""

from __future__ import annotations

import argparse
import asyncio
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from broker.adapters.pg_connection import Settings
from broker.adapters.pg_pool import PgPools
from broker.adapters.pg_store import PgStore
from broker.config.loader import load
from broker.domain.deadline import Deadline
from broker.domain.errors import BrokerError
from broker.domain.plan import CsvBlock, HeldBlock, Plan, ScanResult, SegmentBlock
from broker.domain.pool import PoolLimits, PoolName
from broker.domain.principal import Principal
from broker.policy.cost_key import cost_fingerprint
from broker.policy.resolve import resolve_query
from broker.policy.shape import shape_of
from broker.runtime.clock import SystemClock
from broker.transport.decode_query import decode_query
from tests.bench.parts.place import flights_database
from tests.bench.parts.query_log import KEPT, Entry, questions, write
from tests.oracle.choosing import Seeded
from tests.oracle.flights import all_models
from tests.oracle.generate import QuerySpace
from tests.oracle.zones import micros
from tests.support.flights_frames import read_csv_frames
from tests.support.server import FLIGHTS_MODEL

NOW = datetime(2014, 1, 5, 12, tzinfo=UTC)
SEED, COUNT = 20130101, 10_600
MOST_RUNS = 5
CLOCK = SystemClock()


@dataclass(slots=True)
class Measured:
    """A query with the times of its runs."""

    plan: Plan
    entry: Entry
    seconds: list[float] = field(default_factory=list)

    @property
    def settled(self) -> bool:
        """Whether two runs agree that nothing disturbed them."""
        first, *others = sorted(self.seconds)
        return bool(others) and others[0] < first * 1.08 + 0.0003


async def run(store: PgStore, plan: Plan) -> tuple[float, int, int]:
    """Seconds, rows and bytes of one run."""
    deadline = Deadline.after(60.0, CLOCK.monotonic())
    started = CLOCK.monotonic()
    alone = await store.read_alone(PoolName.DASHBOARD, plan, deadline)
    if alone is not None:
        return CLOCK.monotonic() - started, *_size(alone.results)
    async with store.snapshot(PoolName.DASHBOARD, deadline) as snapshot:
        started = CLOCK.monotonic()
        results = await snapshot.read(plan)
        return CLOCK.monotonic() - started, *_size(results)


def _size(results: tuple[ScanResult, ...]) -> tuple[int, int]:
    rows = 0
    for block in (block for result in results for block in result.grouped):
        assert not isinstance(block, SegmentBlock | HeldBlock), "stores read no files"
        rows += block.data.count(b"\n") if isinstance(block, CsvBlock) else block.count
    return rows, sum(result.byte_count for result in results)


async def record(store: PgStore, count: int, progress: Progress) -> list[Entry]:
    """The log of so many queries that can be resolved."""
    model = load(FLIGHTS_MODEL, {}, database_needed=False).model
    spaces = [QuerySpace.over(each, micros(NOW)) for each in all_models(read_csv_frames())]
    log: list[Measured] = []
    bar = progress.add_task("first runs", total=count)
    for kind, _, message in questions(spaces, Seeded(SEED)):
        query = decode_query(message, "query", [])
        try:
            plan = resolve_query(query, model.datasets[query.dataset], Principal("ada", "acme"), NOW)
            estimate = await store.estimate(plan, Deadline.after(60.0, CLOCK.monotonic()))
            seconds, rows, size = await run(store, plan)
        except BrokerError:
            continue
        entry = Entry(kind, cost_fingerprint(plan), seconds, rows, size, estimate, shape_of(plan))
        log.append(Measured(plan, entry, [seconds]))
        progress.advance(bar)
        if len(log) == count:
            break
    for number in range(2, MOST_RUNS + 1):
        left = [each for each in log if not each.settled]
        for each in progress.track(left, description=f"run {number}"):
            each.seconds.append((await run(store, each.plan))[0])
    return [replace(each.entry, seconds=min(each.seconds)) for each in log]


async def main(count: int, path: Path) -> None:
    """Records and writes the log."""
    async with flights_database() as (_, dsn):
        limits = {name: PoolLimits(8, 8, 1, 1) for name in PoolName}
        pools = await PgPools.open(dsn, limits, Settings("querybroker recorder", connect_timeout=20.0))
        try:
            with Progress(console=Console(stderr=True)) as progress:
                entries = await record(PgStore(pools, CLOCK), count, progress)
        finally:
            await pools.aclose()
    write(entries, path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=COUNT, help="queries in the log")
    parser.add_argument("--to", type=Path, default=KEPT, help="where the log is written")
    given = parser.parse_args()
    asyncio.run(main(given.count, given.to))
