"""Values of answers that Python's own types cannot hold."""

from __future__ import annotations

from datetime import date

import pytest

from querybroker.result import Batch
from querybroker.v1 import answer_pb2 as pb

BEFORE_CHRIST = -735_000
SCHEMA = [
    pb.ColumnSchema(name="born", type=pb.DATA_TYPE_DATE),
    pb.ColumnSchema(name="n", type=pb.DATA_TYPE_INT64),
]


def batch(*days: int) -> Batch:
    columns = [
        pb.Column(date_values=pb.DateValues(unix_days=days)),
        pb.Column(int64_values=pb.Int64Values(values=range(len(days)))),
    ]
    return Batch(SCHEMA, len(days), pb.ColumnBatch(columns=columns), b"")


def test_a_date_that_python_cannot_hold_is_an_error_that_says_what_to_do() -> None:
    assert batch(0).rows() == [(date(1970, 1, 1), 0)]
    with pytest.raises(OverflowError, match=r"'born' has values outside the years.*format='arrow'"):
        batch(0, BEFORE_CHRIST).rows()
    assert batch(0, BEFORE_CHRIST).column("n") == [0, 1]
