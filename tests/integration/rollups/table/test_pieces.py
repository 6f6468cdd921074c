"""A scan of pieces reads what a filter by hand reads, in one statement that uses the index on time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from random import Random

import pytest

from broker.adapters.pg_snapshot import PgSnapshot
from broker.adapters.pg_store import PgStore
from broker.adapters.sql.compiler import SqlCompiler
from broker.domain.pool import PoolName
from broker.domain.query import AbsoluteRange, Grain
from broker.domain.rollup import ALWAYS, FAR_FUTURE, FAR_PAST, Span, micros
from broker.domain.timegrid import build
from tests.integration.rollups.table.sales import DAYS, END, START, dataset, finish, scan
from tests.integration.store.conftest import Row, in_time, rows_of
from tests.support.pg import Connection

SOURCE = dataset()
COLUMNS = {
    "at": "at",
    "wall": "wall AT TIME ZONE 'America/New_York'",
    "day": "day::timestamp AT TIME ZONE 'UTC'",
}
LOW, HIGH = micros(START), micros(END)
HALF_HOUR = 1_800_000_000


def random_spans(random: Random, count: int) -> tuple[Span, ...]:
    """Disjoint spans in order; the first and the last reach an end of time now and then."""
    ends = sorted(random.sample(range(DAYS * 48), 2 * count))
    found = [LOW + end * HALF_HOUR for end in ends]
    if random.random() < 0.3:
        found[0] = FAR_PAST
    if random.random() < 0.3:
        found[-1] = FAR_FUTURE
    return tuple(Span(*pair) for pair in zip(found[::2], found[1::2], strict=True))


async def by_hand(owner: Connection, time: str, spans: Sequence[Span], *, bounded: bool) -> list[Row]:
    """Counts and sums by item of the rows whose time lies in a span."""
    found: dict[object, list[int]] = {}
    text = f"SELECT item, size, (1000000 * extract(epoch FROM {COLUMNS[time]}))::bigint FROM sales"
    for item, size, at in await owner.fetch(text):
        if at is None:
            inside = not bounded and any(lo == FAR_PAST or hi == FAR_FUTURE for lo, hi in spans)
        else:
            inside = any(lo <= at < hi for lo, hi in spans) and (not bounded or LOW <= at < HIGH)
        if inside:
            group = found.setdefault(item, [0, 0, 0])
            group[0] += 1
            group[1] += size or 0
            group[2] += size is not None
    return [(item, count, total if some else None) for item, (count, total, some) in found.items()]


async def read(
    snapshot: PgSnapshot, time: str, spans: Sequence[Span], bounds: AbsoluteRange | None
) -> list[Row]:
    wanted = scan(SOURCE, time, measures=("count", "sizes"), dimensions=("item",), bounds=bounds)
    result = await snapshot.read_scan(replace(wanted, pieces=tuple(spans)), finish(wanted))
    return rows_of(result.grouped)


@pytest.mark.parametrize("time", COLUMNS)
async def test_pieces_are_what_a_filter_by_hand_keeps(store: PgStore, owner: Connection, time: str) -> None:
    random = Random(time)
    async with store.snapshot(PoolName.DASHBOARD, in_time()) as snapshot:
        for count in [1, 2, 3, 4, 5, 6, 7, 8, 11, 1, 2, 3]:
            spans = random_spans(random, count)
            for bounds in (None, AbsoluteRange(START, END)):
                found = await read(snapshot, time, spans, bounds)
                expected = await by_hand(owner, time, spans, bounded=bounds is not None)
                assert sorted(found, key=repr) == sorted(expected, key=repr), spans


async def test_all_of_time_is_no_restriction(store: PgStore, owner: Connection) -> None:
    async with store.snapshot(PoolName.DASHBOARD, in_time()) as snapshot:
        found = await read(snapshot, "at", (ALWAYS,), None)
    expected = await by_hand(owner, "at", (ALWAYS,), bounded=False)
    assert sorted(found, key=repr) == sorted(expected, key=repr)
    assert sum(row[1] for row in found if isinstance(row[1], int)) == 4_000


@pytest.mark.parametrize("spans", [(), (Span(LOW - 10, LOW),), (Span(LOW + 5, LOW + 5),)])
async def test_pieces_that_hold_nothing_need_no_statement(store: PgStore, spans: tuple[Span, ...]) -> None:
    bounds = AbsoluteRange(START, END)
    wanted = replace(scan(SOURCE, dimensions=("item",), bounds=bounds), pieces=spans)
    assert SqlCompiler().scan(wanted, finish(wanted)) is None
    async with store.snapshot(PoolName.DASHBOARD, in_time()) as snapshot:
        result = await snapshot.read_scan(wanted, finish(wanted))
    assert (result.grouped, dict(result.values)) == ((), {})


async def test_sketches_read_the_same_pieces(store: PgStore, owner: Connection) -> None:
    spans = random_spans(Random(1), 3)
    wanted = replace(scan(SOURCE, measures=("items",)), pieces=spans)
    async with store.snapshot(PoolName.DASHBOARD, in_time()) as snapshot:
        result = await snapshot.read_scan(wanted, finish(wanted))
    expected = [
        (item, count)
        for item, count, _ in await by_hand(owner, "at", spans, bounded=False)
        if item is not None
    ]
    assert sorted(rows_of(result.values["items"]), key=repr) == sorted(expected, key=repr)


async def test_buckets_of_pieces_are_positions_in_the_whole_grid(store: PgStore) -> None:
    bounds = AbsoluteRange(START, END)
    wanted = scan(SOURCE, measures=("count",), grid=build(bounds, Grain.DAY, "UTC"), bounds=bounds)
    day = 86_400_000_000
    spans = (Span(LOW + day, LOW + 2 * day), Span(LOW + 30 * day, LOW + 32 * day))
    async with store.snapshot(PoolName.DASHBOARD, in_time()) as snapshot:
        every = rows_of((await snapshot.read_scan(wanted, finish(wanted))).grouped)
        some = rows_of((await snapshot.read_scan(replace(wanted, pieces=spans), finish(wanted))).grouped)
    assert sorted(some) == sorted(row for row in every if row[0] in (1, 30, 31))


@pytest.mark.parametrize("time", ["at", "wall"])
async def test_pieces_use_the_index_on_time(store: PgStore, owner: Connection, time: str) -> None:
    spans = tuple(Span(LOW + i * 100 * HALF_HOUR, LOW + (i * 100 + 1) * HALF_HOUR) for i in range(5))
    wanted = replace(scan(SOURCE, time, measures=("count",)), pieces=spans)
    statements = SqlCompiler().scan(wanted, finish(wanted))
    assert statements is not None
    assert statements.grouped is not None
    await owner.execute("SET enable_seqscan = off; SET plan_cache_mode = force_custom_plan")
    text, values = statements.grouped.whole()
    plan = json.loads(await owner.fetchval(f"EXPLAIN (FORMAT JSON) {text}", *values))
    assert f"sales_{time}" in json.dumps(plan)


def test_numbers_of_pieces_share_statements() -> None:
    compiler, texts = SqlCompiler(), []
    for count in range(2, 9):
        spans = tuple(Span(LOW + 2 * i, LOW + 2 * i + 1) for i in range(count))
        wanted = replace(scan(SOURCE, measures=("count",)), pieces=spans)
        statements = compiler.scan(wanted, finish(wanted))
        assert statements is not None
        assert statements.grouped is not None
        texts.append(statements.grouped.whole()[0])
    assert [texts.index(text) for text in texts] == [0, 1, 1, 3, 3, 3, 3]
