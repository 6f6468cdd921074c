"""Asks a broker over gRPC: many queries as the panels of dashboards, or one as an exploration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import grpc
import grpc.aio

from querybroker.v1 import query_pb2 as q
from querybroker.v1 import query_service_pb2 as s
from querybroker.v1.query_service_pb2_grpc import QueryServiceStub
from tests.oracle.decode import Actual, from_stream, from_table

MESSAGE_BYTES = 256 * 1024 * 1024
TIMEOUT = 120.0
"""Seconds; generous, since nothing is measured here."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error in place of an answer, of a call or of one panel."""

    code: str
    message: str


Answered = Actual | Refusal


def channel_to(address: str) -> grpc.aio.Channel:
    """A channel for large answers."""
    return grpc.aio.insecure_channel(address, options=[("grpc.max_receive_message_length", MESSAGE_BYTES)])


class Asker:
    """Questions over one channel."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = QueryServiceStub(channel)

    async def dashboard(
        self, queries: Sequence[q.Query], format_: s.ResultFormat.ValueType = s.RESULT_FORMAT_COLUMNS
    ) -> list[Answered]:
        """The answers of all queries as panels of one dashboard."""
        request = s.DashboardRequest(panels=[s.Panel(query=query) for query in queries], format=format_)
        try:
            response = await self._stub.Dashboard(request, timeout=TIMEOUT)
        except grpc.aio.AioRpcError as error:
            return [refusal(error)] * len(queries)
        assert [panel.panel_id for panel in response.panels] == [str(i) for i in range(len(queries))]
        return [_answered(panel) for panel in response.panels]

    async def explore(
        self, query: q.Query, format_: s.ResultFormat.ValueType = s.RESULT_FORMAT_COLUMNS
    ) -> Answered:
        """The answer of a query as a stream."""
        try:
            return from_stream(await self.events(query, format_))
        except grpc.aio.AioRpcError as error:
            return refusal(error)

    async def events(self, query: q.Query, format_: s.ResultFormat.ValueType) -> list[s.ExploreResponse]:
        """The messages of a stream. Raises AioRpcError."""
        stream = self._stub.Explore(s.ExploreRequest(query=query, format=format_), timeout=TIMEOUT)
        return [event async for event in stream]


def refusal(error: grpc.aio.AioRpcError) -> Refusal:
    """An error of a call."""
    return Refusal(error.code().name, error.details() or "")


def _answered(panel: s.PanelAnswer) -> Answered:
    if panel.HasField("error"):
        codes = {code.value[0]: code.name for code in grpc.StatusCode}
        return Refusal(codes[panel.error.code], panel.error.message)
    return from_table(panel.table)
