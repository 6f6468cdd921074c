"""QueryService."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from google.rpc.status_pb2 import Status

from broker.domain.answer import Answer, Batch
from broker.domain.errors import BrokerError
from broker.domain.pool import PoolName
from broker.domain.request import DashboardAsk, ExploreHeader
from broker.domain.terms import AnswerPolicy
from broker.transport.alike import Alike, lift
from broker.transport.call import Call, Service, streaming, unary
from broker.transport.decode_adopted import adoptable
from broker.transport.decode_request import MAX_PANELS, decode_dashboard, decode_explain, decode_explore
from broker.transport.encode_answer import encode_batch, encode_dashboard, encode_header, encode_last
from broker.transport.encode_explain import encode_explanation
from broker.transport.recollection import Recollection
from broker.transport.services import QueryApp
from broker.transport.status import Statuses
from querybroker.v1 import query_service_pb2


@dataclass(frozen=True, slots=True)
class QueryServicer:
    """Answers questions.

    ``defaults`` fill in what a request's policy leaves open; ``recollection`` knows requests that come again.
    """

    app: QueryApp
    statuses: Statuses
    defaults: AnswerPolicy
    max_panels: int = MAX_PANELS
    recollection: Recollection | None = None
    alike: Alike = field(default_factory=Alike)

    def service(self) -> Service:
        """The service with its handlers."""
        return Service(
            query_service_pb2.DESCRIPTOR.services_by_name["QueryService"],
            {
                "Dashboard": unary(
                    query_service_pb2.DashboardRequest,
                    self.dashboard,
                    pool=PoolName.DASHBOARD,
                    recall=self.recollection.recall if self.recollection is not None else None,
                ),
                "Explore": streaming(
                    query_service_pb2.ExploreRequest, self.explore, pool=PoolName.EXPLORATION
                ),
                "Explain": unary(query_service_pb2.ExplainRequest, self.explain, pool=PoolName.ADMIN),
            },
        )

    async def dashboard(self, call: Call, request: query_service_pb2.DashboardRequest) -> bytes:
        """Answers all panels."""
        ask = self._dashboard_ask(call, request)
        outcome = await self.app.dashboard(call.context, ask)
        for panel in outcome.panels:
            if isinstance(panel.result, Answer):
                call.answered(panel.result.status)

        if self.recollection is not None:
            self.recollection.remember(call, ask, outcome)

        def describe(error: BrokerError) -> Status:
            return self.statuses.status(error, call.request_id)

        return encode_dashboard(outcome, call.request_id, describe, call.response_limit)

    def _dashboard_ask(self, call: Call, request: query_service_pb2.DashboardRequest) -> DashboardAsk:
        """What is asked; of a request that is like another one only what differs is read."""
        lifted = lift(request, call.request_id, len(call.raw))
        if lifted is None:
            return decode_dashboard(request, self.defaults, self.max_panels)
        ask = self.alike.ask(lifted)
        if ask is not None:
            return ask
        request = query_service_pb2.DashboardRequest.FromString(call.raw)
        return self.alike.read(lifted, decode_dashboard(request, self.defaults, self.max_panels))

    async def explore(
        self, call: Call, request: query_service_pb2.ExploreRequest
    ) -> AsyncGenerator[bytes, None]:
        """Streams the answer; the application is stopped when the caller goes away."""
        ask = decode_explore(request, self.defaults)
        ask = replace(ask, job=adoptable(request, ask.policy, self.defaults))
        async with aclosing(self.app.explore(call.context, ask)) as events:
            async for event in events:
                match event:
                    case Batch():
                        yield encode_batch(event, call.response_limit)
                    case ExploreHeader():
                        yield encode_header(event, call.request_id)
                    case status:
                        call.answered(status)
                        yield encode_last(status, call.request_id)

    async def explain(self, call: Call, request: query_service_pb2.ExplainRequest) -> bytes:
        """Tells how the query would be answered."""
        ask = decode_explain(request, self.defaults)
        explanation = await self.app.explain(call.context, ask)
        return encode_explanation(explanation).SerializeToString()
