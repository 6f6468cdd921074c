"""Filters over stored values mean what SQL means by them."""

from __future__ import annotations

from decimal import Decimal
from random import Random
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.aggregation import frames, segment_filter
from broker.aggregation.segment_shelf import Lexicon
from broker.domain.model import Dimension
from broker.domain.query import Condition, Not, Operator
from broker.domain.values import DataType
from tests.unit.aggregation import reference
from tests.unit.aggregation.facts import rank
from tests.unit.aggregation.questions import VALUES

KINDS = [DataType.STRING, DataType.BOOL, DataType.INT64, DataType.DOUBLE, DataType.DECIMAL]
OPERATORS = [Operator.EQ, Operator.NE, Operator.IN, Operator.NOT_IN, Operator.IS_NULL, Operator.IS_NOT_NULL]
ORDERED = [Operator.LT, Operator.LE, Operator.GT, Operator.GE, Operator.BETWEEN]
TEXT = [Operator.CONTAINS, Operator.STARTS_WITH, Operator.ENDS_WITH]
HOLDS: dict[DataType, list[Any]] = {
    DataType.STRING: [None, "", "a", "é", "zz", "B", "a.c"],
    DataType.BOOL: [None, True, False],
    DataType.INT64: [None, -5, 0, 7, 2**63 - 1],
    DataType.DOUBLE: [None, -1.25, 0.0, float("inf"), float("nan")],
    DataType.DECIMAL: [None, Decimal("-2.25"), Decimal("0.00"), Decimal("1.50")],
}
COUNTS = {
    Operator.IS_NULL: 0,
    Operator.IS_NOT_NULL: 0,
    Operator.BETWEEN: 2,
    Operator.IN: 3,
    Operator.NOT_IN: 2,
}


@pytest.mark.parametrize("few", [0, 512])
@settings(max_examples=150, deadline=None)
@given(chance=st.integers(0, 2**32).map(Random), kind=st.sampled_from(KINDS), negated=st.booleans())
def test_a_filter_means_what_sql_means(few: int, chance: Random, kind: DataType, negated: bool) -> None:
    operators = [
        *OPERATORS,
        *(ORDERED if kind is not DataType.BOOL else []),
        *(TEXT if kind is DataType.STRING else []),
    ]
    operator = chance.choice(operators)
    values = [VALUES[kind](chance) for _ in range(COUNTS.get(operator, 1))]
    if operator is Operator.BETWEEN:
        values.sort(key=rank)
    node = Condition("d", operator, tuple(values))
    asked = Not(node) if negated else node
    lexicon = Lexicon()
    lexicon.numbered(pl.Series("d", HOLDS[kind], frames.dtype(kind, 2)))
    dimension = Dimension("d", "d", kind, (), scale=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segment_filter, "_FEW", few)
        test = segment_filter.compiled(asked, {"d": dimension}, {"d": lexicon})
    codes = np.array([chance.randrange(len(lexicon)) for _ in range(20)], np.int32)
    found = segment_filter.passing(test, {"d": codes}, len(codes)).tolist()
    held = [{"d": HOLDS[kind][code]} for code in codes]
    assert found == [i for i, record in enumerate(held) if reference.truth(asked, record) is True]
