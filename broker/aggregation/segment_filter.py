"""Filters over stored dimensions, by the numbers of their values: every condition is tried once per value.

Truth is a number, 0 for false, 1 for unknown, 2 for true, so that AND is the least, OR the greatest, and NOT what is
left of 2: the three-valued logic of SQL. What a condition means is said in :mod:`broker.aggregation.having` and, for
few values, by its twin in plain Python.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce

import numpy as np
import numpy.typing as npt
import polars as pl

from broker.aggregation.having import predicate
from broker.aggregation.measures import value_name
from broker.aggregation.segment_file import Positions
from broker.aggregation.segment_shelf import Codes, Lexicon
from broker.aggregation.three_valued import compile_filter
from broker.domain.model import Dimension
from broker.domain.query import AllOf, AnyOf, Condition, Filter, Not
from broker.domain.values import Column

Truth = npt.NDArray[np.uint8]
Test = Callable[[Mapping[str, Codes], int], Truth]
"""The truth of every row, from their numbers by dimension and how many there are."""
_FEW = 512
"""So many values are tried in plain Python before an engine would have begun."""
_NUMBERS = {False: 0, None: 1, True: 2}
_FALSE, _TRUE = np.uint8(0), np.uint8(2)


def compiled(node: Filter, stored: Mapping[str, Dimension], lexicons: Mapping[str, Lexicon]) -> Test:
    """A test of rows by the numbers of their values; lexicons must not grow before it is used."""
    match node:
        case Condition():
            name, table = node.member, _by_value(node, stored[node.member], lexicons[node.member])
            return lambda codes, _: table.take(codes[name])
        case Not(child):
            inner = compiled(child, stored, lexicons)
            return lambda codes, count: _TRUE - inner(codes, count)
        case AllOf(children) | AnyOf(children):
            tests = [compiled(child, stored, lexicons) for child in children]
            combine, start = (np.minimum, _TRUE) if isinstance(node, AllOf) else (np.maximum, _FALSE)

            def combined(codes: Mapping[str, Codes], count: int) -> Truth:
                truths = [test(codes, count) for test in tests]
                return reduce(combine, truths) if truths else np.full(count, start)

            return combined


def passing(test: Test, codes: Mapping[str, Codes], count: int) -> Positions:
    """Which of ``count`` rows pass: their positions."""
    return np.flatnonzero(test(codes, count) == _TRUE)


def _by_value(condition: Condition, dimension: Dimension, lexicon: Lexicon) -> Truth:
    if len(lexicon) <= _FEW:
        test = compile_filter(condition, {dimension.name: lexicon.listed})
        return np.array([_NUMBERS[test(i)] for i in range(len(lexicon))], np.uint8)
    values = lexicon.values.alias(value_name(dimension.name))
    column = Column(dimension.name, dimension.type, scale=dimension.scale)
    held = values.to_frame().select(predicate(condition, {dimension.name: column}).alias("!"))
    unknown_is_one = pl.when(pl.col("!")).then(2).when(~pl.col("!")).then(0).otherwise(1).cast(pl.UInt8)
    return held.select(unknown_is_one).to_series().to_numpy()
