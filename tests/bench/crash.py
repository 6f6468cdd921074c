"""Kills at random, and counts what the jobs left: none lost, none done twice, nothing written by a stale attempt.

Workers, their child processes, brokers and the postmaster get `kill -9`; workers stand still for longer than their
lease; connections are cut. All the while jobs are submitted; a submission without an answer is repeated by the same
request id at another broker. Who was killed is started again, as a supervisor would.

Counted outside of what is tested: the ids that submissions were answered with, a table that a trigger writes a line to
in the transaction that publishes a manifest (the effect), and files that attempts add lines to (effects outside of
PostgreSQL, which no queue can keep single). Everything that an attempt writes carries its fence, and the trigger
compares it with the fence of the row. In the end jobs in the dead-letter queue are requeued, as an operator would.

The full run goes on with a thousand pauses among more workers, and tells how soon a paused worker ends afterwards and
how soon its jobs begin again; then with trials of one thing each: a handler that computes for 60 s under a lease of
3 s, one that kills its worker, and cancels.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import Random

import asyncpg

from broker.adapters.migrate import migrate
from broker.demo.embedded import EmbeddedPostgres
from tests.bench import harness
from tests.bench.harness import Goal, Options, Report, Section
from tests.bench.parts.crash_faults import Faults
from tests.bench.parts.crash_fleet import Fleet
from tests.bench.parts.crash_pauses import WORKERS, Pauses
from tests.bench.parts.crash_trials import Cancels, alone
from tests.support.jobs import job_database
from tests.support.pg import GONE, temporary_server

LEASE = 2.0
GOALS = {
    "lost": Goal("<=", 0),
    "duplicated_effects": Goal("<=", 0),
    "stale_writes_accepted": Goal("<=", 0),
    "kills": Goal(">=", 40),
    "pause_exit_p99_ms": Goal("<=", 100),
    "restart_p99_s": Goal("<=", LEASE + 1.5),
    "burn_runs": Goal("<=", 1),
    "pill_runs": Goal("<=", 3),
    "cancel_p99_ms": Goal("<=", 50),
    "cancel_child_p99_ms": Goal("<=", 250),
    "cancel_deaf_p99_ms": Goal("<=", 1_200),
    "cancelled_while_running": Goal("<=", 0),
}
LEDGER = """
CREATE TABLE effect (job_id text NOT NULL, fence bigint NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE TABLE write (job_id text NOT NULL, what text NOT NULL, writer bigint NOT NULL, fence bigint NOT NULL);
CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.state = 'succeeded' AND OLD.state <> 'succeeded' THEN
        INSERT INTO effect VALUES (NEW.id, NEW.fence);
        INSERT INTO write VALUES (NEW.id, 'result', (NEW.result->>'row_count')::bigint, OLD.fence);
    END IF;
    IF NEW.progress ? 'row_count' AND NEW.progress IS DISTINCT FROM OLD.progress THEN
        INSERT INTO write VALUES (NEW.id, 'progress', (NEW.progress->>'row_count')::bigint, OLD.fence);
    END IF;
    IF NEW.failure->'metadata' ? 'fence' AND NEW.failure IS DISTINCT FROM OLD.failure THEN
        INSERT INTO write VALUES (NEW.id, 'failure', (NEW.failure->'metadata'->>'fence')::bigint, OLD.fence);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER noted AFTER UPDATE ON broker.job FOR EACH ROW EXECUTE FUNCTION noted();
"""
# The operator: dead letters go back into the queue, and nobody waits for retries any more.
SETTLE = """
UPDATE broker.job SET state = 'queued', dead_lettered = false, max_attempts = attempt + 100, crash_count = 0,
                      end_time = NULL, run_at = now(), queue_rank = now()
WHERE dead_lettered
"""
HURRY = "UPDATE broker.job SET run_at = now(), queue_rank = now() WHERE state = 'queued' AND run_at > now()"
MANY = "SELECT FROM broker.job WHERE state IN ('queued', 'running')"
OPEN = "SELECT count(*) FROM broker.job WHERE state IN ('queued', 'running')"
DRAIN_SECONDS = 120.0
"""For how long no job may end while some are open."""
MOST_OPEN = 300
FEW_OPEN = 20
"""Where it is measured how soon jobs begin again, so that none has to wait for a slot."""
TRIAL_LEASE = 3.0
CANCELS = 200


def main() -> None:
    def own(parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--seed", type=int, default=None, help="which faults come when; drawn if not given"
        )
        parser.add_argument("--kills", type=int, default=None, help="`kill -9` in all")
        parser.add_argument("--pauses", type=int, default=None, help="pauses after the kills")

    harness.run("crash", __doc__, measure, add_arguments=own)


async def measure(options: Options) -> Report:
    seed = options.own.seed if options.own.seed is not None else time.time_ns() % 1_000_000
    kills = options.own.kills or (42 if options.quick else 1_000)
    pauses = options.own.pauses if options.own.pauses is not None else 0 if options.quick else 1_000
    with tempfile.TemporaryDirectory(prefix="crash-") as directory, temporary_server() as server:
        folder = Path(directory)
        for name in ("external", "children"):
            (folder / name).mkdir()
        await migrate(server.dsn(), "jobs")
        await _execute(server, LEDGER)
        rng = Random(seed)
        began = time.monotonic()
        async with _fleet(server, Fleet(server.dsn(), folder, LEASE, rng)) as fleet:
            faults = Faults(fleet, server, folder, LEASE, rng)
            await faults.cause(kills)
            faulty = time.monotonic() - began
            dead = await _drained(server, fleet)
        drained = time.monotonic() - began - faulty
        fleets = [fleet]
        metrics: dict[str, float] = {}
        rows: list[tuple[str, object]] = []
        if pauses:
            fleets.append(Fleet(server.dsn(), folder, LEASE, rng, workers=WORKERS, clients=2))
            metrics |= await _paused(server, fleets[-1], pauses, rng)
        report = await _judged(server, fleets, faults, folder, (seed, faulty, drained, dead))
        if not options.quick:
            told, rows = await _trials(server, folder)
            metrics |= told
    trials = [Section("single trials", ("", ""), rows)] if rows else []
    return Report({**report.metrics, **metrics}, GOALS, [*report.sections, *trials])


@asynccontextmanager
async def _fleet(
    server: EmbeddedPostgres, fleet: Fleet, most: int = MOST_OPEN, *, hurry: bool = True
) -> AsyncIterator[Fleet]:
    """The fleet at work; its clients wait while more than ``most`` jobs are open, no job with ``hurry`` for a retry."""
    async with fleet.running():
        valve = asyncio.create_task(_regulate(server, fleet, most, hurry=hurry))
        try:
            yield fleet
        finally:
            valve.cancel()
            await asyncio.gather(valve, return_exceptions=True)


async def _regulate(server: EmbeddedPostgres, fleet: Fleet, most: int, *, hurry: bool) -> None:
    while True:
        with suppress(*GONE):
            if int((await _execute(server, MANY)).split()[-1]) > most:
                fleet.flowing.clear()
            else:
                fleet.flowing.set()
            if hurry:
                await _execute(server, HURRY)
        await asyncio.sleep(0.5)


async def _paused(server: EmbeddedPostgres, fleet: Fleet, count: int, rng: Random) -> dict[str, float]:
    """Metrics of so many pauses."""
    began = time.monotonic()
    async with _fleet(server, fleet, FEW_OPEN, hurry=False):
        pauses = Pauses(fleet, LEASE, rng)
        await pauses.cause(count)
        await _drained(server, fleet)
    connection = await asyncpg.connect(server.dsn())
    restarts = await pauses.restarts(connection)
    await connection.close()
    return {
        "long_pauses": len(pauses.exits),
        "leaseless_pauses": pauses.leaseless,
        "long_pauses_s": time.monotonic() - began,
        "pause_exit_p50_ms": 1e3 * harness.median(pauses.exits),
        "pause_exit_p99_ms": 1e3 * harness.percentile(pauses.exits, 99),
        "restarts": len(restarts),
        "restart_p50_s": harness.median(restarts),
        "restart_p99_s": harness.percentile(restarts, 99),
    }


async def _trials(
    server: EmbeddedPostgres, folder: Path
) -> tuple[dict[str, float], list[tuple[str, object]]]:
    """Metrics of single trials, and what else there is to say of them."""
    metrics: dict[str, float] = {}
    rows: list[tuple[str, object]] = []
    await _execute(server, "CREATE DATABASE trials")
    async with job_database(server.dsn("trials")) as jobs:
        for kind in ("burn", "pill"):
            (folder / kind).mkdir()
            runs, seconds, end = await alone(jobs, folder / kind, kind, TRIAL_LEASE)
            metrics[f"{kind}_runs"] = runs
            rows.append((f"{kind}: lease {TRIAL_LEASE:g} s, {seconds:.1f} s until it ended", end))
        cancels = Cancels(jobs, folder / "results")
        took = await cancels.times(CANCELS)
    names = {"test": "cancel_p99_ms", "spin": "cancel_child_p99_ms", "deaf": "cancel_deaf_p99_ms"}
    metrics |= {names[kind]: 1e3 * seconds for kind, seconds in took.items()}
    return {**metrics, "cancelled_while_running": cancels.wrong}, rows


async def _execute(server: EmbeddedPostgres, statement: str) -> str:
    connection = await asyncpg.connect(server.dsn())
    try:
        return str(await connection.execute(statement))
    finally:
        await connection.close()


async def _drained(server: EmbeddedPostgres, fleet: Fleet) -> int:
    """Ends the submissions and waits until every job has ended; how many were in the dead-letter queue."""
    await fleet.stop_producing()
    connection = await asyncpg.connect(server.dsn())
    dead, left, since = 0, -1, time.monotonic()
    try:
        while True:
            dead += int((await connection.execute(SETTLE)).split()[-1])
            await connection.execute(HURRY)
            count = await connection.fetchval(OPEN)
            if count == 0:
                return dead
            if count != left:
                left, since = count, time.monotonic()
            if time.monotonic() - since > DRAIN_SECONDS:
                raise AssertionError(f"{left} jobs are open, and none has ended for {DRAIN_SECONDS:g} s")
            await asyncio.sleep(0.2)
    finally:
        await connection.close()


async def _judged(
    server: EmbeddedPostgres,
    fleets: Sequence[Fleet],
    faults: Faults,
    folder: Path,
    facts: tuple[int, float, float, int],
) -> Report:
    seed, faulty, drained, dead = facts
    connection = await asyncpg.connect(server.dsn())
    effects = Counter(row["job_id"] for row in await connection.fetch("SELECT job_id FROM effect"))
    stale = await connection.fetchval("SELECT count(*) FROM write WHERE writer <> fence")
    writes = await connection.fetchval("SELECT count(*) FROM write")
    states = await connection.fetch("SELECT state, count(*) FROM broker.job GROUP BY 1")
    attempts = await connection.fetch(
        "SELECT outcome, count(*) FROM broker.job_history GROUP BY 1 ORDER BY 1"
    )
    published = {
        row["id"] for row in await connection.fetch("SELECT id FROM broker.job WHERE result IS NOT NULL")
    }
    await connection.close()
    outside = Counter(
        line.split()[0] for file in (folder / "external").iterdir() for line in file.read_text().splitlines()
    )
    acknowledged = {request: job_id for fleet in fleets for request, job_id in fleet.acknowledged.items()}
    metrics = {
        "acknowledged": len(acknowledged),
        "lost": len(
            [job_id for job_id in acknowledged.values() if job_id not in published or not effects[job_id]]
        ),
        "duplicated_effects": sum(count - 1 for count in effects.values())
        + sum(fleet.other_ids for fleet in fleets),
        "stale_writes_accepted": stale,
        "external_repeats": sum(count - 1 for count in outside.values()),
        "kills": faults.kills,
        "pauses": faults.count["pause"],
        "cuts": faults.count["cut"],
        "unknown_submissions": sum(fleet.unknown for fleet in fleets),
        "seed": seed,
    }
    rows = [
        ("faults", ", ".join(f"{count} {name}" for name, count in sorted(faults.count.items()))),
        ("workers that ended by themselves", sum(fleet.fenced for fleet in fleets)),
        ("jobs", ", ".join(f"{row[1]} {row[0]}" for row in states)),
        ("attempts", ", ".join(f"{row[1]} {row[0]}" for row in attempts)),
        ("writes of attempts that were looked at", writes),
        ("dead letters, requeued", dead),
        ("seconds with faults, and until all was done", f"{faulty:.1f}, {drained:.1f}"),
    ]
    return Report(metrics, GOALS, [Section(f"seed {seed}", ("", ""), rows)])
