"""Adds up the rows of a kept sample by group and block, as the database does for one that it draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from operator import mul
from pathlib import Path

import polars as pl

from broker.aggregation import held
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.plan import BUCKET, HeldBlock
from broker.domain.sample import BlockSums, Figure, GroupSums, KeptRows, exponents


def block_sums(kept: KeptRows, block: HeldBlock, figures: Sequence[Figure], most: int) -> BlockSums | None:
    """The sums of a sample, or None for more than so many groups. The block's last key is the number of the block.

    Raises:
        BrokerError: STORE_UNAVAILABLE when the file is gone.
    """
    try:
        data = Path(kept.path).read_bytes()
    except OSError as error:
        text = "The sample that was kept cannot be read any more. Ask again when the database is back."
        raise BrokerError(ErrorReason.STORE_UNAVAILABLE, text) from error
    rows = held.read(replace(block, data=data))
    keys = [*([BUCKET] if block.starts else []), *(key for _, key in block.keys)]
    wanted = {name: f"v{i}" for i, name in enumerate(dict.fromkeys(c for f in figures for c in f.columns))}
    totals = [pl.col(name).cast(pl.Float64).sum().alias(alias) for name, alias in wanted.items()]
    cells = rows.group_by(keys).agg(totals)
    sums = [pl.len().alias("blocks"), *(e for i, f in enumerate(figures) for e in _sums(i, f, wanted))]
    groups = cells.group_by(keys[:-1], maintain_order=True).agg(sums) if keys[:-1] else cells.select(sums)
    if groups.height > most:
        return None
    found = tuple(GroupSums.of(row, len(keys) - 1, figures) for row in groups.rows())
    return BlockSums(kept.blocks, kept.drawn, found)


def _sums(place: int, figure: Figure, columns: dict[str, str]) -> list[pl.Expr]:
    above = pl.col(columns[figure.above])
    below = pl.col(columns[figure.below]) if figure.below else above
    found = [
        reduce(mul, [above] * a + [below] * b).sum().alias(f"{place}.{a}.{b}") for a, b in exponents(figure)
    ]
    seen = [(pl.col(columns[name]) != 0).sum().alias(f"{place}.{name}") for name in figure.columns]
    return [*found, *seen]
