"""Segments through real workers: built in one, read in another, compared, and told apart from damaged ones."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from random import Random

import pytest

from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.plan import LocalFile, ScanResult
from broker.domain.query import AbsoluteRange, Grain, Query
from broker.domain.rollup import Span
from broker.domain.segment import SegmentBuild
from broker.domain.timegrid import build
from broker.domain.values import ResultFormat
from tests.integration.workers.conftest import POOL, Crew
from tests.unit.aggregation.facts import START, facts, plan
from tests.unit.aggregation.rolled import LEAVES, STORED, Layout, at, block, kept, scanned, within
from tests.unit.aggregation.source import result

MONTH = Layout(Grain.MONTH, "UTC", (Grain.FIFTEEN_MINUTES, Grain.DAY, Grain.MONTH))
RESOLVED = plan(Query("facts", ("rows", "real_sum", "name_distinct", "real_median"), ("name",)))
FINISH = replace(RESOLVED.finish, pushed_down=False)


def wanted(span: Span, base: bytes = b"", replaced: tuple[Span, ...] = ()) -> SegmentBuild:
    grid = build(AbsoluteRange(at(span.lo), at(span.hi)), Grain.FIFTEEN_MINUTES, "UTC")
    return SegmentBuild(span, grid, STORED, LEAVES, MONTH.grains, "UTC", base, replaced)


async def test_a_partition_is_built_refreshed_read_and_compared(crew: Crew, tmp_path: Path) -> None:
    (span,) = MONTH.partitions(AbsoluteRange(START, START + timedelta(seconds=1)))
    rows = within(facts(Random(5)), [span])
    assert rows
    first = await crew.pools.segment(POOL, scanned(rows[1:], wanted(span)), wanted(span), crew.deadline(60))
    refreshed = wanted(span, first.data[0], (span,))
    built = await crew.pools.segment(POOL, scanned(rows, refreshed), refreshed, crew.deadline(60))
    assert [file.grain for file in built.files] == list(MONTH.grains)
    assert [file.byte_count for file in built.files] == [len(data) for data in built.data]
    rolled = (ScanResult((block(kept(built, span, MONTH, tmp_path), [span], RESOLVED.main, FINISH.leaves),)),)
    live = (result(FINISH.leaves, RESOLVED.main, rows),)
    stale = (result(FINISH.leaves, RESOLVED.main, rows[1:]),)
    same = await crew.pools.compare(POOL, live, rolled, FINISH, crew.deadline(60))
    assert (same.rows, same.differing) == (len({fact.name for fact in rows}), 0)
    assert (await crew.pools.compare(POOL, stale, rolled, FINISH, crew.deadline(60))).differing == 1
    tables = [
        await crew.pools.table(POOL, results, FINISH, ResultFormat.COLUMNS, crew.deadline(60))
        for results in (live, rolled)
    ]
    assert tables[0] == tables[1]


async def test_a_damaged_file_is_named(crew: Crew, tmp_path: Path) -> None:
    (span,) = MONTH.partitions(AbsoluteRange(START, START + timedelta(seconds=1)))
    built = await crew.pools.segment(POOL, scanned([], wanted(span)), wanted(span), crew.deadline(60))
    files = kept(built, span, MONTH, tmp_path)
    damage(files[-1], built.data[0])
    rolled = (ScanResult((block(files, [span], RESOLVED.main, FINISH.leaves),)),)
    with pytest.raises(BrokerError) as raised:
        await crew.pools.table(POOL, rolled, FINISH, ResultFormat.COLUMNS, crew.deadline(60))
    assert raised.value.reason is ErrorReason.STORE_REJECTED
    assert raised.value.metadata["segment"] == files[-1].path


def damage(file: LocalFile, data: bytes) -> None:
    Path(file.path).write_bytes(data)
