"""Which buckets answer: every one once, the coarsest that fit, and never fewer than were asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.aggregation.segment_file import Buckets, Positions
from broker.aggregation.segment_pick import pick
from broker.aggregation.segment_shelf import OpenFile
from broker.domain.errors import BrokerError
from broker.domain.plan import LocalFile
from broker.domain.query import Grain
from broker.domain.rollup import Span


class Held:
    """A stand-in for an open file: buckets with as many rows as they are hours long."""

    def __init__(self, edges: Sequence[int]) -> None:
        ends = np.array(edges, np.int64)
        rows = np.append(0, np.cumsum(np.diff(ends))) if len(ends) else np.zeros(1, np.int64)
        self.buckets = Buckets(ends[:-1], ends[1:], rows)


edges_of = st.lists(st.integers(0, 48), min_size=2, max_size=20, unique=True).map(sorted)


@settings(max_examples=500, deadline=None)
@given(
    partitions=st.lists(st.integers(1, 47), max_size=4, unique=True).map(sorted),
    coarse=st.lists(st.sets(st.integers(0, 48)), max_size=3),
    cuts=st.sets(st.integers(0, 48)),
    grid=st.sets(st.integers(1, 47)),
)
def test_every_hour_is_taken_once_in_the_coarsest_bucket_that_fits(
    partitions: list[int], coarse: list[set[int]], cuts: set[int], grid: set[int]
) -> None:
    grains = [Grain.HOUR, Grain.DAY, Grain.WEEK, Grain.MONTH]
    held: dict[str, Any] = {}
    files = []
    for lo, hi in pairwise([0, *partitions, 48]):
        levels = [range(lo, hi + 1), *(sorted(e for e in edges if lo <= e <= hi) for edges in coarse)]
        for grain, edges in zip(grains, levels, strict=False):
            path = f"{lo}.{grain}"
            held[path] = Held(list(edges))
            files.append(LocalFile(path, grain, "UTC", Span(lo, hi)))
    spans = [Span(*pair) for pair in pairwise(sorted(cuts))][::2]
    starts = np.array(sorted({0, *grid}), np.int64)
    opened: list[str] = []

    def open_file(file: LocalFile) -> OpenFile:
        opened.append(file.path)
        found: OpenFile = held[file.path]
        return found

    picked = pick(files, spans, starts, open_file)
    taken = [
        (int(at.buckets.starts[i]), int(at.buckets.ends[i]), int(position))
        for number, first, last, position in zip(
            picked.file, picked.first, picked.last, picked.position, strict=True
        )
        for at in [picked.files[number]]
        for i in range(*np.searchsorted(at.buckets.rows, [first, last]).tolist())
    ]
    free = {hour for lo, hi in spans for hour in range(lo, hi)}
    expected = []
    for grain in reversed(grains):
        for file in files:
            edges = held[file.path].buckets
            for lo, hi in zip(edges.starts.tolist(), edges.ends.tolist(), strict=True):
                within = any(x <= lo and hi <= y for x, y in spans)
                if (
                    file.grain is grain
                    and within
                    and free >= set(range(lo, hi))
                    and not set(range(lo + 1, hi)) & grid
                ):
                    free -= set(range(lo, hi))
                    expected.append((lo, hi, sum(start <= lo for start in grid)))
    assert not free
    assert taken == sorted(expected)
    assert set(picked.file.tolist()) == set(range(len(picked.files)))
    assert len(opened) == len(set(opened))


def test_spans_that_no_file_holds_are_refused() -> None:
    file = LocalFile("x", Grain.HOUR, "UTC", Span(0, 4))
    held: Any = Held([0, 1, 2, 3, 4])
    gap: Any = Held([0, 1, 3, 4])
    none: Positions = np.empty(0, np.int64)
    with pytest.raises(ValueError, match="beyond the files"):
        pick([file], [Span(0, 5)], none, lambda _: held)
    with pytest.raises(ValueError, match="overlap"):
        pick([file], [Span(0, 3), Span(2, 4)], none, lambda _: held)
    with pytest.raises(ValueError, match="before the grid"):
        pick([file], [Span(0, 4)], np.array([1]), lambda _: held)
    late: Any = Held([6, 7, 8])
    both = [file, replace(file, span=Span(6, 8))]
    with pytest.raises(ValueError, match="no file holds"):
        pick(both, [Span(0, 7)], none, lambda f: late if f.span.lo else held)
    with pytest.raises(ValueError, match="grain overlap"):
        pick([file, replace(file, path="y")], [Span(0, 4)], none, lambda _: held)
    with pytest.raises(BrokerError, match="buckets are missing") as raised:
        pick([file], [Span(0, 2)], none, lambda _: gap)
    assert raised.value.metadata["segment"] == "x"
