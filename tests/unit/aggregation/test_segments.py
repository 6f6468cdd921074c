"""Segments: whatever is stored, at whatever grains, an answer from them is that of the raw rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from broker.aggregation import kernels, tasks
from broker.domain.plan import Plan, Scan, ScanResult
from broker.domain.query import AbsoluteRange, Grain, Query, TimeSelection
from broker.domain.rollup import Span, micros
from broker.domain.values import ResultFormat
from tests.unit.aggregation import questions, reference
from tests.unit.aggregation.facts import START, Fact, facts, plan
from tests.unit.aggregation.rolled import Layout, block, hybrid, kept, made, within
from tests.unit.aggregation.source import result

SEEDS = st.integers(0, 2**32).map(Random)
BASE = 15 * 60 * 1_000_000
WORLD = AbsoluteRange(START - timedelta(days=3), START + timedelta(days=8))
LAYOUTS = st.builds(
    Layout,
    st.sampled_from([Grain.DAY, Grain.WEEK, Grain.MONTH]),
    st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kathmandu"]),
    st.sampled_from(
        [
            (Grain.FIFTEEN_MINUTES,),
            (Grain.FIFTEEN_MINUTES, Grain.DAY),
            (Grain.FIFTEEN_MINUTES, Grain.HOUR, Grain.DAY, Grain.WEEK, Grain.MONTH),
        ]
    ),
)


@settings(max_examples=100, deadline=None)
@given(
    query=SEEDS.map(questions.query),
    rows=SEEDS.map(facts),
    layout=LAYOUTS,
    chance=SEEDS,
    csv=st.booleans(),
)
def test_any_query_from_files_and_live_rows_in_any_mixture(
    query: Query, rows: list[Fact], layout: Layout, chance: Random, csv: bool
) -> None:
    resolved = plan(query)
    with TemporaryDirectory() as directory:

        def answered(scan: Scan) -> ScanResult:
            stored, live = cut(scan, chance)
            files = [
                file
                for span in layout.partitions(scan.bounds or WORLD)
                if any(lo < span.hi and span.lo < hi for lo, hi in stored)
                for file in kept(made(rows, span, layout, csv=csv), span, layout, Path(directory))
            ]
            chance.shuffle(files)
            leaves = [leaf for leaf in resolved.finish.leaves if leaf.measure in scan.leaves]
            tail = result(leaves, scan, within(rows, live), csv=csv)
            tail = tail if live or chance.random() < 0.5 else ScanResult(())
            return hybrid(tail, block(files, stored, scan, leaves))

        results = tuple(map(answered, resolved.scans))
        found = kernels.answer(results, replace(resolved.finish, pushed_down=False)).rows()
    same(found, resolved, rows)


def cut(scan: Scan, chance: Random) -> tuple[list[Span], list[Span]]:
    """What files answer of a scan, and what is read live: spans of whole base buckets, in turns."""
    bounds = scan.bounds or WORLD
    lo, hi = micros(bounds.start), micros(bounds.end)
    count = (hi - lo) // BASE
    chosen = sorted(chance.sample(range(1, count), min(count - 1, chance.choice([0, 0, 1, 2, 5]))))
    ends = [lo, *(lo + position * BASE for position in chosen), hi]
    spans = [Span(*pair) for pair in pairwise(ends)]
    first = chance.choice([0, 0, 1])
    return spans[first::2], spans[1 - first :: 2]


def same(found: Sequence[Sequence[object]], resolved: Plan, rows: list[Fact]) -> None:
    expected = reference.answer(resolved, rows)
    assert len(found) == len(expected)
    for mine, theirs in zip(found, expected, strict=True):
        assert all(map(reference.same, mine, theirs)), (mine, theirs)


EXACT = (
    "rows", "names", "whole_sum", "exact_sum", "whole_min", "name_max", "real_max", "flag_min", "at_max",
    "whole_avg", "exact_avg", "name_first", "whole_last",
)  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(rows=SEEDS.map(facts), layout=LAYOUTS, time=st.booleans())
def test_an_answer_of_exact_measures_is_the_same_bytes(rows: list[Fact], layout: Layout, time: bool) -> None:
    selected = TimeSelection("at", Grain.DAY, layout.zone, questions.WEEKS) if time else None
    resolved = plan(Query("facts", EXACT, ("name", "flag"), selected))
    finish = replace(resolved.finish, pushed_down=False)
    scan, bounds = resolved.main, resolved.main.bounds or WORLD
    span = Span(micros(bounds.start), micros(bounds.end))
    live = result(finish.leaves, scan, within(rows, [span]))
    with TemporaryDirectory() as directory:
        files = [
            file
            for part in layout.partitions(bounds)
            for file in kept(made(rows, part, layout), part, layout, Path(directory))
        ]
        rolled = ScanResult((block(files, [span], scan, finish.leaves),))
        found = tasks.table((rolled,), finish, ResultFormat.COLUMNS)
        frame = kernels.answer((rolled,), finish)
    assert found == tasks.table((live,), finish, ResultFormat.COLUMNS)
    assert frame.equals(kernels.answer((live,), finish))
