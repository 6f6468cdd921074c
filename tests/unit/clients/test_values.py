"""Values of answers that Python's own types cannot hold, and how answers and errors show themselves."""

from __future__ import annotations

from datetime import date

import pytest

from querybroker.errors import QueryBrokerError, Violation
from querybroker.result import Batch, Dashboard
from querybroker.v1 import answer_pb2 as pb
from querybroker.v1 import query_service_pb2

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


def test_a_batch_is_read_row_by_row_like_a_result() -> None:
    assert list(batch(0)) == [{"born": date(1970, 1, 1), "n": 0}]


def test_answers_show_what_they_hold() -> None:
    failed = query_service_pb2.PanelAnswer(panel_id="late")
    failed.error.code = 4
    panels = [query_service_pb2.PanelAnswer(panel_id="first"), failed]
    assert repr(batch(0, 1)) == "<Batch of 2 rows: born, n>"
    assert repr(Dashboard(query_service_pb2.DashboardResponse(panels=panels))) == (
        "<Dashboard of 2 panels: first, late; failed: late>"
    )


def test_an_error_tells_each_violation_once() -> None:
    told = (Violation("limit", "must not be negative", "OUT_OF_RANGE"),)
    error = QueryBrokerError("INVALID_ARGUMENT", "limit: must not be negative", violations=told)
    assert str(error) == "INVALID_ARGUMENT: the request has problems\n  limit: must not be negative"
    error.metadata = {"violation_count": "9"}
    assert str(error).endswith("\n  and 8 more")
