"""Exports from real data: what is in the files is what the database says, and nothing is left of what was stopped."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from broker.domain.answer import AnswerKind, Exactness
from broker.domain.job import ExportFormat, Job, JobState
from broker.domain.principal import Principal
from broker.domain.query import (
    AbsoluteRange,
    Calculations,
    Condition,
    Grain,
    Operator,
    Query,
    RelativeRange,
    ShareOfTotal,
    TimeSelection,
)
from broker.jobs.children import Children
from broker.jobs.transfer import INLINE_BYTES
from tests.conftest import FreshDatabase
from tests.support.exports import (
    GATE,
    ROWS,
    ROWS_SQL,
    closed_gate,
    contents,
    export,
    export_kind,
    someone_waits,
)
from tests.support.jobs import Jobs, job_database
from tests.support.result_files import files_in
from tests.support.workers import worker


@pytest.fixture
async def jobs(fresh_database: FreshDatabase) -> AsyncIterator[Jobs]:
    """Jobs beside the flights, in one database."""
    async with job_database(await fresh_database(flights=True)) as opened:
        yield opened


@asynccontextmanager
async def exporting(
    jobs: Jobs, directory: Path, children: Children, part_bytes: int = 64 << 20
) -> AsyncIterator[None]:
    async with (
        export_kind(jobs.dsn, part_bytes) as kind,
        worker(jobs.ports, {"export": kind}, directory, children=children, seconds=30.0),
    ):
        yield


def decoded(data: bytes, format: ExportFormat) -> pa.Table:
    if format is ExportFormat.PARQUET:
        return pq.read_table(io.BytesIO(data))
    return pa.ipc.open_file(data).read_all()


@pytest.mark.parametrize("format", [ExportFormat.PARQUET, ExportFormat.ARROW])
async def test_typed_files_hold_what_the_database_says(
    jobs: Jobs, tmp_path: Path, children: Children, format: ExportFormat
) -> None:
    async with exporting(jobs, tmp_path, children):
        submitted = await jobs.ports.store.submit(export(ROWS, format))
        job = await jobs.reaches(submitted.id, JobState.SUCCEEDED)
    (data,) = await contents(job, tmp_path)
    table = decoded(data, format)
    expected = [tuple(row) for row in await jobs.admin.fetch(ROWS_SQL)]
    assert table.schema.names == ["tailnum", "dest", "carrier", "flights", "distance", "hours"]
    assert [tuple(row.values()) for row in table.to_pylist()] == expected
    assert job.result is not None
    assert (job.result.row_count, job.result.format) == (len(expected), format)
    assert [column.name for column in job.result.columns] == table.schema.names
    assert job.result.parts[0].file_name == f"flights.{format.value}"
    assert (job.progress.phase, job.progress.fraction, job.progress.row_count) == ("done", 1.0, len(expected))
    status = job.result.status
    assert status is not None
    assert (status.kind, status.exactness, status.job) == (AnswerKind.LIVE, Exactness.EXACT, job.name)
    assert not list((tmp_path / "staged").iterdir())


async def test_csv_tells_null_from_an_empty_text_and_quotes_what_needs_it(
    jobs: Jobs, tmp_path: Path, children: Children
) -> None:
    await jobs.admin.execute("""UPDATE flights SET tailnum = '' WHERE id % 7 = 0;
        UPDATE flights SET tailnum = 'say "hi", ' || chr(10) || 'you' WHERE id % 7 = 1""")
    async with exporting(jobs, tmp_path, children):
        submitted = await jobs.ports.store.submit(export(ROWS, ExportFormat.CSV))
        job = await jobs.reaches(submitted.id, JobState.SUCCEEDED)
    (data,) = await contents(job, tmp_path)
    assert len(data) > INLINE_BYTES
    text = data.decode()
    assert text.startswith("tailnum,dest,carrier,flights,distance,hours\r\n")
    assert '\r\n"",' in text
    assert "\r\n,SFO," in text, "null is nothing at all"
    rows = list(csv.reader(io.StringIO(text, newline="")))[1:]
    expected = [
        ["" if value is None else str(value) for value in row] for row in await jobs.admin.fetch(ROWS_SQL)
    ]
    assert rows == expected


async def test_a_bucketed_answer_with_calculations_is_computed_whole(
    jobs: Jobs, tmp_path: Path, children: Children
) -> None:
    selection = TimeSelection(
        grain=Grain.MONTH,
        zone="America/New_York",
        range=AbsoluteRange(datetime(2013, 1, 1, 5, tzinfo=UTC), datetime(2013, 4, 1, 4, tzinfo=UTC)),
    )
    query = Query(
        "flights",
        ("flights", "approx_planes"),
        ("origin",),
        time=selection,
        calculations=Calculations(shares=(ShareOfTotal("flights", ("time_hour",)),)),
    )
    async with exporting(jobs, tmp_path, children):
        submitted = await jobs.ports.store.submit(export(query, ExportFormat.PARQUET))
        job = await jobs.reaches(submitted.id, JobState.SUCCEEDED)
    (data,) = await contents(job, tmp_path)
    rows = decoded(data, ExportFormat.PARQUET).to_pylist()
    counted = await jobs.admin.fetch(
        """SELECT date_trunc('month', time_hour, 'America/New_York') AS month, origin, count(*) AS flights
           FROM flights WHERE time_hour >= '2013-01-01 05:00Z' AND time_hour < '2013-04-01 04:00Z'
           GROUP BY 1, 2 ORDER BY 1, origin COLLATE "C" """
    )
    assert [(r["time_hour"], r["origin"], r["flights"]) for r in rows] == [tuple(row) for row in counted]
    for month in {row["month"] for row in counted}:
        assert sum(r["flights__share"] for r in rows if r["time_hour"] == month) == pytest.approx(1.0)
    assert job.result is not None
    assert job.result.status is not None
    assert job.result.status.exactness is Exactness.BOUNDED


async def test_an_answer_without_rows_is_a_file_with_a_schema(
    jobs: Jobs, tmp_path: Path, children: Children
) -> None:
    nothing = replace(ROWS, filter=Condition("carrier", Operator.EQ, ("none",)))
    async with exporting(jobs, tmp_path, children):
        files = {}
        for wanted in ExportFormat:
            submitted = await jobs.ports.store.submit(export(nothing, wanted))
            job = await jobs.reaches(submitted.id, JobState.SUCCEEDED)
            (files[wanted],) = await contents(job, tmp_path)
            assert job.result is not None
            assert job.result.inline == files[wanted], "what is small is kept in the row"
    assert not (tmp_path / "parts").exists()
    assert files[ExportFormat.CSV] == b"tailnum,dest,carrier,flights,distance,hours\r\n"
    for wanted in (ExportFormat.PARQUET, ExportFormat.ARROW):
        table = decoded(files[wanted], wanted)
        assert (table.num_rows, table.num_columns) == (0, 6)


async def test_large_answers_are_parted(jobs: Jobs, tmp_path: Path, children: Children) -> None:
    wide = replace(ROWS, dimensions=("time_hour", *ROWS.dimensions, "month", "dep_delay"))
    async with exporting(jobs, tmp_path, children, part_bytes=1):
        submitted = await jobs.ports.store.submit(export(wide, ExportFormat.CSV))
        job = await jobs.reaches(submitted.id, JobState.SUCCEEDED)
    files = await contents(job, tmp_path)
    assert job.result is not None
    parts = job.result.parts
    assert len(parts) > 1
    assert [part.index for part in parts] == list(range(len(parts)))
    assert parts[1].file_name == "flights-00001.csv"
    headers = {file.partition(b"\r\n")[0] for file in files}
    assert headers == {b"time_hour,tailnum,dest,carrier,month,dep_delay,flights,distance,hours"}
    assert [file.count(b"\r\n") - 1 for file in files] == [part.row_count for part in parts]
    groups = "SELECT DISTINCT time_hour, tailnum, dest, carrier, month, dep_delay FROM flights"
    assert job.result.row_count == await jobs.admin.fetchval(f"SELECT count(*) FROM ({groups})")


async def test_row_policies_of_the_submitter_hold_when_the_job_runs(
    jobs: Jobs, tmp_path: Path, children: Children
) -> None:
    limited = Principal("eve", "acme", frozenset(), attributes={"origin": "JFK"})
    query = Query("flights", ("flights",), ("origin",))
    async with exporting(jobs, tmp_path, children):
        submitted = await jobs.ports.store.submit(export(query, ExportFormat.ARROW, limited))
        job = await jobs.reaches(submitted.id, JobState.SUCCEEDED)
    (data,) = await contents(job, tmp_path)
    expected = await jobs.admin.fetchval("SELECT count(*) FROM flights WHERE origin = 'JFK'")
    assert decoded(data, ExportFormat.ARROW).to_pylist() == [{"origin": "JFK", "flights": expected}]


async def test_a_wrong_question_fails_at_once_naming_every_violation(
    jobs: Jobs, tmp_path: Path, children: Children
) -> None:
    wrong = Query("flights", ("flihgts",), ("orign",))
    async with exporting(jobs, tmp_path, children):
        submitted = await jobs.ports.store.submit(export(wrong, ExportFormat.CSV))
        job = await jobs.reaches(submitted.id, JobState.FAILED)
    assert job.failure is not None
    assert (job.failure.reason, job.attempt) == ("INVALID_REQUEST", 1)
    assert "flihgts" in job.failure.message
    assert "orign" in job.failure.message


async def test_a_cancelled_export_leaves_no_statement_no_file_and_no_process(
    jobs: Jobs, tmp_path: Path, children: Children
) -> None:
    await jobs.admin.execute(GATE)
    async with exporting(jobs, tmp_path, children):
        async with closed_gate(jobs):
            submitted = await jobs.ports.store.submit(export(ROWS, ExportFormat.CSV))
            await someone_waits(jobs)
            (child,) = children._alive
            assert list((tmp_path / "staged").glob("acme/*/1"))
            await jobs.ports.store.cancel("acme", submitted.id, "ada")
            job = await jobs.reaches(submitted.id, JobState.CANCELLED)
            # CANCELLED means that all of it is over already.
            statements = await jobs.admin.fetch(
                "SELECT query FROM pg_stat_activity WHERE datname = current_database() AND state = 'active'"
                " AND query ILIKE '%flights%' AND pid <> pg_backend_pid()"
            )
        assert statements == []
        assert not psutil.pid_exists(child)
        assert files_in(tmp_path) == []
    assert job.failure is not None
    assert job.failure.reason == "CANCELLED"


def crashed(times: int, job: Job) -> bool:
    return job.crash_count == times


async def test_a_child_that_is_killed_costs_one_attempt_and_three_are_too_many(
    jobs: Jobs, tmp_path: Path, children: Children
) -> None:
    await jobs.admin.execute(GATE)
    async with exporting(jobs, tmp_path, children):
        submitted = await jobs.ports.store.submit(replace(export(ROWS, ExportFormat.CSV), max_attempts=10))
        job = submitted
        for crash in (1, 2, 3):
            async with closed_gate(jobs):
                await jobs.make_due(submitted.id)
                await someone_waits(jobs)
                children.kill_all()
                job = await jobs.until(submitted.id, partial(crashed, crash))
    assert (job.state, job.dead_lettered) == (JobState.FAILED, True)
    assert job.failure is not None
    assert job.failure.reason == "WORKER_CRASH_LOOP"
    assert [outcome for _, _, outcome in await jobs.history(job.id)] == ["lost"] * 3
    assert files_in(tmp_path) == []


async def test_a_relative_range_is_that_of_the_submission_whenever_it_runs(
    jobs: Jobs, tmp_path: Path, children: Children
) -> None:
    last_month = TimeSelection(range=RelativeRange(1, Grain.MONTH))
    submitted = await jobs.ports.store.submit(
        export(Query("flights", ("flights",), time=last_month), ExportFormat.ARROW)
    )
    await jobs.admin.execute("UPDATE broker.job SET create_time = '2013-03-10T12:00Z'")
    async with exporting(jobs, tmp_path, children):
        job = await jobs.reaches(submitted.id, JobState.SUCCEEDED)
    (data,) = await contents(job, tmp_path)
    expected = await jobs.admin.fetchval(
        "SELECT count(*) FROM flights WHERE time_hour >= '2013-02-01Z' AND time_hour < '2013-03-01Z'"
    )
    assert decoded(data, ExportFormat.ARROW).to_pylist() == [{"flights": expected}]
