"""Sketches by group: built from the distinct values that the database counted, united, and estimated.

Apache DataSketches in its portable serialized form: HLL with 4 bits and lgK 12, KLL of doubles with K 200. A
sketch is a byte string in a Binary column; null is the empty sketch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl
from datasketches import hll_sketch, hll_union, kll_doubles_sketch, tgt_hll_type

from broker.domain.measures import HLL_LG_K, KLL_K
from broker.domain.model import MeasureKind
from broker.domain.plan import Leaf, state_name
from broker.domain.values import DataType

Numbers = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

VALUE, WEIGHT = "value", "weight"
_REPEAT_AT_ONCE = 1 << 20


def build(values: pl.DataFrame, keys: Sequence[str], leaf: Leaf) -> pl.DataFrame:
    """One row per key with the sketch of its values, from rows of (keys, value, weight)."""
    column = state_name(leaf.measure.name, "sketch")
    if leaf.measure.kind is MeasureKind.APPROX_DISTINCT:
        values = values.with_columns(_hashable(pl.col(VALUE), leaf.measure.type, leaf.measure.scale))
        groups = _grouped(values, keys, [VALUE])
        sketches = [_distinct(group) for group in groups.get_column(VALUE)]
    else:
        values = values.with_columns(pl.col(VALUE).cast(pl.Float64))
        groups = _grouped(values, keys, [VALUE, WEIGHT])
        pairs = zip(groups.get_column(VALUE), groups.get_column(WEIGHT), strict=True)
        sketches = [_percentile(group.to_numpy(), weights.to_numpy()) for group, weights in pairs]
    return pl.DataFrame([*groups.select(keys).get_columns(), pl.Series(column, sketches, pl.Binary())])


def unite(groups: pl.Series, kind: MeasureKind) -> pl.Series:
    """One sketch per list of sketches; null for an empty list."""
    merged = _unite_distinct if kind is MeasureKind.APPROX_DISTINCT else _unite_percentile
    united = [
        None if not group else group[0] if len(group) == 1 else merged(group) for group in groups.to_list()
    ]
    return pl.Series(groups.name, united, pl.Binary())


def estimate(sketches: pl.Series, leaf: Leaf) -> pl.Series:
    """The estimates: a whole number of distinct values, or the least value whose rank reaches the percentile."""
    if leaf.measure.kind is MeasureKind.APPROX_DISTINCT:
        counts = [0 if s is None else round(hll_sketch.deserialize(s).get_estimate()) for s in sketches]
        return pl.Series(sketches.name, counts, pl.Int64())
    quantiles = [None if s is None else _quantile(s, leaf.measure.percentile) for s in sketches]
    return pl.Series(sketches.name, quantiles, pl.Float64())


def _quantile(serialized: bytes, rank: float) -> float | None:
    sketch = kll_doubles_sketch.deserialize(serialized)
    return (
        None if sketch.is_empty() else float(sketch.get_quantile(rank, inclusive=True))
    )  # empty after NaN alone


def _grouped(values: pl.DataFrame, keys: Sequence[str], wanted: Sequence[str]) -> pl.DataFrame:
    if keys:
        return values.group_by(keys, maintain_order=True).agg(wanted)
    return values.select(pl.col(wanted).implode()) if values.height else values.clear().select(wanted)


def _hashable(value: pl.Expr, kind: DataType, scale: int) -> pl.Expr:
    """Values in the form that is hashed, which must never change: stored sketches would count the same value twice.

    Decimals are text without trailing zeros. The library skips empty strings, so they become the one string that
    PostgreSQL cannot store.
    """
    match kind:
        case DataType.DECIMAL if scale > 0:
            return value.cast(pl.String).str.strip_chars_end("0").str.strip_chars_end(".")
        case DataType.DECIMAL:
            return value.cast(pl.String)
        case DataType.BOOL:
            return value.cast(pl.Int64)
        case DataType.STRING:
            return value.replace("", "\0")
        case _:
            return value


def _distinct(values: pl.Series) -> bytes:
    sketch = hll_sketch(HLL_LG_K, tgt_hll_type.HLL_4)
    for value in values.to_list():
        sketch.update(value)
    return bytes(sketch.serialize_compact())


def _percentile(values: Numbers, weights: Counts) -> bytes:
    """A sketch of every value as often as it was counted; NaN has no rank and is left out."""
    sketch = kll_doubles_sketch(KLL_K)
    while (heavy := weights > _REPEAT_AT_ONCE).any():
        for value in values[heavy]:
            sketch.update(np.full(_REPEAT_AT_ONCE, value))
        weights = weights - heavy * _REPEAT_AT_ONCE
    ends = np.cumsum(weights)
    start = 0
    while start < len(values):
        done = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + _REPEAT_AT_ONCE, side="right")))
        sketch.update(np.repeat(values[start:stop], weights[start:stop]))
        start = stop
    return bytes(sketch.serialize())


def _unite_distinct(group: Sequence[bytes]) -> bytes:
    union = hll_union(HLL_LG_K)
    for sketch in group:
        union.update(hll_sketch.deserialize(sketch))
    return bytes(union.get_result(tgt_hll_type.HLL_4).serialize_compact())


def _unite_percentile(group: Sequence[bytes]) -> bytes:
    merged = kll_doubles_sketch.deserialize(group[0])
    for sketch in group[1:]:
        merged.merge(kll_doubles_sketch.deserialize(sketch))
    return bytes(merged.serialize())
