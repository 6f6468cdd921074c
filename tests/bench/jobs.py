"""What the job queue costs: a real worker with a handler that does nothing, beside a bare loop over SKIP LOCKED.

The bare loop has a narrow table with one index; it claims a batch, deletes it, and is done. The worker keeps all its
promises: lease, fence, history, hints, a result in the transaction that ends the job. Rounds of both alternate on the
same server, and a share is the median of the rounds' ratios, so a slow moment of the machine hits both. The worker
claims batches of the same size and has slots for three, so that claims are under way while the jobs of the last one
run. Unlike in tests, commits wait for the disk.

Other queues of Python run alongside, on the same server and with batches of the same sizes (or as many jobs at a time,
where a queue claims one by one), if they are installed: the ``rivals`` extra, no dependency of the product. They
promise other things, so their shares have no goal.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from time import monotonic

import asyncpg

from broker.adapters.migrate import migrate
from broker.adapters.pg_jobs_open import PgJobs, open_jobs
from broker.domain.job import JobProgress, JobResult
from broker.jobs.kind import JobContext
from broker.jobs.worker import Pace
from broker.ports.jobs import Success, WorkerIdentity
from broker.runtime import collector
from tests.bench import harness
from tests.bench.harness import Goal, Options, Report, Section
from tests.bench.parts.rival_queues import beside
from tests.support.jobs import submission
from tests.support.pg import Connection, temporary_server
from tests.support.workers import worker

GOALS = {"share_batch10": Goal(">=", 0.6), "share_batch100": Goal(">=", 0.4)}
BATCHES = {10: 3_000, 100: 40_000}
"""Jobs of one round, by the size of the batch: enough that a round lasts over a second, because a worker's connections
are opened, and their types looked up, within it."""
PACE = Pace(poll=60.0, look=60.0, reap=60.0, sweep=3600.0)
"""As workers are by default, but that nothing is found by looking for it."""
BARE = """
CREATE TABLE bare (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, payload bytea NOT NULL, attempt integer NOT NULL DEFAULT 0,
    state text NOT NULL DEFAULT 'queued', run_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON bare (run_at, id) WHERE state = 'queued';
"""
FILL_BARE = """
INSERT INTO bare (payload, run_at)
SELECT convert_to(repeat('x', 100), 'UTF8'), now() - ($1 - i) * interval '1 microsecond'
FROM generate_series(1, $1::integer) AS i
"""
CLAIM_BARE = """
UPDATE bare b SET state = 'running', attempt = attempt + 1
FROM (SELECT id FROM bare WHERE state = 'queued' AND run_at <= now()
      ORDER BY run_at, id LIMIT $1 FOR UPDATE SKIP LOCKED) AS picked
WHERE b.id = picked.id RETURNING b.*
"""
DONE_BARE = "DELETE FROM bare WHERE id = ANY($1::bigint[])"
FILL = """
INSERT INTO broker.job (id, tenant, owner, kind, spec, spec_hash, request_id, principal, priority, max_attempts,
                        attempt_timeout, queue_rank, run_at)
SELECT gen_random_uuid()::text, 'acme', 'ada', 'test', convert_to(repeat('x', 100), 'UTF8'), 'hash',
       gen_random_uuid()::text, '{"name": "ada", "tenant": "acme"}', 5, 3, 3600,
       now() + interval '5 minutes' - ($1 - i) * interval '1 microsecond', now()
FROM generate_series(1, $1::integer) AS i
"""
EMPTY = "TRUNCATE bare, broker.job, broker.job_request, broker.job_attempt, broker.job_part, broker.worker CASCADE"


def main() -> None:
    harness.run("jobs", __doc__, measure)


async def bare(connection: Connection, count: int, batch: int) -> float:
    """Jobs per second of the bare loop."""
    await connection.execute(EMPTY)
    await connection.execute(FILL_BARE, count)
    await connection.execute("VACUUM ANALYZE bare")
    claim, done = await connection.prepare(CLAIM_BARE), await connection.prepare(DONE_BARE)
    began = time.perf_counter()
    while rows := await claim.fetch(batch):
        await done.fetch([row["id"] for row in rows])
    return count / (time.perf_counter() - began)


@asynccontextmanager
async def opened(dsn: str) -> AsyncIterator[PgJobs]:
    """The queue over connections of its own."""
    async with open_jobs(dsn, connections=4, clock=monotonic, rng=Random(1)) as ports:
        yield ports


async def own(connection: Connection, dsn: str, folder: Path, count: int, batch: int) -> tuple[float, float]:
    """Jobs per second of a worker, from the first that begins to the last that is written; its CPU µs per job."""
    await connection.execute(EMPTY)
    await connection.execute(FILL, count)
    await connection.execute("VACUUM ANALYZE broker.job")
    left, began, cpu = count, 0.0, 0.0
    over = asyncio.Event()

    async def nothing(_: JobContext) -> JobResult:
        nonlocal left, began, cpu
        if left == count:
            began, cpu = time.perf_counter(), time.process_time()
        left -= 1
        if not left:
            over.set()
        return JobResult()

    async with (
        opened(dsn) as ports,
        worker(ports, nothing, folder, slots=3 * batch, batch=batch, pace=PACE) as running,
    ):
        await over.wait()
        await running.idle()  # the last ends are being written
        seconds, used = time.perf_counter() - began, time.process_time() - cpu
    written = await connection.fetchval("SELECT count(*) FROM broker.job WHERE state = 'succeeded'")
    if written != count:
        raise AssertionError(f"{written} of {count} jobs have succeeded")
    return count / seconds, used / count * 1e6


async def start_latency(
    connection: Connection, dsn: str, folder: Path, count: int
) -> tuple[list[float], list[float]]:
    """Milliseconds of a submission, and from its begin to that of its handler, with a worker that has nothing to do."""
    await connection.execute(EMPTY)
    submits, starts = [], []
    begun: asyncio.Queue[float] = asyncio.Queue()

    async def handler(_: JobContext) -> JobResult:
        begun.put_nowait(time.perf_counter())
        return JobResult()

    # The broker has a pool of its own, as it has in its own process.
    async with opened(dsn) as broker, opened(dsn) as ports, worker(ports, handler, folder, pace=PACE):
        for number in range(count + 20):
            began = time.perf_counter()
            await broker.store.submit(submission())
            stored = time.perf_counter()
            started = await begun.get()
            if number >= 20:  # the first prepare statements and begin to listen
                submits.append((stored - began) * 1e3)
                starts.append((started - began) * 1e3)
    return submits, starts


async def claim_latency(connection: Connection, dsn: str, seconds: float, *, held: bool) -> list[float]:
    """Milliseconds of claims of 10 at 100 claims a second, with a snapshot held all the while or none."""
    await connection.execute(EMPTY)
    holder = await asyncpg.connect(dsn)
    found = []
    try:
        if held:
            await holder.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1")
        async with opened(dsn) as ports:
            lease = ports.lease()
            await lease.register(WorkerIdentity("bench", "bench", 1, "bench", 10), 3600.0)
            await lease.close()
            end = time.perf_counter() + seconds
            while (turn := time.perf_counter()) < end:
                await connection.execute(FILL, 10)
                began = time.perf_counter()
                jobs = await ports.queue.claim("bench", ["test"], 10)
                found.append((time.perf_counter() - began) * 1e3)
                await ports.queue.succeed_all([Success(j, JobResult(), JobProgress()) for j in jobs], 3600.0)
                await asyncio.sleep(max(0.0, turn + 0.01 - time.perf_counter()))
    finally:
        await holder.close()
    return found


def _quantiles(name: str, values: list[float]) -> tuple[str, float, float]:
    return name, harness.percentile(values, 50), harness.percentile(values, 99)


async def measure(options: Options) -> Report:
    rounds, seconds, submissions = (4, 5.0, 200) if options.quick else (12, 60.0, 1_000)
    metrics: dict[str, float] = {}
    rates: list[Sequence[object]] = []
    bare_rates: dict[int, float] = {}
    collector.settle()  # as servers do
    with (
        temporary_server(fsync="on", full_page_writes="on") as server,
        tempfile.TemporaryDirectory() as folder,
    ):
        dsn, results = server.dsn(), Path(folder)
        await migrate(dsn, "jobs")
        connection = await asyncpg.connect(dsn)
        await connection.execute(BARE)
        for batch, count in BATCHES.items():
            before, after, cpu = [], [], []
            for _ in range(rounds):
                before.append(await bare(connection, count, batch))
                rate, used = await own(connection, dsn, results, count, batch)
                after.append(rate)
                cpu.append(used)
            share = harness.median([a / b for a, b in zip(after, before, strict=True)])
            bare_rates[batch] = harness.median(before)
            rates.append((batch, bare_rates[batch], harness.median(after), share, harness.median(cpu)))
            metrics[f"share_batch{batch}"] = share
            metrics[f"jobs_per_s_batch{batch}"] = harness.median(after)
        rivals = await beside(connection, dsn, BATCHES, quick=options.quick)
        submits, starts = await start_latency(connection, dsn, results, submissions)
        quiet = await claim_latency(connection, dsn, seconds, held=False)
        held = await claim_latency(connection, dsn, seconds, held=True)
        await connection.close()
    latencies = [
        _quantiles("submit", submits),
        _quantiles("submit to start", starts),
        _quantiles("claim of 10", quiet),
        _quantiles(f"claim of 10, a snapshot held for {seconds:g} s", held),
    ]
    metrics |= {
        "submit_p99_ms": latencies[0][2],
        "start_p50_ms": latencies[1][1],
        "start_p99_ms": latencies[1][2],
        "claim_p50_ms": latencies[2][1],
        "claim_held_p50_ms": latencies[3][1],
        "claim_held_p99_ms": latencies[3][2],
    }
    others: list[Sequence[object]] = []
    for name, batch, driven, told in rivals:
        if isinstance(told, str):
            others.append((name, batch, told, "", ""))
            continue
        metrics[f"share_{name}_batch{batch}"] = told / bare_rates[batch]
        others.append((name, batch, told, told / bare_rates[batch], driven))
    return Report(
        metrics,
        GOALS,
        [
            Section("jobs per second", ("batch", "bare loop", "worker", "share", "CPU µs per job"), rates),
            Section("milliseconds", ("", "p50", "p99"), latencies),
            Section("other queues", ("", "batch", "jobs per second", "share", "jobs of a round"), others),
        ],
    )
