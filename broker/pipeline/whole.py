"""Tables as streams of one batch and back: both hold the same rows, the table with its columns before them."""

from __future__ import annotations

from collections.abc import Sequence

from broker.aggregation.schema import schema
from broker.domain.answer import Answer, AnswerStatus, Batch, Table
from broker.domain.request import ExploreHeader
from broker.domain.values import Column, ResultFormat

MOST_WHOLE = 1 << 20
"""Bytes of the largest table that is sent as one batch; larger ones are for streams."""


def table_of(batch: Batch, columns: Sequence[Column], format: ResultFormat) -> Table:
    """The table whose only rows are those of the batch."""
    encoded = b"".join([*schema(columns), batch.encoded])
    return Table(tuple(columns), batch.row_count, format, encoded)


def events_of(answer: Answer) -> tuple[ExploreHeader, Batch, AnswerStatus]:
    """A table as a stream."""
    table, status = answer.table, answer.status
    before = sum(map(len, schema(table.columns)))
    header = ExploreHeader(table.columns, status.as_of, status.cost_class, status.predicted)
    return header, Batch(0, table.row_count, table.encoded[before:]), status
