"""Datasets that jobs make: they exist exactly when the job succeeded, for their owner, until their time is over."""

from __future__ import annotations

import pickle
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest

from broker.adapters.result_dir import DirectoryResults
from broker.aggregation import kernels
from broker.domain.answer import AnswerKind
from broker.domain.deadline import Deadline
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.job import ExportFormat, Job, JobState, part_prefix
from broker.domain.model import Dataset, Model
from broker.domain.principal import Principal
from broker.domain.query import AbsoluteRange, Condition, Grain, Operator, Query, TimeSelection
from broker.domain.request import CallContext
from broker.domain.terms import AnswerPolicy
from broker.domain.work import JobAsk, MaterializeWork
from broker.jobs.children import Children
from broker.jobs.kind import JobContext
from broker.jobs.materialise import MATERIALIZE, MaterialiseCheck, MaterialiseKind
from broker.jobs.materialised import MaterialisedDatasets
from broker.jobs.materialised_export import ExportCheck, Exports
from broker.jobs.materialised_rows import MaterialisedRows
from broker.jobs.sources import Sources
from broker.jobs.upkeep import Upkeep
from broker.pipeline.catalog import Catalog
from broker.pipeline.grids import GridCache
from broker.pipeline.planner import Planner
from broker.policy.materialised import way
from broker.ports.jobs import Submission
from broker.runtime.clock import SystemClock
from broker.telemetry.instruments import Telemetry
from tests.conftest import FreshDatabase
from tests.support.datasets import flights
from tests.support.exports import POLICY, SEES_ALL, ask, contents, export_kind, no_sql
from tests.support.jobs import Jobs, job_database, submission
from tests.support.workers import worker

YEAR = AbsoluteRange(datetime(2013, 1, 1, 5, tzinfo=UTC), datetime(2014, 1, 1, 5, tzinfo=UTC))
DAYS = TimeSelection("time_hour", Grain.DAY, "America/New_York", YEAR)
KEPT = Query(
    "flights", ("flights", "mean_delay", "late_share", "worst", "approx_p90"), ("origin", "carrier"), DAYS
)
COUNTS = Query("flights", ("flights",), ("origin", "carrier"), DAYS)
EWR = Principal("eva", "acme", attributes={"origin": "EWR"})


def planner(source: Dataset | None = None) -> Planner:
    """Plans over the flights."""
    dataset = source or flights(policies=[POLICY])
    return Planner(Catalog(Model({"flights": dataset})), GridCache(), Telemetry.off())


def call(principal: Principal = SEES_ALL) -> CallContext:
    return CallContext("call-1", principal, Deadline(1e12), datetime.now(UTC))


def asked(query: Query = KEPT, name: str = "kept", retention: float | None = None) -> JobAsk:
    """An ask for a dataset; its stored form is its own pickle."""
    work = MaterializeWork(query, name, retention)
    made = JobAsk(work, AnswerPolicy(), "", b"", "", path="spec.materialize")
    return replace(made, spec=pickle.dumps(made))


def materialise(
    query: Query = COUNTS, name: str = "kept", retention: float | None = None, principal: Principal = SEES_ALL
) -> Submission:
    spec = asked(query, name, retention).spec
    return submission(kind=MATERIALIZE, spec=spec, principal=principal, attempt_timeout=300.0)


@dataclass(frozen=True)
class Place:
    """Jobs beside the flights, with what makes datasets, finds them and reads their rows."""

    jobs: Jobs
    kind: MaterialiseKind
    exports: Exports
    datasets: MaterialisedDatasets
    rows: MaterialisedRows
    folder: Path
    children: Children

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        kinds = {each.name: each for each in (self.kind, self.exports)}
        async with worker(self.jobs.ports, kinds, self.folder, children=self.children, seconds=30.0):
            yield

    async def made(self, wanted: Submission) -> Job:
        """The job after it has made the dataset."""
        async with self.working():
            submitted = await self.jobs.ports.store.submit(wanted)
            return await self.jobs.reaches(submitted.id, JobState.SUCCEEDED)

    async def answer(self, query: Query, principal: Principal = SEES_ALL) -> list[tuple[object, ...]]:
        """The rows of an answer from a dataset."""
        context = call(principal)
        dataset = await self.datasets.one(context, query.dataset)
        assert dataset is not None
        assert dataset.materialised is not None
        plan = self.datasets.planner.over(dataset, query, context)
        found = way(plan, await self.rows(dataset.materialised), self.datasets.planner.grids)
        return kernels.answer(found.results, found.finish).rows()

    async def refused(self, name: str = "kept", principal: Principal = SEES_ALL) -> BrokerError:
        with pytest.raises(BrokerError) as caught:
            await self.datasets.one(call(principal), name)
        return caught.value


@pytest.fixture
async def place(fresh_database: FreshDatabase, tmp_path: Path, children: Children) -> AsyncIterator[Place]:
    async with job_database(await fresh_database(flights=True)) as jobs, export_kind(jobs.dsn) as export:
        plans, folder = planner(), tmp_path / "results"
        datasets = MaterialisedDatasets(jobs.ports.store, plans, pickle.loads, SystemClock())
        rows = MaterialisedRows(DirectoryResults(folder), 64 << 20)
        kind = MaterialiseKind(plans, replace(export, inline_bytes=0), pickle.loads, 32 << 20)
        yield Place(jobs, kind, Exports(export, datasets, rows), datasets, rows, folder, children)


async def sql(place: Place, text: str) -> Sequence[tuple[object, ...]]:
    return [tuple(row) for row in await place.jobs.admin.fetch(text)]


async def test_a_dataset_answers_what_the_tables_would(place: Place) -> None:
    job = await place.made(materialise(KEPT))
    assert job.result is not None
    assert job.result.dataset == "kept"
    assert [c.name for c in job.result.columns][3:] == [
        *KEPT.measures, "arrived", "mean_delay__sum", "late_flights",
    ]  # fmt: skip
    months = TimeSelection("", Grain.MONTH, "America/New_York", YEAR)
    measures = ("flights", "mean_delay", "late_share", "worst")
    found = await place.answer(Query("kept", measures, ("origin",), months))
    expected = await sql(
        place,
        """SELECT (extract(epoch FROM date_trunc('month', time_hour, 'America/New_York')) * 1000000)::bigint, origin,
                  count(*), avg(arr_delay)::float8, count(*) FILTER (WHERE arr_delay > 15)::float8 / count(*),
                  max(arr_delay)
           FROM flights GROUP BY 1, 2 ORDER BY 1, 2""",
    )
    assert [row[:3] for row in found] == [row[:3] for row in expected]
    for own, other in zip(found, expected, strict=True):
        assert own[3:] == pytest.approx(other[3:], rel=1e-12)
    where = Condition("carrier", Operator.IN, ("UA", "AA"))
    some = await place.answer(Query("kept", ("flights",), filter=where))
    assert some == await sql(place, "SELECT count(*) FROM flights WHERE carrier IN ('UA', 'AA')")
    single = Condition("carrier", Operator.EQ, ("UA",))
    alone = await place.answer(replace(KEPT, dataset="kept", dimensions=("origin",), filter=single))
    assert len(alone) == len(
        await sql(place, "SELECT DISTINCT origin, year, month, day FROM flights WHERE carrier = 'UA'")
    )

    context = call()
    dataset = await place.datasets.one(context, "kept")
    assert dataset is not None
    assert dataset.materialised is not None
    assert dataset.materialised.status.kind is AnswerKind.LIVE
    assert "approx_p90" not in dataset.materialised.mergeable
    assert await place.datasets.every(context) == [dataset]


async def test_only_the_owner_has_it_and_only_as_they_were(place: Place) -> None:
    await place.made(materialise(Query("flights", ("flights",), ("origin",)), principal=EWR))
    assert await place.answer(Query("kept", ("flights",), ("origin",)), EWR) == await sql(
        place, "SELECT origin, count(*) FROM flights WHERE origin = 'EWR' GROUP BY 1"
    )
    for stranger in (replace(EWR, name="bob"), replace(EWR, tenant="other"), SEES_ALL):
        assert await place.datasets.one(call(stranger), "kept") is None
        assert await place.datasets.every(call(stranger)) == []
    for changed in (replace(EWR, attributes={"origin": "JFK"}), replace(EWR, grants=frozenset({"all"}))):
        error = await place.refused(principal=changed)
        assert (error.reason, "has changed" in error.message) == (ErrorReason.RESULT_EXPIRED, True)
    source = replace(flights(policies=[POLICY]), version="another", grants=("flights",))
    for changed_source in (source, replace(source, grants=())):
        datasets = replace(place.datasets, planner=planner(changed_source))
        with pytest.raises(BrokerError, match="has changed"):
            await datasets.one(call(EWR), "kept")


async def test_the_last_to_succeed_is_the_dataset_and_versions_are_not_mixed(place: Place) -> None:
    counted = Query("flights", ("flights",))
    first = await place.made(materialise(counted))
    before = await place.answer(Query("kept", ("flights",)))
    await place.jobs.admin.execute("DELETE FROM flights WHERE origin = 'EWR'")
    second = await place.made(materialise(counted))
    after = await place.answer(Query("kept", ("flights",)))
    assert after == await sql(place, "SELECT count(*) FROM flights")
    assert after < before
    assert second.id != first.id
    await place.jobs.ports.store.delete("acme", second.id)
    assert await place.answer(Query("kept", ("flights",))) == before, "the one before is there again"
    await place.jobs.ports.store.delete("acme", first.id)
    assert await place.datasets.one(call(), "kept") is None


async def test_when_its_time_is_over_it_says_so_and_what_to_do(place: Place) -> None:
    job = await place.made(materialise(retention=1800.0))
    assert job.result is not None
    assert job.result.expire_time is not None
    assert job.end_time is not None
    assert (job.result.expire_time - job.end_time).total_seconds() == 1800.0
    await place.answer(Query("kept", ("flights",)))
    await place.jobs.admin.execute("UPDATE broker.job SET result_expire_time = now() - interval '1 second'")
    error = await place.refused()
    assert (error.reason, "Submit the job again" in error.message) == (ErrorReason.RESULT_EXPIRED, True)
    assert await place.datasets.every(call()) == []
    store = DirectoryResults(place.folder)
    assert await store.prefixes()
    await Upkeep(place.jobs.ports.keeper, store, Random(1), 3600.0).sweep()
    assert await store.prefixes() == []
    assert (await place.refused()).reason is ErrorReason.RESULT_EXPIRED


async def test_a_loss_between_the_files_and_the_finish_leaves_nothing(place: Place) -> None:
    store = DirectoryResults(place.folder)
    submitted = await place.jobs.ports.store.submit(materialise())
    lost = await place.jobs.worker()
    (job,) = await place.jobs.ports.queue.claim(lost, [MATERIALIZE], 1)
    deadline = Deadline.after(300.0, SystemClock().monotonic())
    result = await place.kind.run(JobContext(job, deadline, store, place.children, lambda _: None))
    assert result.dataset == "kept"
    assert await store.prefixes() == [part_prefix("acme", job.id, 1)], "all is written, and nothing published"
    assert await place.datasets.one(call(), "kept") is None
    await place.jobs.lose(lost)
    async with place.working():
        again = await place.jobs.reaches(submitted.id, JobState.SUCCEEDED)
    assert again.fence == 2
    assert not await place.jobs.ports.queue.succeed(job, result, job.progress, 60.0), "the first is stale"
    await Upkeep(place.jobs.ports.keeper, store, Random(1), 3600.0).sweep()
    assert await store.prefixes() == [part_prefix("acme", job.id, 2)]
    assert await place.answer(Query("kept", ("flights",))) == await sql(place, "SELECT count(*) FROM flights")


async def test_more_than_is_allowed_ends_the_job_and_leaves_nothing(place: Place) -> None:
    small = replace(place, kind=replace(place.kind, most_bytes=1000))
    async with small.working():
        submitted = await place.jobs.ports.store.submit(materialise())
        job = await place.jobs.reaches(submitted.id, JobState.FAILED)
    assert job.failure is not None
    assert (job.failure.reason, job.attempt) == (ErrorReason.RESULT_TOO_LARGE.value, 1)
    assert await DirectoryResults(place.folder).prefixes() == []


async def test_it_can_be_exported_without_the_tables(place: Place) -> None:
    await place.made(materialise())
    expected = await sql(place, "SELECT origin, count(*) FROM flights GROUP BY 1 ORDER BY 1")
    await place.jobs.admin.execute("DROP TABLE flights CASCADE")
    wanted = ask(Query("kept", ("flights",), ("origin",)), ExportFormat.CSV)
    await ExportCheck(Sources(planner(), no_sql), place.datasets).check(call(), wanted)
    job = await place.made(
        submission(kind="export", spec=wanted.spec, principal=SEES_ALL, attempt_timeout=300.0)
    )
    (data,) = await contents(job, place.folder)
    assert data.decode().splitlines() == [
        "origin,flights",
        *(f"{origin},{count}" for origin, count in expected),
    ]
    assert job.result is not None
    assert job.result.status is not None
    assert job.result.status.kind is AnswerKind.MATERIALIZED
    with pytest.raises(BrokerError) as caught:
        await ExportCheck(Sources(planner(), no_sql), place.datasets).check(call(EWR), wanted)
    assert caught.value.reason is ErrorReason.DATASET_NOT_FOUND


async def test_a_damaged_file_is_not_read(place: Place) -> None:
    await place.made(materialise())
    (file,) = list(place.folder.rglob("*.arrow"))
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.raises(BrokerError, match="not what was written"):
        await place.answer(Query("kept", ("flights",)))


async def test_a_submission_is_told_all_that_is_wrong() -> None:
    check = MaterialiseCheck(planner(), 3600.0)
    with pytest.raises(BrokerError) as caught:
        await check.check(call(), asked(replace(KEPT, measures=("nothing",)), "flights", 7200.0))
    assert [v.code for v in caught.value.violations] == ["TAKEN", "OUT_OF_RANGE", "UNKNOWN_MEMBER"]
    await check.check(call(), asked())
