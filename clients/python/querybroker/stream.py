"""What both clients know of a streamed answer while it arrives."""

from __future__ import annotations

from collections.abc import Sequence

from querybroker.errors import QueryBrokerError
from querybroker.result import Batch, Result, row_batch
from querybroker.throttle import Sent
from querybroker.v1 import answer_pb2, query_service_pb2


class Exploration:
    """The header, once it has arrived, and the status, once the answer is complete."""

    def __init__(self, sent: Sent | None = None) -> None:
        self._sent = sent
        self.header: query_service_pb2.ExploreHeader | None = None
        self.status: answer_pb2.AnswerStatus | None = None

    @property
    def done(self) -> bool:
        """Whether the answer is complete."""
        return self.status is not None

    @property
    def schema(self) -> Sequence[answer_pb2.ColumnSchema]:
        """The columns; empty before the header."""
        return self.header.schema if self.header is not None else ()

    def accept(self, event: query_service_pb2.ExploreResponse | None) -> Batch | None:
        """Takes an event, None at the end of the stream; gives the batch when it is one.

        Raises:
            QueryBrokerError: The stream ended without a status, so rows are missing.
        """
        if self._sent is not None:
            self._sent.accepted()
        kind = event.WhichOneof("event") if event is not None else None
        if event is None or kind is None:
            raise QueryBrokerError("DATA_LOSS", "the stream ended without a status; rows are missing")
        match kind:
            case "header":
                self.header = event.header
            case "status":
                self.status = event.status
            case "batch":
                return row_batch(self.schema, event.batch)
        return None

    def failed(self, error: QueryBrokerError) -> QueryBrokerError:
        """Takes the error that the stream ended with, and gives it back."""
        if self._sent is not None:
            self._sent.failed(error)
        return error

    def result(self, batches: Sequence[Batch]) -> Result:
        """The whole answer."""
        assert self.status is not None
        return Result(self.schema, batches, self.status)
