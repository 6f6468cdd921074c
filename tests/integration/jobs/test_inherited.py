"""Ranges of dead attempts: taken over where their rows are proven to be the same, and written again everywhere else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest

from broker.adapters.migrate import migrate
from broker.domain.job import part_prefix
from broker.domain.query import Query, TimeSelection
from broker.jobs.children import Children
from broker.jobs.upkeep import Upkeep
from tests.conftest import FreshDatabase
from tests.integration.rollups.build import visits
from tests.support.exports import export_kind
from tests.support.inheriting import DAYS, MONTHS, QUARTER, Ending, Place
from tests.support.jobs import job_database
from tests.support.result_files import files_in
from tests.support.workers import worker

Change = Callable[[Place], Awaitable[object]]
JANUARY = datetime(2024, 1, 20, tzinfo=UTC)
LIVE = """
SELECT site, count(*) AS visits, sum(spent) AS spent FROM visits
GROUP BY date_trunc('month', at AT TIME ZONE 'UTC'), 1 ORDER BY date_trunc('month', at AT TIME ZONE 'UTC'), 1
"""
INSTANTS = replace(DAYS, dimensions=("at",), time=TimeSelection(range=QUARTER))
NUMBERS = replace(DAYS, dimensions=("number",))


@pytest.fixture
async def place(fresh_database: FreshDatabase, tmp_path: Path, children: Children) -> AsyncIterator[Place]:
    dsn = await fresh_database()
    await migrate(dsn, "rollups")
    async with job_database(dsn) as jobs, export_kind(dsn) as plain:
        await visits.fill(jobs.admin)
        yield Place(jobs, plain, tmp_path, children)


async def sweep(place: Place) -> None:
    await Upkeep(place.jobs.ports.keeper, place.results, Random(1), 3600.0).sweep()


async def test_what_is_proven_to_be_the_same_is_not_written_again(place: Place) -> None:
    await place.closed()
    undisturbed, all_of_it = await place.ends(await place.submitted())
    assert all_of_it == [0, 1, 2]
    job_id = await place.submitted()
    dead = await place.dies(job_id, 2)
    await visits.visit(place.jobs.admin, datetime(2024, 3, 30, tzinfo=UTC))  # concerns the last range only
    await place.jobs.admin.execute("DELETE FROM visits WHERE at >= '2024-03-30Z'")
    await sweep(place)
    result, written = await place.ends(job_id)
    assert written == [2]
    # Should the dead attempt only have slept, this is what it does at its end.
    await place.results.delete(part_prefix(dead.tenant, dead.id, dead.fence))
    await sweep(place)
    assert [part.sha256 for part in result.parts] == [part.sha256 for part in undisturbed.parts]
    found = await place.rows(result)
    assert found.equals(await place.rows(undisturbed))
    assert result.row_count == undisturbed.row_count == found.num_rows
    assert result.status is not None
    earlier, own = result.status.parts
    assert (earlier.row_count, own.row_count) == (
        sum(p.row_count for p in result.parts[:2]),
        result.parts[2].row_count,
    )
    assert earlier.as_of < own.as_of == result.status.as_of
    assert earlier.share + own.share == pytest.approx(1.0)
    assert await place.jobs.admin.fetchval("SELECT count(*) FROM broker.job_range") == 0
    assert len(files_in(place.directory)) == len(result.parts) + len(undisturbed.parts)


async def test_attempt_after_attempt_takes_over_what_the_last_one_had(place: Place) -> None:
    await place.closed()
    job_id = await place.submitted()
    await place.dies(job_id, 1)
    await place.dies(job_id, 1)
    result, written = await place.ends(job_id)
    assert written == [2]
    assert result.status is not None
    assert len({part.as_of for part in result.status.parts}) == 3
    assert sum((await place.rows(result))["visits"].to_pylist()) == 600


async def test_what_is_taken_over_is_cut_as_it_was(place: Place) -> None:
    await place.closed()
    await place.jobs.admin.execute("ANALYZE visits")
    job_id = await place.submitted(INSTANTS)
    await place.dies(job_id, 2)
    await place.jobs.admin.execute("SET default_statistics_target = 5; ANALYZE visits")
    result, written = await place.ends(job_id)
    assert written == [2]
    found = await place.rows(result)
    assert sum(found["visits"].to_pylist()) == 600
    assert found["at"].to_pylist() == sorted(found["at"].to_pylist())


async def test_copies_that_are_not_taken_over_after_all_are_deleted(place: Place) -> None:
    """What was left is forgotten at the last moment, as a dead attempt does that only slept."""
    await place.closed()
    job_id = await place.submitted()
    dead = await place.dies(job_id, 2)
    result, written = await place.ends(job_id, before_open=lambda: place.jobs.ports.ranges.withdraw(dead))
    assert written == [0, 1, 2]
    await place.results.delete(part_prefix(dead.tenant, dead.id, dead.fence))
    assert len(files_in(place.directory)) == len(result.parts)


@pytest.mark.parametrize("waits", [False, True], ids=["an error", "the end of the worker"])
async def test_an_attempt_that_ends_in_order_leaves_as_much(place: Place, waits: bool) -> None:
    await place.closed()
    job_id, ranges = await place.submitted(), Ending(place.jobs.ports.ranges, 2, waits=waits)
    kinds = {"export": place.kind(ranges)}
    async with worker(place.jobs.ports, kinds, place.directory, children=place.children):
        if waits:
            await ranges.waiting.wait()
        else:
            await place.jobs.until(job_id, lambda job: job.failure is not None)
    await place.jobs.make_due(job_id)
    await sweep(place)
    result, written = await place.ends(job_id)
    assert written == [2]
    assert sum((await place.rows(result))["visits"].to_pylist()) == 600


async def test_a_job_that_is_over_leaves_nothing(place: Place) -> None:
    await place.closed()
    for waits in (False, True):
        job_id = await place.submitted(max_attempts=1)
        ranges = Ending(place.jobs.ports.ranges, 2, waits=waits)
        kinds = {"export": place.kind(ranges)}
        async with worker(place.jobs.ports, kinds, place.directory, children=place.children, slots=1):
            if waits:
                await ranges.waiting.wait()
                await place.jobs.ports.store.cancel("acme", job_id, "ada")
            await place.jobs.until(job_id, lambda job: job.state.final)
        assert files_in(place.directory) == []
    assert await place.jobs.admin.fetchval("SELECT count(*) FROM broker.job_range") == 0


async def late_row(place: Place) -> None:
    await visits.visit(place.jobs.admin, JANUARY)
    await place.jobs.admin.execute("UPDATE visits SET spent = spent + 1 WHERE at < '2024-01-15Z'")


async def late_row_and_refresh(place: Place) -> None:
    """The mark is gone by then, and so is the version that did not have the row."""
    await late_row(place)
    await place.closed(MONTHS[:1])
    assert await place.jobs.admin.fetchval("SELECT count(*) FROM broker.rollup_mark") == 0


async def unmarked_row(place: Place) -> None:
    """Nobody was told of it, but that the triggers were off is seen."""
    await place.jobs.admin.execute("ALTER TABLE visits DISABLE TRIGGER USER")
    await late_row(place)
    await place.jobs.admin.execute("ALTER TABLE visits ENABLE TRIGGER USER")


async def files_gone(place: Place) -> None:
    for path in files_in(place.directory):
        if "/0/1/" in str(path):
            path.unlink()


async def other_model(place: Place) -> None:
    place.model = replace(place.model, version="2")


@pytest.mark.parametrize(
    ("change", "rewritten"),
    [
        (late_row, [0, 2]),
        (late_row_and_refresh, [0, 2]),
        (files_gone, [0, 2]),
        (unmarked_row, [0, 1, 2]),
        (other_model, [0, 1, 2]),
    ],
)
async def test_a_change_has_its_ranges_written_again(
    place: Place, change: Change, rewritten: list[int]
) -> None:
    await place.closed()
    job_id = await place.submitted()
    await place.dies(job_id, 2)
    await change(place)
    result, written = await place.ends(job_id)
    assert written == rewritten
    found = await place.rows(result)
    rows = await place.jobs.admin.fetch(LIVE)
    assert [tuple(row.values()) for row in found.select(["site", "visits"]).to_pylist()] == [
        (row["site"], row["visits"]) for row in rows
    ]
    assert sum(found["spent"].to_pylist()) == sum(row["spent"] for row in rows)


@pytest.mark.parametrize(
    ("query", "months", "rewritten"),
    [
        (DAYS, MONTHS[1:], [0, 2]),  # of January nothing was built
        (NUMBERS, MONTHS, [0, 1, 2]),  # a change of what no rollup reads leaves no mark
    ],
)
async def test_what_nothing_proves_starts_over(
    place: Place, query: Query, months: tuple[()], rewritten: list[int]
) -> None:
    await place.closed(months)
    job_id = await place.submitted(query)
    await place.dies(job_id, 2)
    _, written = await place.ends(job_id)
    assert written == rewritten
