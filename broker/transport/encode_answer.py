"""Answers as bytes: a table that is encoded already, beside a status that is encoded now."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from google.rpc.status_pb2 import Status

from broker.domain.answer import Answer, AnswerStatus, Batch
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.request import DashboardOutcome, ExploreHeader, PanelOutcome
from broker.transport.call import RESPONSE_LIMIT
from broker.transport.encode_explain import encode_classification
from broker.transport.encode_status import (
    encode_columns,
    encode_cost,
    encode_part,
    encode_status,
    timestamp,
)
from broker.transport.enums import COST_CLASS
from broker.transport.wire import head, integer, nested, text
from querybroker.v1 import query_service_pb2

# Field numbers of the contract; a test decodes what is written here with the generated messages.
_RESPONSE_PANELS, _RESPONSE_REQUEST_ID, _RESPONSE_SNAPSHOT = 1, 2, 3
_PANEL_ID, _PANEL_STATUS, _PANEL_TABLE, _PANEL_ERROR = 1, 2, 3, 4
_EXPLORE_BATCH = 2
_BATCH_FIRST_ROW = 1

Describe = Callable[[BrokerError], Status]


@dataclass(frozen=True, slots=True)
class _Encoded:
    """The pieces of one panel, and the bytes that they are together; ``table`` of these are the table's."""

    panel_id: str
    pieces: tuple[bytes, ...]
    size: int
    table: int = 0


def encode_dashboard(outcome: DashboardOutcome, request_id: str, describe: Describe, limit: int) -> bytes:
    """A DashboardResponse of at most ``limit`` bytes.

    A caller whose limit is exceeded gets an error that it cannot tell from a full quota, and none of the panels. So the
    largest tables are replaced by RESULT_TOO_LARGE until the rest fits.
    """
    panels = [_panel(panel, request_id, describe) for panel in outcome.panels]
    closing = text(_RESPONSE_REQUEST_ID, request_id)
    if outcome.snapshot_time is not None:
        snapshot = timestamp(outcome.snapshot_time)
        assert snapshot is not None
        closing += nested(_RESPONSE_SNAPSHOT, snapshot.SerializeToString())
    total = len(closing) + sum(panel.size + 16 for panel in panels)
    while total > limit:
        largest = max(range(len(panels)), key=lambda i: panels[i].table)
        removed = panels[largest]
        if removed.table == 0:
            break  # errors are small; what is left is as small as it gets
        panels[largest] = _error(removed.panel_id, too_large(removed.table, limit, "the response"), describe)
        total += panels[largest].size - removed.size
    pieces: list[bytes] = []
    for panel in panels:
        pieces.append(head(_RESPONSE_PANELS, panel.size))
        pieces.extend(panel.pieces)
    return b"".join((*pieces, closing))


def _panel(panel: PanelOutcome, request_id: str, describe: Describe) -> _Encoded:
    if isinstance(panel.result, BrokerError):
        return _error(panel.panel_id, panel.result, describe)
    answer: Answer = panel.result
    table = answer.table.encoded
    status = encode_status(answer.status, request_id).SerializeToString()
    opening = text(_PANEL_ID, panel.panel_id) + nested(_PANEL_STATUS, status) + head(_PANEL_TABLE, len(table))
    return _Encoded(panel.panel_id, (opening, table), len(opening) + len(table), len(table))


def _error(panel_id: str, error: BrokerError, describe: Describe) -> _Encoded:
    encoded = text(_PANEL_ID, panel_id) + nested(_PANEL_ERROR, describe(error).SerializeToString())
    return _Encoded(panel_id, (encoded,), len(encoded))


def too_large(size: int, limit: int, what: str) -> BrokerError:
    """The error for bytes that the caller could not receive."""
    text = (
        f"The result has {size} bytes, more than the {limit} that fit into {what}. Select fewer groups, set a limit, "
        f"or use Explore or SubmitJob. Callers that receive more say so in the metadata {RESPONSE_LIMIT}."
    )
    metadata = {"byte_count": str(size), "byte_limit": str(limit)}
    return BrokerError(ErrorReason.RESULT_TOO_LARGE, text, metadata=metadata)


def encode_header(header: ExploreHeader, request_id: str) -> bytes:
    """An ExploreResponse with what is known before the first row."""
    message = query_service_pb2.ExploreHeader(
        schema=encode_columns(header.columns),
        request_id=request_id,
        cost_class=COST_CLASS.proto(header.cost_class),
        predicted_cost=encode_cost(header.predicted),
        plan=[encode_part(part) for part in header.plan],
        as_of=timestamp(header.as_of),
        classification=encode_classification(header.classification)
        if header.classification is not None
        else None,
    )
    return query_service_pb2.ExploreResponse(header=message).SerializeToString()


def encode_batch(batch: Batch, limit: int) -> bytes:
    """An ExploreResponse with a batch of at most ``limit`` bytes.

    Raises:
        BrokerError: RESULT_TOO_LARGE; a single row, or a batch whose strings are very long.
    """
    first_row = integer(_BATCH_FIRST_ROW, batch.first_row)
    size = len(first_row) + len(batch.encoded)
    if size + 16 > limit:
        raise too_large(size, limit, "one message")
    return b"".join((head(_EXPLORE_BATCH, size), first_row, batch.encoded))


def encode_last(status: AnswerStatus, request_id: str) -> bytes:
    """An ExploreResponse with the status that ends the stream."""
    return query_service_pb2.ExploreResponse(status=encode_status(status, request_id)).SerializeToString()
