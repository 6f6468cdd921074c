"""PostgreSQL is stopped under load and comes back: every panel that was seen before is answered, and says its age.

Dashboards of sixty panels over two tables come at an ordinary rate, each with a deadline of two seconds. Of one table
changes are tracked, of the other nothing is known but age. Both are written to all the time, and every answer holds the
last number that was written, so that its age is known besides what it says. Then PostgreSQL is stopped as by a crash,
for some time, and started again. Errors, answers after the deadline and answers that are not what they claim are
counted; after its return, the time until nobody is given a stale answer any more, and how many statements of the broker
run in the database at once.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg

from broker.demo.embedded import EmbeddedPostgres
from broker.demo.flights import load_flights
from tests.bench import harness
from tests.bench.parts import aged, traffic
from tests.bench.parts.place import Place, broker_over, extended_model
from tests.bench.parts.senders import METHODS
from tests.bench.parts.wire import Connection, connect
from tests.support.pg import temporary_server
from tests.support.rollups import install

DEADLINE = 2.0
STALENESS = 3600.0
PANELS = 30
"""Of each table."""
LENGTH = timedelta(days=60)
CALLERS = 8
_ACTIVE = """
SELECT count(*) FROM pg_stat_activity
WHERE state = 'active' AND application_name = 'querybroker' AND pid <> pg_backend_pid()
"""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of a call that was sent at an instant of the wall clock, about a panel."""

    sent: float
    panel: int
    seconds: float
    answer: aged.Seen | str


@dataclass
class Load:
    """Calls at a steady rate, and everything that came back."""

    address: str
    rate: float
    panels: Sequence[aged.Panel]
    replies: list[Reply] = field(default_factory=list)

    async def run(self, connections: Sequence[Connection]) -> None:
        """Sends until it is cancelled, then waits for what is under way."""
        rng, number = random.Random(1), 0
        messages = [panel.request(STALENESS) for panel in self.panels]
        async with asyncio.TaskGroup() as calls:
            try:
                while True:
                    number += 1
                    panel = rng.randrange(len(messages))
                    calls.create_task(self.one(connections[number % CALLERS], panel, messages[panel]))
                    await asyncio.sleep(rng.expovariate(self.rate))
            except asyncio.CancelledError:
                return

    async def one(self, connection: Connection, panel: int, message: bytes) -> None:
        """One call."""
        sent = time.time()
        reply = await connection.call(METHODS["dashboard"], message, DEADLINE)
        now = time.time()
        answer = aged.read(reply.message, now) if not reply.status else f"status {reply.status}"
        self.replies.append(Reply(sent, panel, now - sent, answer))


async def busiest(dsn: str, seconds: float) -> tuple[int, float]:
    """The most and the mean number of the broker's statements that run at once."""
    connection = await asyncpg.connect(dsn)
    found = []
    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            found.append(await connection.fetchval(_ACTIVE))
            await asyncio.sleep(0.01)
    finally:
        await connection.close()
    return max(found), sum(found) / len(found)


@dataclass(frozen=True, slots=True)
class Course:
    """Instants of the wall clock, and what ran in the database before and after."""

    stopped: float
    back: float
    before: tuple[int, float]
    after: tuple[int, float]


async def course(postgres: EmbeddedPostgres, dsn: str, load: Load, *, quick: bool) -> Course:
    """Ordinary operation, an outage, and what comes after it."""
    connections = [await connect(load.address) for _ in range(CALLERS)]
    for connection, (number, panel) in zip(
        [connections[i % CALLERS] for i in range(len(load.panels))], enumerate(load.panels), strict=True
    ):
        await load.one(connection, number, panel.request(STALENESS))
    sending = asyncio.create_task(load.run(connections))
    before = await busiest(dsn, 3.0 if quick else 10.0)
    stopped = time.time()
    await asyncio.to_thread(postgres.stop, "immediate")
    await asyncio.sleep(8.0 if quick else 60.0)
    await asyncio.to_thread(postgres.start)
    back = time.time()
    after = await busiest(dsn, 8.0 if quick else 15.0)
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    for connection in connections:
        connection.close()
    return Course(stopped, back, before, after)


def recovery(replies: Sequence[Reply], back: float) -> float:
    """Seconds from the return until the last call was sent that got an answer from before it."""
    old = [r.sent - back for r in replies if r.sent >= back and _old(r, back)]
    return max(old, default=0.0)


def _old(reply: Reply, back: float) -> bool:
    return not isinstance(reply.answer, aged.Seen) or reply.answer.as_of < back


def figures(load: Load, writer: aged.Writer, own: Course) -> dict[str, float]:
    """The metrics."""
    during = [r for r in load.replies if own.stopped <= r.sent < own.back]
    answered = [r for r in load.replies if isinstance(r.answer, aged.Seen)]
    dishonest = sum(
        not r.answer.honest(load.panels[r.panel].table, writer, r.sent)
        for r in answered
        if isinstance(r.answer, aged.Seen)
    )
    ages = [r.sent - r.answer.as_of for r in during if isinstance(r.answer, aged.Seen)]
    late = sum(r.seconds > DEADLINE for r in load.replies)
    ordinary = [r.seconds for r in load.replies if r.sent < own.stopped]
    return {
        "error_rate": (len(load.replies) - len(answered)) / len(load.replies),
        "late": late,
        "dishonest": dishonest,
        "recovery_s": recovery(load.replies, own.back),
        "panels_seen_in_outage": len({r.panel for r in during if isinstance(r.answer, aged.Seen)}),
        "outage_s": own.back - own.stopped,
        "outage_calls": len(during),
        "outage_p99_ms": 1000 * traffic.p99([r.seconds for r in during]),
        "ordinary_p99_ms": 1000 * traffic.p99(ordinary),
        "oldest_s": max(ages, default=float("nan")),
        "upstream_most_before": own.before[0],
        "upstream_most_after": own.after[0],
    }


GOALS = {
    "error_rate": harness.Goal("<=", 0.001),
    "late": harness.Goal("<=", 0),
    "dishonest": harness.Goal("<=", 0),
    "recovery_s": harness.Goal("<=", 5.0),
    "panels_seen_in_outage": harness.Goal(">=", 2 * PANELS),
}


@asynccontextmanager
async def tables(home: Path) -> AsyncIterator[tuple[EmbeddedPostgres, str]]:
    """A database of its own, since it is to crash, with both tables, the first with triggers."""
    manager = temporary_server()
    postgres = await asyncio.to_thread(manager.__enter__)
    try:
        dsn = postgres.dsn()
        connection = await asyncpg.connect(dsn)
        await load_flights(connection)
        await aged.make_tables(connection)
        await connection.close()
        await install(dsn, extended_model(home, aged.datasets()))
        yield postgres, dsn
    finally:
        await asyncio.to_thread(manager.__exit__, None, None, None)


async def measure(options: harness.Options) -> harness.Report:
    """All of it in one run."""
    with TemporaryDirectory(prefix="outage-") as home:
        async with tables(Path(home)) as (postgres, dsn):
            settings: dict[str, object] = {"cache.memory": 64 << 20, "cache.soft_age": 1.0}
            async with broker_over(postgres, dsn, settings, aged.datasets()) as place:
                load, writer, own = await _played(place, postgres, dsn, quick=options.quick)
    metrics = figures(load, writer, own)
    return harness.Report(metrics, GOALS, [_kinds(load, own), _errors(load, own)])


async def _played(
    place: Place, postgres: EmbeddedPostgres, dsn: str, *, quick: bool
) -> tuple[Load, aged.Writer, Course]:
    panels = [panel for table in aged.TABLES for panel in aged.panels(table, PANELS, LENGTH)]
    load, writer = Load(place.broker.address, 40.0, panels), aged.Writer(dsn)
    writing = asyncio.create_task(writer.run())
    try:
        return load, writer, await course(postgres, dsn, load, quick=quick)
    finally:
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)


def _kinds(load: Load, own: Course) -> harness.Section:
    phases = {
        "before": (0.0, own.stopped),
        "away": (own.stopped, own.back),
        "after": (own.back, float("inf")),
    }
    rows = []
    for name, (first, last) in phases.items():
        for table in aged.TABLES:
            inside = [
                r for r in load.replies if first <= r.sent < last and load.panels[r.panel].table == table
            ]
            kinds = Counter(r.answer.kind if isinstance(r.answer, aged.Seen) else "error" for r in inside)
            rows.append((name, table, len(inside), ", ".join(f"{k} {n}" for k, n in kinds.most_common())))
    return harness.Section("answers", ("PostgreSQL", "table", "calls", "kinds"), rows)


def _errors(load: Load, own: Course) -> harness.Section:
    errors = Counter(
        (r.answer, "before" if r.sent < own.stopped else "away" if r.sent < own.back else "after")
        for r in load.replies
        if isinstance(r.answer, str)
    )
    return harness.Section(
        "errors", ("error", "PostgreSQL", "calls"), [(*key, n) for key, n in errors.most_common(8)]
    )


def main() -> None:
    """Run it."""
    harness.run("outage", __doc__, measure)
