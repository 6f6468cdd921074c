"""Exports in ranges: the same rows in the same order, out of one snapshot, whoever writes them and whoever dies."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pyarrow as pa
import pytest

from broker.adapters.result_dir import DirectoryResults
from broker.domain.job import ExportFormat, Job, JobProgress, JobResult, JobState
from broker.domain.query import (
    AbsoluteRange,
    Condition,
    Grain,
    Operator,
    OrderKey,
    Query,
    TimeSelection,
)
from broker.domain.ranges import RANGE_KIND, KeyRange, RangeOffer
from broker.jobs.children import Children
from broker.jobs.upkeep import Upkeep
from broker.jobs.worker import Worker
from tests.conftest import FreshDatabase
from tests.support.eventually import eventually
from tests.support.exports import GATE, closed_gate, contents, export, export_kinds, someone_waits
from tests.support.job_process import kill, worker_process
from tests.support.jobs import Jobs, job_database
from tests.support.result_files import files_in
from tests.support.workers import worker

RANGES = 3
YEAR = AbsoluteRange(datetime(2013, 1, 1, tzinfo=UTC), datetime(2014, 1, 1, tzinfo=UTC))
FLIGHTS_OF_YEAR = (
    "SELECT count(*) FROM flights_behind WHERE time_hour >= '2013-01-01Z' AND time_hour < '2014-01-01Z'"
)
MONTHS = Query(
    "flights", ("flights", "distance"), ("tailnum",), time=TimeSelection(grain=Grain.MONTH, range=YEAR)
)
QUERIES = (
    MONTHS,
    replace(MONTHS, order=(OrderKey("time_hour", descending=True), OrderKey("distance"))),
    # Rows as they are, and their instants; those without a delay come last, first, and not at all.
    Query("flights", ("flights",), ("time_hour", "tailnum"), time=TimeSelection(range=YEAR)),
    Query("flights", ("flights",), ("dep_delay", "dest")),
    Query("flights", ("flights",), ("dest", "dep_delay"), order=(OrderKey("dep_delay", nulls_first=True),)),
    Query(
        "flights",
        ("flights",),
        ("month", "tailnum", "dest"),
        filter=Condition("dep_delay", Operator.GT, (10,)),
        having=Condition("flights", Operator.GT, (0,)),
        order=(OrderKey("month", descending=True),),
    ),
)


@pytest.fixture
async def jobs(fresh_database: FreshDatabase) -> AsyncIterator[Jobs]:
    async with job_database(await fresh_database(flights=True)) as opened:
        yield opened


@asynccontextmanager
async def exporting(jobs: Jobs, directory: Path, children: Children, slots: int = 4) -> AsyncIterator[Worker]:
    async with (
        export_kinds(jobs.dsn, jobs.ports.ranges, RANGES) as kinds,
        worker(jobs.ports, kinds, directory, children=children, slots=slots) as running,
    ):
        yield running


async def submitted(jobs: Jobs, query: Query, kind: str = "export") -> str:
    return (await jobs.ports.store.submit(replace(export(query, ExportFormat.ARROW), kind=kind))).id


async def rows_of(job: Job, directory: Path) -> pa.Table:
    return pa.concat_tables(
        [pa.ipc.open_file(io.BytesIO(data)).read_all() for data in await contents(job, directory)]
    )


async def test_what_is_written_in_ranges_is_what_is_written_at_once(
    jobs: Jobs, tmp_path: Path, children: Children
) -> None:
    await jobs.admin.execute("ANALYZE flights")
    async with exporting(jobs, tmp_path, children):
        for query in QUERIES:
            ids = [await submitted(jobs, query, kind) for kind in ("plain", "export")]
            whole, split = [await jobs.reaches(each, JobState.SUCCEEDED) for each in ids]
            assert whole.result is not None
            assert split.result is not None
            assert len(split.result.parts) > len(whole.result.parts) == 1
            assert [part.index for part in split.result.parts] == list(range(len(split.result.parts)))
            expected, found = await rows_of(whole, tmp_path), await rows_of(split, tmp_path)
            assert found.equals(expected)
            assert (split.result.row_count, split.progress.row_count) == (found.num_rows, found.num_rows)
    assert await jobs.admin.fetchval("SELECT count(*) FROM broker.job_range") == 0
    assert not list((tmp_path / "staged").iterdir())


async def identity(running: Worker) -> str:
    """The identity that a worker is leased under."""
    await running.leased()
    assert running.worker_id is not None
    return running.worker_id


async def held(jobs: Jobs, job_id: str, fence: int) -> dict[str, int]:
    """How many ranges of an attempt each worker has that reads them."""
    rows = await jobs.admin.fetch(
        """SELECT worker_id, count(*) FROM broker.job_range
           WHERE job_id = $1 AND job_fence = $2 AND begun AND parts IS NULL GROUP BY worker_id""",
        job_id,
        fence,
    )
    return {row["worker_id"]: row["count"] for row in rows}


async def shared(jobs: Jobs, job_id: str, fence: int, *workers: str) -> None:
    """Returns once all of these workers read ranges of the attempt."""

    async def all_do() -> bool:
        return set(workers) <= set(await held(jobs, job_id, fence))

    await eventually(all_do, "the workers read ranges")


async def test_workers_that_are_killed_cost_their_ranges_and_the_one_with_the_snapshot_costs_the_attempt(
    jobs: Jobs, tmp_path: Path, children: Children
) -> None:
    await jobs.admin.execute(GATE)
    async with AsyncExitStack() as stack:
        gate = await stack.enter_async_context(AsyncExitStack())
        await gate.enter_async_context(closed_gate(jobs))
        first = await stack.enter_async_context(worker_process(jobs, tmp_path, ranges=RANGES))
        job_id = await submitted(jobs, MONTHS)
        await shared(jobs, job_id, 1, first.worker_id)
        second = await stack.enter_async_context(exporting(jobs, tmp_path, children, slots=1))
        await shared(jobs, job_id, 1, await identity(second))
        await kill(jobs, first)  # with it goes the snapshot
        await jobs.until(job_id, lambda job: job.crash_count == 1)
        await jobs.make_due(job_id)
        await shared(jobs, job_id, 2, await identity(second))
        third = await stack.enter_async_context(worker_process(jobs, tmp_path, ranges=RANGES))
        await shared(jobs, job_id, 2, third.worker_id)
        expected = await jobs.admin.fetchval(FLIGHTS_OF_YEAR)
        await jobs.admin.execute("DELETE FROM flights_behind WHERE month % 2 = 0")
        await kill(jobs, third)
        await gate.aclose()
        job = await jobs.reaches(job_id, JobState.SUCCEEDED)
        assert (job.attempt, job.fence, job.worker_id) == (2, 2, second.worker_id)
    table = await rows_of(job, tmp_path)
    assert sum(table["flights"].to_pylist()) == expected, "all of it is of one snapshot"
    assert table["time_hour"].to_pylist() == sorted(table["time_hour"].to_pylist())
    results = DirectoryResults(tmp_path)
    await Upkeep(jobs.ports.keeper, results, Random(1), 3600.0).sweep()
    assert job.result is not None
    assert sorted(files_in(tmp_path)) == sorted(tmp_path / "parts" / part.key for part in job.result.parts)


async def test_a_cancelled_export_is_over_for_everybody_who_helps(
    jobs: Jobs, tmp_path: Path, children: Children
) -> None:
    await jobs.admin.execute(GATE)
    async with (
        exporting(jobs, tmp_path, children, slots=1) as one,
        exporting(jobs, tmp_path, children, slots=1) as two,
        closed_gate(jobs),
    ):
        job_id = await submitted(jobs, MONTHS)
        await shared(jobs, job_id, 1, await identity(one), await identity(two))
        reporting = await jobs.until(job_id, lambda job: "2 under way" in job.progress.message)
        await jobs.ports.store.cancel("acme", job_id, "ada")
        await jobs.reaches(job_id, JobState.CANCELLED)
        statements = await jobs.admin.fetch(
            "SELECT query FROM pg_stat_activity WHERE datname = current_database() AND state = 'active'"
            " AND query ILIKE '%flights%' AND pid <> pg_backend_pid()"
        )
        assert statements == []
        assert children.count == 0
        assert files_in(tmp_path) == []
    assert await jobs.admin.fetchval("SELECT count(*) FROM broker.job_range") == 0
    assert reporting.progress.interval is not None
    assert reporting.progress.interval.start == YEAR.start


async def test_a_worker_that_stops_gives_its_range_back(
    jobs: Jobs, tmp_path: Path, children: Children
) -> None:
    await jobs.admin.execute(GATE)
    async with exporting(jobs, tmp_path, children, slots=1) as one:
        async with closed_gate(jobs):
            job_id = await submitted(jobs, MONTHS)
            await someone_waits(jobs)
            async with exporting(jobs, tmp_path, children, slots=1) as two:
                await shared(jobs, job_id, 1, await identity(two))
            assert set(await held(jobs, job_id, 1)) == {one.worker_id}
        job = await jobs.reaches(job_id, JobState.SUCCEEDED)
    expected = await jobs.admin.fetchval(FLIGHTS_OF_YEAR)
    assert (job.attempt, sum((await rows_of(job, tmp_path))["flights"].to_pylist())) == (1, expected)


async def test_whoever_lost_a_range_or_the_attempt_writes_nothing_more(jobs: Jobs) -> None:
    ranges, parts = jobs.ports.ranges, (KeyRange(None, 5), KeyRange(5, None, nulls=True))
    offers = tuple(map(RangeOffer, parts))
    job = await jobs.running()
    one, two = await jobs.worker(), await jobs.worker()
    assert await ranges.open(job, "0-1", "plan", offers, read_time=YEAR.start)
    assert await ranges.claim(one, ["other"], 1) == []
    (lost,) = await ranges.claim(one, ["test"], 1)
    own = await ranges.claim_own(job)
    assert own is not None
    assert (lost.id, lost.fence, own.index, own.within) == (f"{job.id}/1/0", 1, 1, parts[1])
    assert await ranges.begin(lost)
    assert await ranges.claim(two, ["test"], 1) == [], "both are taken"
    await jobs.lose(one)
    await jobs.ports.keeper.reap(lambda: 0.0)
    (taken,) = await ranges.claim(two, ["test"], 1)
    assert (taken.id, taken.fence, taken.kind) == (lost.id, 2, RANGE_KIND)
    done = JobResult(row_count=7, byte_count=70)
    assert not await ranges.begin(lost)
    assert not await ranges.finish(lost, done)
    assert not await ranges.release(lost)
    assert await ranges.report([(lost, JobProgress(row_count=3))]) == {lost.id}
    assert await ranges.report([(taken, JobProgress(row_count=4))]) == set()
    assert [job.id for job in await ranges.held(two)] == [taken.id]
    again = await ranges.claim_own(job)
    assert again is not None
    assert (again.index, again.fence) == (1, 2), "a claim whose reply was lost is made again"
    assert not await ranges.finish_own(job, own, done)
    stolen = await ranges.claim(two, ["test"], 1)
    assert stolen == []
    assert await ranges.finish(taken, done)
    assert await ranges.finish(taken, done), "once more is the same"
    assert [(s.row_count, s.parts, s.busy) for s in await ranges.state(job)] == [
        (7, (), False),
        (0, None, True),
    ]
    assert await ranges.release(replace(taken, fence=taken.fence)) is False, "what is done stays so"
    assert await ranges.withdraw(job) == 0
    assert not await ranges.finish_own(job, again, done)
    assert await ranges.state(job) == []
    await jobs.lose(job.worker_id)
    await jobs.ports.keeper.reap(lambda: 0.0)
    assert not await ranges.open(job, "0-1", "plan", offers, read_time=YEAR.start)


async def test_a_range_that_is_not_begun_is_taken_by_the_attempt_and_one_that_failed_by_nobody_else(
    jobs: Jobs,
) -> None:
    ranges = jobs.ports.ranges
    job, other = await jobs.running(), await jobs.worker()
    halves = (RangeOffer(KeyRange(None, 5)), RangeOffer(KeyRange(5, None)))
    await ranges.open(job, "0-1", "plan", halves, read_time=YEAR.start)
    first, second = await ranges.claim(other, ["test"], 2)
    assert await ranges.begin(first)
    own = await ranges.claim_own(job)
    assert own is not None
    assert (own.index, own.fence) == (1, 2), "whoever waits for a seat does not keep others waiting"
    assert not await ranges.begin(second)
    await ranges.finish_own(job, own, JobResult())
    assert await ranges.release(first, failed=True)
    assert await ranges.claim(other, ["test"], 2) == []
    own = await ranges.claim_own(job)
    assert own is not None
    assert own.index == 0
    await jobs.ports.store.cancel("acme", job.id, "ada")
    await ranges.release(replace(first, fence=9))
    assert await ranges.claim(other, ["test"], 2) == []
