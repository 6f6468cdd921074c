"""Everything that a model offers can really be asked: every measure, every dimension, every time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

import broker.demo
from broker.adapters.pg_catalog import open_catalog
from broker.adapters.pg_pool import PgPools
from broker.adapters.pg_store import PgStore
from broker.config.loader import load, load_text
from broker.config.propose import propose
from broker.domain.deadline import Deadline
from broker.domain.model import Dataset, Model
from broker.domain.plan import Plan
from broker.domain.pool import PoolLimits, PoolName
from broker.domain.principal import Principal
from broker.domain.query import AbsoluteRange, Grain, Query, TimeSelection
from broker.policy.fanout import fan_out_violation
from broker.policy.resolve import resolve_query
from broker.runtime.clock import SystemClock

FLIGHTS = Path(broker.demo.__file__).with_name("flights.yaml")
NOW = datetime(2024, 7, 1, tzinfo=UTC)
YEARS = AbsoluteRange(datetime(2013, 1, 1, tzinfo=UTC), NOW)


def _plans(dataset: Dataset) -> Iterator[Plan]:
    """One question for each measure by day, and one for each dimension with the measures that go with it."""

    def plan(query: Query) -> Plan:
        return resolve_query(query, dataset, Principal("test", "test"), NOW)

    time = TimeSelection(grain=Grain.MONTH, range=YEARS) if dataset.default_time else None
    for measure in dataset.measures:
        yield plan(Query(dataset.name, measures=(measure,), time=time))
    for dimension in dataset.dimensions.values():
        fitting = [m for m in dataset.measures if not fan_out_violation(dataset, [dimension.name], [m])]
        yield plan(Query(dataset.name, measures=tuple(fitting[:3]), dimensions=(dimension.name,)))
        if dimension.time:
            times = TimeSelection(dimension.name, grain=Grain.MONTH, range=YEARS)
            yield plan(Query(dataset.name, measures=tuple(fitting[:1]), time=times))


async def _ask_everything(model: Model, dsn: str) -> int:
    clock = SystemClock()
    pools = await PgPools.open(dsn, {PoolName.DASHBOARD: PoolLimits(1, 1, connections=1, workers=1)})
    asked = 0
    try:
        store = PgStore(pools, clock)
        async with store.snapshot(PoolName.DASHBOARD, Deadline.after(120, clock.monotonic())) as snapshot:
            for dataset in model.datasets.values():
                for plan in _plans(dataset):
                    (result,) = await snapshot.read(plan)
                    assert result.grouped or result.values
                    asked += 1
    finally:
        await pools.aclose()
    return asked


async def test_the_model_of_the_demonstration(flights_dsn: str) -> None:
    model = load(FLIGHTS, {}, database_needed=False).model
    assert await _ask_everything(model, flights_dsn) > 80


@pytest.mark.parametrize(("database", "questions"), [("shop_dsn", 60), ("flights_dsn", 80)])
async def test_a_proposed_model(database: str, questions: int, request: pytest.FixtureRequest) -> None:
    dsn = request.getfixturevalue(database)
    async with open_catalog(dsn) as catalog:
        text = propose(await catalog.catalog())
    model = load_text(text, {}, database_needed=False).model
    assert await _ask_everything(model, dsn) > questions
