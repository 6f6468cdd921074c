# ruff: noqa: ASYNC109 - a timeout here is gRPC's deadline, which travels to the server
"""The asynchronous client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from types import TracebackType
from typing import Self

import grpc

from querybroker import requests as r
from querybroker.cache import Cache
from querybroker.calls import answer
from querybroker.channel import Connection
from querybroker.errors import QueryBrokerError
from querybroker.jobs import Jobs
from querybroker.requests import Format, Kind, Panel, Policy, Question
from querybroker.result import Batch, Dashboard, Result
from querybroker.rollups import Rollups
from querybroker.stream import Exploration
from querybroker.throttle import Sent, Throttle, chosen
from querybroker.v1 import catalog_service_pb2, query_service_pb2
from querybroker.v1.catalog_service_pb2_grpc import CatalogServiceStub
from querybroker.v1.query_service_pb2_grpc import QueryServiceStub

TIMEOUT = 30.0
STREAM_TIMEOUT = 600.0


class ExploreStream(Exploration):
    """Batches as they arrive: ``async with broker.explore(...) as stream: async for batch in stream: ...``."""

    def __init__(
        self,
        call: grpc.aio.UnaryStreamCall[query_service_pb2.ExploreRequest, query_service_pb2.ExploreResponse],
        sent: Sent | None = None,
    ) -> None:
        super().__init__(sent)
        self._call = call

    async def __aenter__(self) -> Self:
        await self._next(header=True)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call.cancel()

    def __aiter__(self) -> AsyncIterator[Batch]:
        return self

    async def __anext__(self) -> Batch:
        batch = await self._next(header=False)
        if batch is None:
            raise StopAsyncIteration
        return batch

    async def collect(self) -> Result:
        """All rows at once."""
        return self.result([batch async for batch in self])

    async def _next(self, *, header: bool) -> Batch | None:
        """The next batch, None at the end; with ``header`` returns as soon as the header is known."""
        while not self.done and not (header and self.header is not None):
            try:
                event = await self._call.read()
            except grpc.aio.AioRpcError as error:
                raise self.failed(QueryBrokerError.from_rpc_error(error)) from error
            batch = self.accept(event if isinstance(event, query_service_pb2.ExploreResponse) else None)
            if batch is not None:
                return batch
        return None


class Client:
    """Calls a broker; ``async with Client("localhost:50051") as broker: ...``.

    Every method raises :class:`QueryBrokerError`. ``jobs`` keeps jobs, ``rollups`` and ``cache`` operate those.

    Args:
        target: A gRPC target: ``localhost:50051``, ``dns:///broker.example.com:443``, ``unix:/run/broker.sock``.
        api_key: Sent with every call.
        tls: True for TLS with the system's authorities, or the PEM text of others.
        metadata: Sent with every call.
        timeout: Seconds for calls that name none of their own.
        throttle: True to hold calls back from a broker that refuses most of them (:class:`ThrottledError`), False to
            send all, or a :class:`Throttle` that several clients of one broker and one tenant share.
    """

    def __init__(
        self,
        target: str = "localhost:50051",
        *,
        api_key: str = "",
        tls: bool | bytes = False,
        metadata: Iterable[tuple[str, str]] = (),
        timeout: float = TIMEOUT,
        throttle: bool | Throttle = True,
    ) -> None:
        self._connection = Connection(
            target, api_key, tls, tuple(metadata), timeout, throttle=chosen(throttle)
        )
        options, credentials = self._connection.options(), self._connection.credentials()
        if credentials is None:
            self.channel = grpc.aio.insecure_channel(target, options)
        else:
            self.channel = grpc.aio.secure_channel(target, credentials, options)
        self._queries = QueryServiceStub(self.channel)
        self._catalog = CatalogServiceStub(self.channel)
        self.jobs = Jobs(self.channel, self._connection)
        self.rollups = Rollups(self.channel, self._connection)
        self.cache = Cache(self.channel, self._connection)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the channel; calls under way are cancelled."""
        await self.channel.close()

    async def ask(
        self,
        question: Panel,
        *,
        policy: Policy = None,
        format: Format = "columns",
        timeout: float | None = None,
    ) -> Result:
        """Answers one query, as a dashboard of one panel."""
        request = r.dashboard_request({r.ONLY: question}, policy, format, "")
        given = self._connection.unary(request.request_id, timeout)
        return r.only_result(await answer(self._connection, self._queries.Dashboard, request, given))

    async def dashboard(
        self,
        panels: Mapping[str, Panel],
        *,
        policy: Policy = None,
        format: Format = "columns",
        dashboard_id: str = "",
        timeout: float | None = None,
    ) -> Dashboard:
        """Answers 1 to 64 panels, by id, the live ones from one snapshot. A panel may fail alone."""
        request = r.dashboard_request(panels, policy, format, dashboard_id)
        given = self._connection.unary(request.request_id, timeout)
        return Dashboard(await answer(self._connection, self._queries.Dashboard, request, given))

    def explore(
        self,
        question: Question,
        *,
        policy: Policy = None,
        format: Format = "columns",
        max_rows: int = 0,
        max_bytes: int = 0,
        timeout: float | None = STREAM_TIMEOUT,
    ) -> ExploreStream:
        """Streams the answer of a query, or of SQL where the server enables it."""
        request = r.explore_request(question, policy, format, max_rows, max_bytes)
        given, sent = self._connection.stream(request.request_id, timeout), self._connection.sending()
        return ExploreStream(self._queries.Explore(request, **given), sent)

    async def explain(
        self,
        question: Question,
        *,
        policy: Policy = None,
        kind: Kind = "explore",
        timeout: float | None = None,
    ) -> query_service_pb2.ExplainResponse:
        """Tells how a query would be answered, without answering it."""
        given = self._connection.unary(timeout=timeout)
        return await answer(
            self._connection, self._queries.Explain, r.explain_request(question, policy, kind), given
        )

    async def datasets(self, *, timeout: float | None = None) -> list[catalog_service_pb2.Dataset]:
        """The datasets that may be queried, without their members."""
        found: list[catalog_service_pb2.Dataset] = []
        request = catalog_service_pb2.ListDatasetsRequest()
        while True:
            given = self._connection.unary(timeout=timeout)
            page = await answer(self._connection, self._catalog.ListDatasets, request, given)
            found.extend(page.datasets)
            request.page_token = page.next_page_token
            if not request.page_token:
                return found

    async def dataset(self, name: str, *, timeout: float | None = None) -> catalog_service_pb2.Dataset:
        """One dataset with its dimensions and measures."""
        given = self._connection.unary(timeout=timeout)
        return (
            await answer(self._connection, self._catalog.GetDataset, r.dataset_request(name), given)
        ).dataset
