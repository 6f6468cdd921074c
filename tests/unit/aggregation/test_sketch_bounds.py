"""Sketches lie within their stated bounds at the stated confidence, however they came about.

Every group is one trial: a distinct count and a percentile of a set of values of its own, over four orders of
magnitude, taken as it would be for an answer: from live values, from files merged ahead, and from both.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from broker.aggregation import gather, segment_write, states
from broker.domain.measures import HLL_RELATIVE_ERROR, KLL_RANK_ERROR
from broker.domain.measures import states as states_of
from broker.domain.model import Dimension, Measure, MeasureKind
from broker.domain.plan import BUCKET, CsvBlock, Leaf, LocalFile, ScanResult, SegmentBlock, key_name
from broker.domain.query import AbsoluteRange, Grain
from broker.domain.rollup import Span, micros
from broker.domain.segment import SegmentBuild
from broker.domain.timegrid import build
from broker.domain.values import Column, DataType
from tests.unit.aggregation.facts import START

SIZES = (20, 200, 1_000, 5_000, 20_000)
GROUPS = 75
PIECES = 8
QUARTER = 900_000_000
DAY = Span(micros(START), micros(START + timedelta(days=1)))
TRIAL = Dimension("trial", "trial", DataType.INT64, ())
LEAVES = tuple(
    Leaf(measure, states_of(measure))
    for measure in (
        Measure("distinct", MeasureKind.APPROX_DISTINCT, "x", DataType.INT64),
        Measure("low", MeasureKind.APPROX_PERCENTILE, "x", DataType.INT64, percentile=0.1),
        Measure("middle", MeasureKind.APPROX_PERCENTILE, "x", DataType.INT64, percentile=0.5),
        Measure("high", MeasureKind.APPROX_PERCENTILE, "x", DataType.INT64, percentile=0.95),
    )
)
KEYS = [(key_name(0), DataType.INT64, 0)]


def world(seed: int) -> pl.DataFrame:
    """Values by trial and quarter of an hour; about a third of them repeat others, also in other quarters."""
    chance = np.random.default_rng(seed)
    sizes = np.repeat(SIZES, GROUPS)
    trial = np.repeat(np.arange(len(sizes)), sizes)
    skewed = chance.integers(0, np.repeat(sizes, sizes)) ** 2
    return pl.DataFrame(
        {BUCKET: chance.integers(0, PIECES, len(trial)), key_name(0): trial, "value": trial * 10**10 + skewed}
    )


def scanned(rows: pl.DataFrame, keys: list[str]) -> ScanResult:
    """Live values, counted by the database."""
    counted = rows.group_by([*keys, "value"]).agg(pl.len().cast(pl.Int64).alias("weight"))
    columns = tuple(Column(name, DataType.INT64) for name in counted.columns)
    blocks = (CsvBlock(columns, counted.write_csv(include_header=False).encode()),)
    groups = rows.select(keys).unique()
    grouped = CsvBlock(columns[: len(keys)], groups.write_csv(include_header=False).encode())
    return ScanResult((grouped,), {leaf.measure.name: blocks for leaf in LEAVES})


def stored(rows: pl.DataFrame, directory: Path, pieces: int) -> SegmentBlock:
    """The first pieces from files: whole hours merged ahead, the rest from base buckets."""
    grid = build(AbsoluteRange(START, START + timedelta(days=1)), Grain.FIFTEEN_MINUTES, "UTC")
    wanted = SegmentBuild(DAY, grid, (TRIAL,), LEAVES, (Grain.FIFTEEN_MINUTES, Grain.HOUR))
    made = segment_write.build(scanned(rows, [BUCKET, key_name(0)]), wanted)
    files = []
    for file, data in zip(made.files, made.data, strict=True):
        path = directory / f"{file.grain}.arrow"
        path.write_bytes(data)
        files.append(LocalFile(str(path), file.grain, "UTC", DAY, file.sha256))
    span = Span(DAY.lo, DAY.lo + pieces * QUARTER)
    return SegmentBlock(tuple(files), (span,), (TRIAL,), ("trial",), LEAVES, ())


@pytest.mark.parametrize("pieces", [0, 6, 8], ids=["live", "files and live", "files"])
def test_estimates_lie_within_their_bounds_at_the_stated_confidence(tmp_path: Path, pieces: int) -> None:
    rows = world(pieces)
    live = scanned(rows.filter(pl.col(BUCKET) >= pieces), [key_name(0)])
    if pieces == PIECES:
        live = ScanResult(())
    if pieces:
        live = replace(live, grouped=(*live.grouped, stored(rows, tmp_path, pieces)))
    merged = gather.merged(live, KEYS, LEAVES)
    found = states.finish(merged, [key_name(0)], LEAVES, []).sort(key_name(0))
    values = [group.to_numpy() for group in rows.sort(key_name(0), "value").partition_by(key_name(0))]
    held = [group[:, 2] for group in values]
    assert found.height == len(held) == len(SIZES) * GROUPS
    counts = found.get_column("=distinct").to_numpy()
    truth = np.array([len(np.unique(group)) for group in held])
    assert np.mean(np.abs(counts - truth) <= HLL_RELATIVE_ERROR * truth + 0.5) >= 0.955
    errors = []
    for leaf in LEAVES[1:]:
        estimates = found.get_column(f"={leaf.measure.name}").to_numpy()
        rank = leaf.measure.percentile
        for group, estimate in zip(held, estimates, strict=True):
            below, up_to = np.searchsorted(group, [estimate, estimate + 0.5]) / len(group)
            errors.append(max(0.0, below - rank, rank - up_to))
    # 99 %, less what so many trials may miss it by: where a sketch halves is drawn from the system's random numbers.
    assert np.mean(np.array(errors) <= KLL_RANK_ERROR) >= 0.975
    assert max(errors) <= 3 * KLL_RANK_ERROR
