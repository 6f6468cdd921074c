"""Kills at random, and counts what the jobs left: none lost, none done twice, nothing written by a stale attempt.

Workers, their child processes, brokers and the postmaster get `kill -9`; workers stand still for longer than their
lease; connections are cut. All the while jobs are submitted; a submission without an answer is repeated by the same
request id at another broker. Who was killed is started again, as a supervisor would.

Counted outside of what is tested: the ids that submissions were answered with, a table that a trigger writes a line to
in the transaction that publishes a manifest (the effect), and files that attempts add lines to (effects outside of
PostgreSQL, which no queue can keep single). Everything that an attempt writes carries its fence, and the trigger
compares it with the fence of the row. In the end jobs in the dead-letter queue are requeued, as an operator would.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random

import asyncpg

from broker.adapters.migrate import migrate
from broker.demo.embedded import EmbeddedPostgres
from tests.bench import harness
from tests.bench.harness import Goal, Options, Report, Section
from tests.bench.parts.crash_faults import Faults
from tests.bench.parts.crash_fleet import Fleet
from tests.support.pg import temporary_server

LEASE = 2.0
GOALS = {
    "lost": Goal("<=", 0),
    "duplicated_effects": Goal("<=", 0),
    "stale_writes_accepted": Goal("<=", 0),
    "kills": Goal(">=", 40),
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
OPEN = "SELECT count(*) FROM broker.job WHERE state IN ('queued', 'running')"
DRAIN_SECONDS = 120.0


def main() -> None:
    def own(parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--seed", type=int, default=None, help="which faults come when; drawn if not given"
        )
        parser.add_argument("--kills", type=int, default=None, help="`kill -9` in all")

    harness.run("crash", __doc__, measure, add_arguments=own)


async def measure(options: Options) -> Report:
    seed = options.own.seed if options.own.seed is not None else time.time_ns() % 1_000_000
    kills = options.own.kills or (42 if options.quick else 1_000)
    with tempfile.TemporaryDirectory(prefix="crash-") as directory, temporary_server() as server:
        folder = Path(directory)
        for name in ("external", "children"):
            (folder / name).mkdir()
        await migrate(server.dsn(), "jobs")
        await _execute(server, LEDGER)
        rng = Random(seed)
        async with Fleet(server.dsn(), folder, LEASE, rng).running() as fleet:
            faults = Faults(fleet, server, folder, LEASE, rng)
            began = time.monotonic()
            await faults.cause(kills)
            faulty = time.monotonic() - began
            await fleet.stop_producing()
            dead = await _drained(server)
            drained = time.monotonic() - began - faulty
        return await _judged(server, fleet, faults, folder, (seed, faulty, drained, dead))


async def _execute(server: EmbeddedPostgres, statement: str) -> str:
    connection = await asyncpg.connect(server.dsn())
    try:
        return str(await connection.execute(statement))
    finally:
        await connection.close()


async def _drained(server: EmbeddedPostgres) -> int:
    """Waits until every job has ended; how many were in the dead-letter queue."""
    connection = await asyncpg.connect(server.dsn())
    dead = 0
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            while True:
                dead += int((await connection.execute(SETTLE)).split()[-1])
                await connection.execute(HURRY)
                if not await connection.fetchval(OPEN):
                    return dead
                await asyncio.sleep(0.2)
    finally:
        await connection.close()


async def _judged(
    server: EmbeddedPostgres,
    fleet: Fleet,
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
    acknowledged = fleet.acknowledged
    metrics = {
        "acknowledged": len(acknowledged),
        "lost": len(
            [job_id for job_id in acknowledged.values() if job_id not in published or not effects[job_id]]
        ),
        "duplicated_effects": sum(count - 1 for count in effects.values()) + fleet.other_ids,
        "stale_writes_accepted": stale,
        "external_repeats": sum(count - 1 for count in outside.values()),
        "kills": faults.kills,
        "pauses": faults.count["pause"],
        "cuts": faults.count["cut"],
        "unknown_submissions": fleet.unknown,
        "seed": seed,
    }
    rows = [
        ("faults", ", ".join(f"{count} {name}" for name, count in sorted(faults.count.items()))),
        ("workers that ended by themselves", fleet.fenced),
        ("jobs", ", ".join(f"{row[1]} {row[0]}" for row in states)),
        ("attempts", ", ".join(f"{row[1]} {row[0]}" for row in attempts)),
        ("writes of attempts that were looked at", writes),
        ("dead letters, requeued", dead),
        ("seconds with faults, and until all was done", f"{faulty:.1f}, {drained:.1f}"),
    ]
    return Report(metrics, GOALS, [Section(f"seed {seed}", ("", ""), rows)])
