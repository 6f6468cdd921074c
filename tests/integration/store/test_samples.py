"""Estimates from samples of real tables: how often their limits hold, and when there are none."""

from __future__ import annotations

import asyncpg
import pytest

from broker.adapters.pg_samples import PgSamples
from broker.adapters.pg_store import PgStore
from broker.domain.model import Dataset
from broker.domain.pool import PoolName
from broker.domain.query import Condition, Grain, Operator, Query, TimeSelection
from broker.domain.sample import BlockSums, Draw, NoEstimate
from tests.integration.store.conftest import in_time
from tests.support.estimates import OWN, estimate, plan_of, seeds, truth
from tests.support.samples import DAYS, KIND, clustered, days, events, uniform

TRIALS = 10
REGION = Query("events", ("pieces", "mean_amount"), ("region",))
PARTED = events("parted")
VISIBLE = events(policies=[OWN])
WEEKS = TimeSelection(range=days(0, DAYS).range, grain=Grain.WEEK)


@pytest.mark.parametrize(
    ("query", "dataset"),
    [
        (uniform("events", "revenue", "per_piece"), events()),
        (clustered("events", "mean_amount", count=30), events()),
        (REGION, events()),
        (Query("events", ("events", "mean_amount")), VISIBLE),
        (uniform("events", "mean_amount"), PARTED),
        (clustered("pieces", first=35, count=30), PARTED),
        (Query("events", ("pieces",), time=WEEKS), events()),
        (uniform("revenue"), events("thinned")),
    ],
    ids=["uniform", "clustered", "joined", "policy", "parted", "parted-clustered", "weeks", "thinned"],
)
async def test_limits_hold_the_exact_values(events_store: PgStore, query: Query, dataset: Dataset) -> None:
    plan, numbers = plan_of(query, dataset), seeds()
    exact = await truth(events_store, plan)
    held = said = answered = 0
    refused: list[str] = []
    for _ in range(TRIALS):
        found = await estimate(events_store, plan, numbers)
        if isinstance(found, NoEstimate):
            refused.append(found.value)
            continue
        answered += 1
        for key, limits in found[0].groups.items():
            for each, value in zip(limits, exact[key], strict=True):
                said += 1
                held += each.lower <= value <= each.upper
                assert each.value == pytest.approx(value, rel=0.6)
    # The table and the seeds are always the same.
    assert answered > 0.7 * TRIALS, refused
    assert held / said >= 0.85


async def test_drawn_blocks_are_counted_with_those_in_which_nothing_matches(
    events_store: PgStore, events_connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    plan = plan_of(Query("events", ("events",)), events("thinned"))
    async with PgSamples(events_store).table(PoolName.ADMIN, plan, in_time()) as table:
        assert not isinstance(await table.extent(), NoEstimate)
        for seed in range(12):
            sample = await table.read(Draw(0.1, seed))
            assert isinstance(sample, BlockSums)
            by_hand = await events_connection.fetchval(_BY_HAND, sample.blocks, float(seed), 10.0)
            assert sample.drawn == by_hand
            assert sample.groups[0].blocks <= 0.7 * sample.drawn  # half of the table is empty by now
    full = plan_of(Query("events", ("events",)))
    async with PgSamples(events_store).table(PoolName.ADMIN, full, in_time()) as table:
        await table.extent()
        sample = await table.read(Draw(0.1, 5))
        assert isinstance(sample, BlockSums)
        assert (
            0 <= sample.drawn - sample.groups[0].blocks <= 2
        )  # blocks at the end that were made and not yet filled


_BY_HAND = """
SELECT count(*) FROM generate_series(0, $1::bigint - 1) AS b
 WHERE (hashoidvector((b || ' ' || (hashfloat8($2)::bigint & 4294967295))::oidvector)::bigint & 4294967295)
       < round(4294967296 * $3::float4::float8 / 100)
"""


@pytest.mark.parametrize(
    ("query", "dataset", "reason"),
    [
        (uniform("revenue"), events("few"), NoEstimate.EXACT_CHEAPER),
        (uniform("revenue"), events("nothing"), NoEstimate.EXACT_CHEAPER),
        (uniform("revenue"), events("seen"), NoEstimate.SOURCE),
        (uniform("revenue"), events("missing"), NoEstimate.SOURCE),
        (Query("events", ("events",), ("note",)), events(), NoEstimate.GROUPS),
        (Query("events", ("rare",)), events(), NoEstimate.TOO_THIN),
        (Query("events", ("events",), filter=Condition("kind", Operator.EQ, (77,))), events(), NoEstimate.TOO_THIN),
        (Query("events", ("balance",), filter=KIND), events(), NoEstimate.TOO_WIDE),  # or all of it costs as much
        (clustered("pieces", count=1), events(), NoEstimate.TOO_THIN),
    ],
)  # fmt: skip
async def test_what_cannot_be_told_is_refused(
    events_store: PgStore, query: Query, dataset: Dataset, reason: NoEstimate
) -> None:
    numbers = seeds()
    found = [await estimate(events_store, plan_of(query, dataset), numbers) for _ in range(2)]
    told = {each if isinstance(each, NoEstimate) else None for each in found}
    assert told <= ({reason, NoEstimate.EXACT_CHEAPER} if reason is NoEstimate.TOO_WIDE else {reason})
