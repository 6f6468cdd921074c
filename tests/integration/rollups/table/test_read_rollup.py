"""A rollup that is a table or view gives the states that its source gives."""

from __future__ import annotations

import math
from dataclasses import replace
from random import Random

import pytest

from broker.adapters.pg_store import PgStore
from broker.domain.model import Dataset
from broker.domain.plan import Block, Scan
from broker.domain.pool import PoolName
from broker.domain.principal import Principal
from broker.domain.query import AbsoluteRange, AllOf, Condition, Filter, Grain, Not, Operator
from broker.domain.rollup import ALWAYS, Rollup, Span, micros
from broker.domain.timegrid import build
from tests.integration.rollups.table import sales
from tests.integration.rollups.table.sales import END, START, dataset, finish, scan
from tests.integration.store.conftest import Row, in_time, rows_of
from tests.support.pg import Connection

SOURCE = dataset()
DECLARED = {
    "quarters of hours": sales.rollup(),
    "days of a zone": sales.rollup("wall", Grain.DAY, "America/New_York"),
    "days of dates": sales.rollup("day", Grain.DAY),
}
CARRIED: Filter = AllOf(
    (Condition("city", Operator.NE, ("Aachen",)), Not(Condition("size", Operator.IN, (3,))))
)
QUESTIONS: tuple[tuple[tuple[str, ...], Grain | None, Filter | None], ...] = (
    ((), None, None),
    (("city", "gift"), None, None),
    (("unit",), Grain.WEEK, None),
    ((), Grain.DAY, CARRIED),
    (("tenant", "size"), Grain.DAY, Condition("item", Operator.STARTS_WITH, ("Ä",))),
    (("item",), None, Condition("item", Operator.LT, ("z",))),
    ((), None, Condition("city", Operator.EQ, ("nowhere",))),
)


def alike(left: object, right: object) -> bool:
    """Equal; doubles up to the order in which they were added."""
    if isinstance(left, float) and isinstance(right, float):
        return math.isclose(left, right, rel_tol=1e-9, abs_tol=1e-9)
    return left == right and type(left) is type(right)


def same(found: list[Row], expected: list[Row], keys: int) -> bool:
    """Whether the rows are alike, in any order."""
    left, right = ({repr(row[:keys]): row for row in rows} for rows in (found, expected))
    assert (len(left), len(right)) == (len(found), len(expected)), "one row per key"
    return left.keys() == right.keys() and all(
        alike(a, b) for key, row in left.items() for a, b in zip(row, right[key], strict=True)
    )


def names(blocks: tuple[Block, ...]) -> list[object]:
    return [block.columns for block in blocks]


async def stored(store: PgStore, owner: Connection, declared: Rollup, form: str) -> tuple[Dataset, Rollup]:
    """Makes the rollup's table, and a view of it by other names."""
    wanted = sales.whole(SOURCE, declared)
    async with store.snapshot(PoolName.DASHBOARD, in_time()) as snapshot:
        await sales.store(owner, SOURCE, declared, await snapshot.read_scan(wanted, finish(wanted)))
    return SOURCE, await sales.disguise(owner, SOURCE, declared) if form == "external" else declared


def question(declared: Rollup, number: int) -> Scan:
    dimensions, grain, where = QUESTIONS[number]
    bounds = AbsoluteRange(START, END)
    grid = None if grain is None else build(bounds, grain, declared.zone)
    return replace(scan(SOURCE, declared.time, dimensions=dimensions, grid=grid, bounds=bounds), filter=where)


def spans(declared: Rollup, random: Random) -> tuple[Span, ...]:
    """Some spans made of whole buckets."""
    starts = [micros(at) for at in build(AbsoluteRange(START, END), declared.base, declared.zone).starts]
    ends = sorted(random.sample(starts, 2 * random.choice([1, 2, 3, 5])))
    return tuple(Span(lo, hi) for lo, hi in zip(ends[::2], ends[1::2], strict=True))


@pytest.mark.parametrize("form", ["managed", "external"])
@pytest.mark.parametrize("which", DECLARED)
async def test_a_rollup_gives_what_its_source_gives(
    store: PgStore, owner: Connection, which: str, form: str
) -> None:
    _, declared = await stored(store, owner, DECLARED[which], form)
    random = Random(which)
    async with store.snapshot(PoolName.DASHBOARD, in_time()) as snapshot:
        for number in range(len(QUESTIONS)):
            wanted, pieces = question(declared, number), spans(declared, random)
            expected = await snapshot.read_scan(replace(wanted, pieces=pieces), finish(wanted))
            found = await snapshot.read_rollup(wanted, finish(wanted), declared, pieces)
            again = await snapshot.read_rollup(wanted, finish(wanted), declared, pieces)
            assert names(found.grouped[:1]) in (names(expected.grouped[:1]), [])
            keys = len(wanted.dimensions) + (wanted.grid is not None)
            assert same(rows_of(found.grouped), rows_of(expected.grouped), keys), number
            assert same(rows_of(again.grouped), rows_of(expected.grouped), keys), number


async def test_row_policies_apply_to_stored_dimensions(store: PgStore, owner: Connection) -> None:
    _, declared = await stored(store, owner, DECLARED["quarters of hours"], "managed")
    wanted = replace(
        scan(SOURCE, dimensions=("tenant",), measures=("count",), bounds=AbsoluteRange(START, END)),
        policies=SOURCE.row_policies,
        principal=Principal("ada", "acme"),
    )
    async with store.snapshot(PoolName.DASHBOARD, in_time()) as snapshot:
        expected = await snapshot.read_scan(wanted, finish(wanted))
        found = await snapshot.read_rollup(wanted, finish(wanted), declared, (ALWAYS,))
    assert rows_of(found.grouped) == rows_of(expected.grouped)
    assert [row[0] for row in rows_of(found.grouped)] == ["acme"]


async def test_variances_of_large_close_means_keep_their_digits(store: PgStore, owner: Connection) -> None:
    """Means near 1e9 that differ by less than one: sums of squares in doubles would have no digit right."""
    _, declared = await stored(store, owner, DECLARED["quarters of hours"], "managed")
    wanted = scan(SOURCE, measures=("deviation",), bounds=AbsoluteRange(START, END))
    async with store.snapshot(PoolName.DASHBOARD, in_time()) as snapshot:
        ((count, mean, squares),) = rows_of(
            (await snapshot.read_rollup(wanted, finish(wanted), declared, (ALWAYS,))).grouped
        )
    exact = await owner.fetchrow(
        "SELECT count(size), (1e9 + avg(size))::float8, (var_pop(size) * count(size))::float8 "
        "FROM sales WHERE at IS NOT NULL"
    )
    assert exact is not None
    assert (count, mean) == (exact[0], pytest.approx(exact[1], rel=1e-15))
    assert squares == pytest.approx(exact[2], rel=1e-12)
