"""Sources without triggers: what is built again follows from what was promised of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from broker.adapters.pg_rollup_database import RollupDatabase
from broker.adapters.pg_rollup_schema import PgRollupSchema
from broker.adapters.pg_rollups import PgRollups
from broker.domain.model import Dataset
from broker.domain.rollup import Rollup, Tracking, instant
from broker.rollups.build import BuildTools
from broker.runtime.clock import SystemClock
from tests.integration.rollups.build.test_refresh import LATE, agrees, clean, refresh
from tests.integration.rollups.build.visits import BY_SITE, dataset, visit
from tests.support.pg import Connection


async def installed(
    tools: BuildTools, database: RollupDatabase, rollup: Rollup
) -> tuple[BuildTools, Dataset]:
    """The tools for a dataset with this rollup only."""
    visits = dataset(rollup)
    rollups = PgRollups(database, PgRollupSchema(database), {"visits": visits}, SystemClock())
    await rollups.install(visits)
    return replace(tools, rollups=rollups), visits


async def test_a_token_that_differs_builds_everything_again(
    tools: BuildTools, database: RollupDatabase, owner: Connection
) -> None:
    await owner.execute("CREATE TABLE version AS SELECT 1 AS number")
    rollup = replace(BY_SITE, tracking=Tracking.CHANGE_TOKEN, token="SELECT number FROM version")
    tools, visits = await installed(tools, database, rollup)
    await refresh(tools, visits, rollup)
    assert await clean(tools, visits, rollup)
    await visit(owner, LATE)
    assert await clean(tools, visits, rollup), "nobody has said anything"
    await owner.execute("UPDATE version SET number = 2")
    assert not await clean(tools, visits, rollup)
    assert (await refresh(tools, visits, rollup)).progress.done == 3
    assert await clean(tools, visits, rollup)
    assert await agrees(tools, owner, visits, rollup) == 3


async def test_only_what_may_still_get_rows_is_built_again(
    tools: BuildTools, database: RollupDatabase, owner: Connection
) -> None:
    now = datetime.now(UTC)
    rollup = replace(BY_SITE, tracking=Tracking.APPEND_ONLY, lateness=3600.0, start=now - timedelta(days=70))
    for age in (timedelta(days=60), timedelta(days=1), timedelta(minutes=5)):
        await visit(owner, now - age)
    tools, visits = await installed(tools, database, rollup)
    await refresh(tools, visits, rollup)
    await visit(owner, now - timedelta(minutes=40), "late")
    partitions = (await tools.rollups.status(visits, rollup)).partitions
    changed = [p.span for p in partitions if p.dirty]
    assert all((instant(span.hi) or now) > now - timedelta(hours=1) for span in changed)
    assert changed
    await tools.rollups.sweep(visits, 0)
    assert (await refresh(tools, visits, rollup)).progress.done == len(changed)
    assert await agrees(tools, owner, visits, rollup) == len(partitions)
    segments = [p.segment for p in partitions if p.segment is not None]
    assert {segment.version for segment in segments} == {1}
