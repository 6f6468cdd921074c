"""Tables of rollups: what their index has."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broker.adapters.sql.rollup_table import table_columns, table_ddl
from broker.domain.model import Dataset, Dimension, Measure, MeasureKind
from broker.domain.query import Grain
from broker.domain.rollup import Rollup, Storage
from broker.domain.values import DataType

_NAMES = tuple(f"d{i}" for i in range(30))
_OTHERS = ", ".join(f'"{name}"' for name in _NAMES[1:])
_MEASURES = (Measure("n", MeasureKind.COUNT), Measure("s", MeasureKind.SUM, "t.s"))
_TEXT = Measure("least", MeasureKind.MIN, "t.least", DataType.STRING)
ROLLUP = Rollup("r", "t", "at", ("d0", "d1", "d2"), ("n", "s"), (Grain.DAY,), storage=Storage.TABLE)
DATASET = Dataset(
    "t",
    "public.t",
    {
        "at": Dimension("at", "t.at", DataType.TIMESTAMP, ("t",), time=True),
        **{name: Dimension(name, f"t.{name}", DataType.STRING, ("t",)) for name in _NAMES},
    },
    {measure.name: measure for measure in (*_MEASURES, _TEXT)},
)


@pytest.mark.parametrize(
    ("rollup", "index"),
    [
        (ROLLUP, '("d0", "t", "d1", "d2") INCLUDE ("n.n", "s.s")'),
        (replace(ROLLUP, dimensions=()), '("t")'),
        (replace(ROLLUP, measures=("n", "least")), '("d0", "t", "d1", "d2")'),
        (replace(ROLLUP, dimensions=_NAMES), f'("d0", "t", {_OTHERS})'),
    ],
)
def test_a_value_of_the_first_dimension_over_some_time_is_one_range_of_an_index(
    rollup: Rollup, index: str
) -> None:
    """States go with it where they are short and the index has room for them."""
    (made,) = [each for each in table_ddl(DATASET, rollup) if '"t.r.key"' in each]
    assert made == f'CREATE INDEX IF NOT EXISTS "t.r.key" ON broker_rollup."t.r" {index}'


def test_the_largest_index_has_as_many_columns_as_postgresql_allows() -> None:
    rollup = replace(ROLLUP, dimensions=_NAMES[:29])
    assert len(table_columns(DATASET, rollup)) == 32
    assert any("INCLUDE" in each for each in table_ddl(DATASET, rollup))
