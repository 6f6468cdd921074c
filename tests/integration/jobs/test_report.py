"""Reports from real data: every file of the archive is what the database said at one and the same moment."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import pickle
import zipfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from broker.domain.answer import Exactness
from broker.domain.deadline import Deadline
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.job import ExportFormat, Job, JobState
from broker.domain.principal import Principal
from broker.domain.query import Query
from broker.domain.request import CallContext
from broker.domain.terms import AnswerPolicy
from broker.domain.work import JobAsk, ReportSection, ReportWork
from broker.jobs.children import Children
from broker.jobs.report import ReportKind
from broker.ports.jobs import Submission
from tests.conftest import FreshDatabase
from tests.support.exports import (
    GATE,
    ROWS,
    ROWS_SQL,
    SEES_ALL,
    SOURCES,
    closed_gate,
    contents,
    export_kind,
    someone_waits,
)
from tests.support.jobs import job_database, submission
from tests.support.workers import worker

PLANES = Query("flights", ("approx_planes",), ("origin",))


def ask(*sections: ReportSection, format: ExportFormat = ExportFormat.CSV) -> JobAsk:
    """An ask for a report; its stored form is its own pickle."""
    made = JobAsk(ReportWork(sections, format), AnswerPolicy(), "", b"", "", path="spec.report")
    return replace(made, spec=pickle.dumps(made))


def report(
    *sections: ReportSection, format: ExportFormat = ExportFormat.CSV, principal: Principal = SEES_ALL
) -> Submission:
    spec = ask(*sections, format=format).spec
    return submission(kind="report", spec=spec, principal=principal, attempt_timeout=300.0)


async def archive(job: Job, directory: Path) -> tuple[dict[str, bytes], dict[str, object]]:
    """The files of the archive, checked against its manifest, and the manifest."""
    (data,) = await contents(job, directory)
    with zipfile.ZipFile(io.BytesIO(data)) as opened:
        assert opened.testzip() is None
        files = {name: opened.read(name) for name in opened.namelist()}
    manifest = json.loads(files.pop("manifest.json"))
    assert [section["file"] for section in manifest["sections"]] == list(files)
    for section in manifest["sections"]:
        file = files[section["file"]]
        assert (section["byte_count"], section["sha256"]) == (len(file), hashlib.sha256(file).hexdigest())
    return files, manifest


async def test_all_sections_are_of_one_moment(fresh_database: FreshDatabase, tmp_path: Path) -> None:
    children = Children(1 << 30)
    async with (
        job_database(await fresh_database(flights=True)) as jobs,
        export_kind(jobs.dsn) as export,
        worker(
            jobs.ports,
            {"report": ReportKind(SOURCES, export.store, pickle.loads, export.clock)},
            tmp_path,
            children=children,
        ),
    ):
        expected = await jobs.admin.fetch(ROWS_SQL)
        planes = {row["origin"]: row["planes"] for row in await jobs.admin.fetch(
            "SELECT origin, count(DISTINCT tailnum) AS planes FROM flights GROUP BY 1"
        )}  # fmt: skip
        await jobs.admin.execute(GATE)
        sections = (
            ReportSection("rows", ROWS),
            ReportSection("planes", PLANES),
            ReportSection("again", ROWS),
        )
        async with closed_gate(jobs):
            first = await jobs.ports.store.submit(report(*sections))
            await someone_waits(jobs)
            await jobs.admin.execute("DELETE FROM flights_behind WHERE id % 2 = 0")
        job = await jobs.reaches(first.id, JobState.SUCCEEDED)
        files, manifest = await archive(job, tmp_path)
        assert list(files) == ["rows.csv", "planes.csv", "again.csv"]
        assert files["rows.csv"] == files["again.csv"], "the last one was read after the rows were deleted"
        rows = list(csv.reader(io.StringIO(files["rows.csv"].decode(), newline="")))
        assert len(rows) == len(expected) + 1
        counted = dict(list(csv.reader(io.StringIO(files["planes.csv"].decode(), newline="")))[1:])
        for origin, count in planes.items():
            assert float(counted[origin]) == pytest.approx(count, rel=0.05)
        assert job.result is not None
        assert job.result.status is not None
        assert (job.result.row_count, len(job.result.parts)) == (2 * len(expected) + len(planes), 1)
        assert (job.result.status.exactness, job.result.status.job) == (Exactness.BOUNDED, job.name)
        assert manifest["snapshot_time"] == job.result.status.as_of.isoformat()

        half = await jobs.admin.fetch(ROWS_SQL)
        second = await jobs.ports.store.submit(report(*sections[:1], format=ExportFormat.PARQUET))
        job = await jobs.reaches(second.id, JobState.SUCCEEDED)
        files, manifest = await archive(job, tmp_path)
        table = pq.read_table(io.BytesIO(files["rows.parquet"]))
        assert [tuple(row.values()) for row in table.to_pylist()] == [tuple(row) for row in half]
    assert children.count == 0
    children.close()
    assert not list((tmp_path / "staged").glob("*"))


async def test_what_is_wrong_with_any_section_is_told_at_once() -> None:
    wrong = ask(
        ReportSection("a", Query("flights", ("nothing",))),
        ReportSection("b", ROWS),
        ReportSection("c", Query("flights", ("flights",), ("nowhere",))),
    )
    context = CallContext("call-1", SEES_ALL, Deadline(1e12), datetime.now(UTC))
    with pytest.raises(BrokerError) as caught:
        await SOURCES.check_sections(context, wrong)
    assert caught.value.reason is ErrorReason.INVALID_REQUEST
    assert [v.field for v in caught.value.violations] == [
        "spec.report.sections[0].query.measures[0]",
        "spec.report.sections[2].query.dimensions[0]",
    ]
