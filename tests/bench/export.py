"""What an export costs beside a plain COPY to a file, what memory it takes, and what is left of one that is killed.

Rates are bytes of CSV per second, of one SELECT: of COPY into a file that is synced, and of a job from the begin of its
attempt to the end. Memory is the largest that was seen of the worker, of its child, and of the broker while several
readers fetch the result at once. Then workers are killed while they have written a random number of bytes, and others
go on: a job has no result, or a complete one whose checksums hold, and nothing else is left in the store.
"""

from __future__ import annotations

import asyncio
import os
import random
import tempfile
import time
from argparse import ArgumentParser
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from random import Random
from time import monotonic

import asyncpg
import grpc.aio
import psutil

from broker.adapters.migrate import COMPONENTS, migrate
from broker.adapters.pg_jobs_open import open_jobs
from broker.domain.job import Job, JobState, part_prefix
from broker.jobs.upkeep import Upkeep
from querybroker.v1 import job_service_pb2
from querybroker.v1.job_service_pb2_grpc import JobServiceStub
from tests.bench import harness
from tests.bench.harness import Goal, Options, Report, Section
from tests.bench.parts.exporting import SELECT, Peak, Place
from tests.support.eventually import eventually
from tests.support.pg import temporary_server
from tests.support.server import RunningBroker

GOALS = {
    "rate_share": Goal(">=", 0.8),
    "worker_peak_mb": Goal("<=", 256.0),
    "broker_growth_per_reader_mb": Goal("<=", 16.0),
    "wrong_results": Goal("<=", 0.0),
    "orphans": Goal("<=", 0.0),
}
TABLE = """
CREATE TABLE {name} AS
  SELECT i::bigint AS id, timestamptz '2024-01-01' + i * interval '1 minute' AS at,
         'kind-' || i % 7 AS kind, i % 1000 AS value, md5(i::text) AS note
  FROM generate_series(1, {rows}) AS i;
ALTER TABLE {name} ADD PRIMARY KEY (id);
"""
READERS = 4


def main() -> None:
    def arguments(parser: ArgumentParser) -> None:
        parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))

    harness.run("export", __doc__, measure, add_arguments=arguments)


async def copied(place: Place) -> tuple[float, int]:
    """Bytes per second of a plain COPY to a file, and its bytes."""
    file = place.folder / "copied.csv"
    began = time.perf_counter()
    with file.open("wb") as output:
        await place.connection.copy_from_query(
            SELECT.format(name="many"),
            output=output, format="csv",
        )  # fmt: skip
        output.flush()
        os.fsync(output.fileno())
    size = file.stat().st_size
    file.unlink()
    return size / (time.perf_counter() - began), size


async def exported(place: Place, worker: RunningBroker) -> tuple[float, Job, Peak]:
    """Bytes per second of a job, what it left, and the worker's memory."""
    peak = Peak(worker.process.pid)
    async with peak.watching():
        job = await place.ended((await place.submit("many")).id)
    if job.result is None or job.start_time is None or job.end_time is None:
        raise AssertionError(f"the export ended as {job.state}: {job.failure}")
    return job.result.byte_count / (job.end_time - job.start_time).total_seconds(), job, peak


async def fetched(place: Place, broker: RunningBroker, job: Job) -> tuple[float, float]:
    """Bytes per second of several readers together, and by how many bytes each made the broker grow."""
    peak = Peak(broker.process.pid)

    async def read(channel: grpc.aio.Channel) -> int:
        request = job_service_pb2.ReadJobResultRequest(name=job.name)
        return sum([len(piece.data) async for piece in JobServiceStub(channel).ReadJobResult(request)])

    async with AsyncExitStack() as stack:
        options = (("grpc.use_local_subchannel_pool", 1),)
        channels = [
            await stack.enter_async_context(grpc.aio.insecure_channel(broker.address, options=options))
            for _ in range(READERS)
        ]
        began = time.perf_counter()
        async with peak.watching():
            total = sum(await asyncio.gather(*map(read, channels)))
        return total / (time.perf_counter() - began), (peak.largest - peak.first) / READERS


async def killed(place: Place, rng: Random, rounds: int) -> dict[str, int]:
    """Counts of what was left by exports whose workers were killed."""
    jobs: list[Job] = []
    with place.running("worker"):
        whole = await place.ended((await place.submit("few")).id)
    assert whole.result is not None
    total = whole.result.byte_count
    for _ in range(rounds):
        jobs.append(await place.submit("few"))
        wanted = rng.randrange(total)
        with place.running("worker") as worker:
            looks = 0
            while place.staged_bytes(jobs[-1].id) < wanted:
                looks += 1
                if looks % 50 == 0 and (await place.job(jobs[-1].id)).state.final:
                    break  # the file was renamed between two looks
                await asyncio.sleep(0.001)
            family = [psutil.Process(worker.process.pid), *worker.workers()]
            for process in family if rng.random() < 0.5 else family[:1]:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            worker.process.wait()
    with place.running("worker"):
        last = [await place.ended(job.id) for job in jobs]
    succeeded = [job for job in last if job.state is JobState.SUCCEEDED]
    wrong = sum([not await place.right(job) for job in succeeded])
    wrong += sum(job.result is not None for job in last if job.state is not JobState.SUCCEEDED)
    before = len(await place.store.prefixes())

    async def nobody() -> bool:
        return not await place.connection.fetchval("SELECT count(*) FROM broker.job WHERE state = 'running'")

    await eventually(nobody, "all jobs have ended")
    await Upkeep(place.ports.keeper, place.store, rng, 3600.0).sweep()
    published = await place.connection.fetch(
        "SELECT tenant, id, fence FROM broker.job WHERE state = 'succeeded' AND result_inline IS NULL"
    )
    owned = {part_prefix(row["tenant"], row["id"], row["fence"]) for row in published}
    left = set(await place.store.prefixes())
    return {
        "killed": rounds,
        "attempts": sum(job.attempt for job in last),
        "succeeded": len(succeeded),
        "wrong_results": wrong + len(owned - left),
        "swept": before - len(left),
        "orphans": len(left - owned),
    }


async def measure(options: Options) -> Report:
    rows, few, kills = (1_500_000, 500_000, 6) if options.quick else (20_000_000, 500_000, 60)
    rng = Random(options.own.seed)
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        dsn = stack.enter_context(temporary_server()).dsn()
        for component in COMPONENTS:
            await migrate(dsn, component)
        connection = await asyncpg.connect(dsn)
        stack.push_async_callback(connection.close)
        for name, count in (("many", rows), ("few", few)):
            await connection.execute(TABLE.format(name=name, rows=count))
        await connection.execute("VACUUM ANALYZE")
        opened = open_jobs(dsn, connections=4, clock=monotonic, rng=rng)
        place = Place(dsn, folder, await stack.enter_async_context(opened), connection)
        runs: list[tuple[float, float, Job, Peak]] = []
        with place.running("worker") as worker:
            for _ in range(3):
                before, _size = await copied(place)
                runs.append((before, *await exported(place, worker)))
        *_, job, peak = runs[-1]
        if not await place.right(job):
            raise AssertionError("the checksums do not hold")
        with place.running("serve") as broker:
            reading, growth = await fetched(place, broker, job)
        counts = await killed(place, rng, kills)
    assert job.result is not None
    metrics = {
        "rate_share": harness.median([own / plain for plain, own, *_ in runs]),
        "export_mb_per_s": harness.median([own for _, own, *_ in runs]) / 1e6,
        "copy_mb_per_s": harness.median([plain for plain, *_ in runs]) / 1e6,
        "read_mb_per_s": reading / 1e6,
        "worker_peak_mb": peak.largest / 1e6,
        "child_peak_mb": peak.child / 1e6,
        "broker_growth_per_reader_mb": growth / 1e6,
        "wrong_results": float(counts["wrong_results"]),
        "orphans": float(counts["orphans"]),
    }
    details = [
        ("seed", options.own.seed),
        ("rows", job.result.row_count),
        ("bytes", job.result.byte_count),
        *counts.items(),
    ]
    return Report(
        metrics, GOALS, [Section("the export, and those that were killed", ("what", "count"), details)]
    )
