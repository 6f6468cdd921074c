"""Fields written by hand are read back by the library."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration
from hypothesis import given
from hypothesis import strategies as st

from broker.transport.wire import WIDE, integer, nested, text, wide
from querybroker.v1 import query_service_pb2


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1), st.binary(max_size=400))
def test_a_batch_with_its_position_in_front_is_that_batch(first: int, rows: int, data: bytes) -> None:
    encoded = query_service_pb2.RowBatch(row_count=rows, arrow_ipc=data).SerializeToString()
    batch = query_service_pb2.RowBatch.FromString(integer(1, first) + encoded)
    assert (batch.first_row, batch.row_count, batch.arrow_ipc) == (first, rows, data)


@given(st.text(max_size=300), st.binary(max_size=300))
def test_strings_and_messages_are_fields_of_bytes(panel: str, arrow: bytes) -> None:
    table = nested(3, nested(4, arrow))
    answer = query_service_pb2.PanelAnswer.FromString(text(1, panel) + table)
    assert (answer.panel_id, answer.table.arrow_ipc) == (panel, arrow)


@given(st.floats(-1.0, 1e9) | st.sampled_from((0.0, 0.9999999999, 1.0, 86_400.0)))
def test_a_wide_duration_is_that_duration_in_as_many_bytes_as_any(seconds: float) -> None:
    encoded = wide(seconds)
    read = Duration.FromString(encoded)
    assert len(encoded) == WIDE
    assert abs(read.seconds + read.nanos / 1e9 - max(0.0, seconds)) <= 1e-6
    assert 0 <= read.nanos < 1_000_000_000
