"""Filters over stored dimensions, by the numbers of their values: every condition is tried once per value.

Truth is a number, 0 for false, 1 for unknown, 2 for true, so that AND is the least, OR the greatest, and NOT what is
left of 2: the three-valued logic of SQL. What a condition means is said in :mod:`broker.aggregation.having`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce

import numpy as np
import numpy.typing as npt
import polars as pl

from broker.aggregation.having import predicate
from broker.aggregation.measures import value_name
from broker.aggregation.segment_file import Mask
from broker.aggregation.segment_shelf import Codes, Lexicon
from broker.domain.model import Dimension
from broker.domain.query import AllOf, AnyOf, Condition, Filter, Not
from broker.domain.values import Column

Truth = npt.NDArray[np.uint8]
_TRUE = np.uint8(2)


def passing(
    node: Filter,
    stored: Mapping[str, Dimension],
    lexicons: Mapping[str, Lexicon],
    codes: Mapping[str, Codes],
    count: int,
) -> Mask:
    """Which of ``count`` rows pass; ``codes`` are their numbers by dimension."""

    def truth(node: Filter) -> Truth:
        match node:
            case Condition():
                name = node.member
                return _by_value(node, stored[name], lexicons[name]).take(codes[name])
            case Not(child):
                return _TRUE - truth(child)
            case AllOf(children):
                return reduce(np.minimum, map(truth, children), np.full(count, 2, np.uint8))
            case AnyOf(children):
                return reduce(np.maximum, map(truth, children), np.zeros(count, np.uint8))

    found: Mask = truth(node) == _TRUE
    return found


def _by_value(condition: Condition, dimension: Dimension, lexicon: Lexicon) -> Truth:
    values = lexicon.values.alias(value_name(dimension.name))
    column = Column(dimension.name, dimension.type, scale=dimension.scale)
    held = values.to_frame().select(predicate(condition, {dimension.name: column}).alias("!"))
    unknown_is_one = pl.when(pl.col("!")).then(2).when(~pl.col("!")).then(0).otherwise(1).cast(pl.UInt8)
    return held.select(unknown_is_one).to_series().to_numpy()
