"""What watching costs: 5,000 running jobs that change every second, each with a watcher of its own at one broker.

Ten workers are played by this process: one statement for a hundred jobs, as workers write them. An event's time
is from before that statement is sent until the watcher has the event. Then the broker is killed and the jobs end; the
watchers go on at another broker from the last revision that they have seen.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from json import loads
from pathlib import Path
from random import Random
from time import monotonic

import asyncpg
import psutil

from broker.adapters.migrate import COMPONENTS, migrate
from broker.adapters.pg_jobs_open import PgJobs, open_jobs
from broker.domain.job import Job, JobProgress, JobResult
from broker.ports.jobs import Success, WorkerIdentity
from broker.runtime import collector
from tests.bench import harness
from tests.bench.harness import Goal, Options, Report, Section
from tests.support.pg import temporary_server
from tests.support.server import ROOT, running_broker

GOALS = {
    "event_p99_ms": Goal("<=", 100.0),
    "postgres_core_share": Goal("<=", 0.25),
    "final_delivered_share": Goal(">=", 1.0),
}
JOBS, TOGETHER, WORKERS, CLIENTS = 5_000, 100, 10, 2
MODEL = "datasets: {things: {table: public.things, dimensions: {note: string}, measures: {rows: {kind: count}}}}\n"
FILL = """
WITH made AS (
    INSERT INTO broker.job (id, tenant, owner, kind, spec, spec_hash, request_id, principal, priority, max_attempts,
                            attempt_timeout, queue_rank)
    SELECT gen_random_uuid()::text, $2, $3, 'test', '', 'hash', gen_random_uuid()::text,
           jsonb_build_object('name', $3::text, 'tenant', $2::text), 5, 3, 3600, now()
    FROM generate_series(1, $1::integer) RETURNING *
)
INSERT INTO broker.job_request (tenant, request_id, job_id) SELECT tenant, request_id, id FROM made
"""
ANONYMOUS = ("default", "anonymous")


def main() -> None:
    harness.run("watch", __doc__, measure)


class Workers:
    """Plays the workers, each with connections of its own: every job changes once a second, a hundred together."""

    def __init__(self, crews: Sequence[tuple[PgJobs, Sequence[Job]]]) -> None:
        self._flocks = [
            (ports, jobs[i : i + TOGETHER])
            for i in range(0, JOBS // len(crews), TOGETHER)
            for ports, jobs in crews
        ]
        self.statements: list[float] = []

    async def change(self) -> None:
        """Until it is cancelled."""
        began, turn = monotonic(), 0
        async with asyncio.TaskGroup() as tasks:
            while True:
                tasks.create_task(self._change(*self._flocks[turn % len(self._flocks)]))
                turn += 1
                await asyncio.sleep(max(0.0, began + turn / len(self._flocks) - monotonic()))

    async def _change(self, ports: PgJobs, flock: Sequence[Job]) -> None:
        now = time.time()
        progress = JobProgress("reading", 0.5, 1000, 2000, 64_000, 100.0, f"t={now:.6f};")
        stale = await ports.queue.report([(job, progress) for job in flock])
        self.statements.append(1000 * (time.time() - now))
        if stale:
            raise AssertionError(f"{len(stale)} jobs are stale")

    async def end(self) -> None:
        """All jobs succeed."""
        for ports, flock in self._flocks:
            done = [Success(job, JobResult(row_count=1), JobProgress("done", 1.0)) for job in flock]
            await ports.queue.succeed_all(done, 3600.0)


async def running_jobs(stack: AsyncExitStack, dsn: str) -> list[tuple[PgJobs, Sequence[Job]]]:
    """The jobs, running under the leases of the workers."""
    connection = await asyncpg.connect(dsn)
    await connection.execute(FILL, JOBS, *ANONYMOUS)
    crews: list[tuple[PgJobs, Sequence[Job]]] = []
    for number in range(WORKERS):
        opened = open_jobs(dsn, connections=2, clock=monotonic, rng=Random(number))
        ports, name = await stack.enter_async_context(opened), f"bench-{number}"
        lease = ports.lease()
        await lease.register(WorkerIdentity(name, "bench", 1, "bench", JOBS // WORKERS), 3600.0)
        await lease.close()
        crews.append((ports, await ports.queue.claim(name, ["test"], JOBS // WORKERS)))
    await connection.execute("VACUUM ANALYZE")
    await connection.close()
    return crews


@asynccontextmanager
async def watchers(
    folder: Path, jobs: Sequence[Job], addresses: Sequence[str]
) -> AsyncIterator[list[Process]]:
    """Processes with a watcher for every job, each of which has had its first event."""
    clients = []
    try:
        for number in range(CLIENTS):
            file = folder / f"names-{number}"
            file.write_text("\n".join(job.name for job in jobs[number::CLIENTS]))
            command = [sys.executable, "-m", "tests.bench.parts.watchers", str(file), *addresses]
            clients.append(
                await asyncio.create_subprocess_exec(
                    *command, cwd=ROOT, stdin=PIPE, stdout=PIPE, limit=1 << 28
                )
            )
        for client in clients:
            if await _line(client) != "ready":
                raise AssertionError("a client has ended")
        yield clients
    finally:
        for client in clients:
            if client.returncode is None:
                client.kill()
            await client.wait()


async def _line(client: Process) -> str:
    assert client.stdout is not None
    return (await client.stdout.readline()).decode().strip()


class Cpu:
    """Processor time of processes, as shares of one core between two moments."""

    def __init__(self, groups: dict[str, list[psutil.Process]]) -> None:
        self._groups = groups
        self._began, self._before = monotonic(), self._now()

    def _now(self) -> dict[str, float]:
        return {
            name: sum(sum(p.cpu_times()[:2]) for p in group if p.is_running())
            for name, group in self._groups.items()
        }

    def shares(self) -> dict[str, float]:
        """Since it was made."""
        seconds, now = monotonic() - self._began, self._now()
        return {name: (now[name] - before) / seconds for name, before in self._before.items()}


async def measure(options: Options) -> Report:
    seconds = 15.0 if options.quick else 60.0
    collector.settle()
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(temporary_server())
        dsn = server.dsn()
        for component in COMPONENTS:
            await migrate(dsn, component)
        connection = await asyncpg.connect(dsn)
        await connection.execute("CREATE TABLE things (note text)")
        postmaster = psutil.Process(await connection.fetchval("SELECT pg_backend_pid()")).parent()
        assert postmaster is not None
        await connection.close()
        model = folder / "broker.yaml"
        model.write_text(MODEL)
        small = {"pools.dashboard.workers": 1, "pools.exploration.workers": 1, "fleet.enabled": False}
        brokers = [
            stack.enter_context(running_broker(dsn, folder / name, config=model, overrides=small))
            for name in ("one", "other")
        ]
        crews = await running_jobs(stack, dsn)
        jobs = [job for _, some in crews for job in some]
        crew = Workers(crews)
        began = monotonic()
        clients = await stack.enter_async_context(watchers(folder, jobs, [b.address for b in brokers]))
        connected = monotonic() - began
        changing = asyncio.create_task(crew.change())
        await asyncio.sleep(3.0)
        crew.statements.clear()
        since = time.time()
        cpu = Cpu(
            {
                "postgres": [postmaster, *postmaster.children(recursive=True)],
                "broker": [psutil.Process(brokers[0].process.pid)],
                "clients": [psutil.Process(client.pid) for client in clients],
                "workers": [psutil.Process()],
            }
        )
        await asyncio.sleep(seconds)
        shares, until = cpu.shares(), time.time()
        statements = list(crew.statements)
        await asyncio.sleep(1.0)  # what was changed last is on its way
        times: list[float] = []
        for client in clients:
            assert client.stdin is not None
            client.stdin.write(f"{since} {until}\n".encode())
            times += loads(await _line(client))
        changing.cancel()
        await asyncio.gather(changing, return_exceptions=True)
        memory = psutil.Process(brokers[0].process.pid).memory_info().rss
        brokers[0].process.kill()
        killed = monotonic()
        await crew.end()
        final = sum([int(await _line(client)) for client in clients])
        resumed = monotonic() - killed
    quantiles = [(p, harness.percentile(times, p)) for p in (50, 90, 99, 99.9)]
    metrics = {
        "event_p50_ms": quantiles[0][1],
        "event_p99_ms": quantiles[2][1],
        "events_per_s": len(times) / seconds,
        "postgres_core_share": shares["postgres"],
        "broker_core_share": shares["broker"],
        "final_delivered_share": final / JOBS,
    }
    return Report(
        metrics,
        GOALS,
        [
            Section("milliseconds from a change to its event", ("percentile", "ms"), quantiles),
            Section("shares of a core", ("process", "share"), sorted(shares.items())),
            Section(
                "beside",
                ("what", "figure"),
                [
                    ("seconds until all watch", connected),
                    ("p50 of the workers' statements, ms", harness.percentile(statements, 50)),
                    ("p99 of the workers' statements, ms", harness.percentile(statements, 99)),
                    ("seconds until all have resumed and ended", resumed),
                    ("memory of the broker, MB", memory / 1e6),
                ],
            ),
        ],
    )
