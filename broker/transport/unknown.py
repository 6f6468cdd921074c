"""Methods that the server does not know: answered, counted and logged like any other call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc

from broker.domain.errors import BrokerError, ErrorReason
from broker.telemetry.instruments import Telemetry
from broker.transport.access import log_call
from broker.transport.status import Statuses

OTHER = "_OTHER"
"""Stands for all unknown methods in telemetry, so that callers cannot make up series."""


@dataclass(frozen=True, slots=True)
class UnknownMethods(grpc.GenericRpcHandler):
    """The last handler to be asked; it takes every method."""

    telemetry: Telemetry
    statuses: Statuses
    ids: Callable[[], str]

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        """A handler that refuses; it reads no request, so the method may have any shape."""
        method = handler_call_details.method.removeprefix("/")

        async def refuse(_requests: object, context: grpc.aio.ServicerContext[Any, Any]) -> None:
            request_id = self.ids()
            text = f"There is no method {method[:128]!r}. Ask for server reflection, or see querybroker.v1."
            error = BrokerError(ErrorReason.NOT_OFFERED, text, metadata={"method": method})
            refusal = self.statuses.refusal(error, request_id)
            with self.telemetry.server_span(OTHER, {}, request_id=request_id) as span:
                span.status(refusal.code.name, refusal.reason.value)
                log_call(OTHER, refusal.code.name, 0.0, request_id, None, {}, refusal.reason.value)
                await context.abort(refusal.code, refusal.message, refusal.trailers)

        return grpc.stream_stream_rpc_method_handler(refuse)
