"""The one path of every call: identity, time, trace, errors, trailers, log.

Calls are wrapped where they are registered rather than by ``grpc.aio.ServerInterceptor``, which sees no request and no
response. From the outside in: request id, trace context and server span with its metric, access log, error boundary,
authentication, deadline, servicer. Nothing is sent before the first response, because initial metadata that is sent
early ends the client's chance of a retry (gRFC A6).
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, Never, cast

import grpc
from google.protobuf.message import DecodeError, Message

from broker.domain.deadline import Deadline
from broker.domain.errors import BrokerError, ErrorReason, Violation, invalid
from broker.domain.principal import Criticality, Principal
from broker.domain.request import CallContext
from broker.ports.auth import Authenticator
from broker.ports.clock import Clock
from broker.telemetry.instruments import Telemetry
from broker.telemetry.spans import ServerCall
from broker.transport.access import log_call
from broker.transport.call import RESPONSE_LIMIT, Call, Endpoint, Streaming
from broker.transport.decode_values import is_uuid
from broker.transport.drain import Gate
from broker.transport.options import ServerOptions
from broker.transport.status import Refusal, Statuses

PREFIX = "querybroker-"
REQUEST_ID = "x-request-id"
CRITICALITY = f"{PREFIX}criticality"
_SAFE_ID = re.compile(r"[A-Za-z0-9._:/-]{1,128}")
_LOG = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]
Respond = Callable[[Call, Any], Awaitable[bytes | None]]


@dataclass(slots=True)
class _Arrival:
    """One call while it is served: what was read of it so far."""

    method: str
    endpoint: Endpoint
    message: Message | None
    metadata: Mapping[str, str]
    request_id: str
    started: float
    deadline: Deadline | None = None
    principal: Principal | None = None
    call: Call | None = None

    def notes(self) -> dict[str, str]:
        return self.call.notes() if self.call is not None else {}


@dataclass(frozen=True, slots=True)
class CallPath:
    """Serves calls. ``ids`` makes request ids for callers that bring none."""

    authenticator: Authenticator
    telemetry: Telemetry
    clock: Clock
    ids: Callable[[], str]
    statuses: Statuses
    gate: Gate
    options: ServerOptions

    def handler(self, service: str, name: str, endpoint: Endpoint) -> grpc.RpcMethodHandler[Any, Any]:
        """The endpoint as gRPC wants it: bytes in, bytes out."""
        method = f"{service}/{name}"
        if isinstance(endpoint, Streaming):
            watched = endpoint

            async def stream(raw: bytes, context: Context) -> None:
                async def respond(call: Call, message: Any) -> None:
                    async with aclosing(watched.handle(call, message)) as responses:
                        async for response in responses:
                            await context.write(response)

                await self._serve(self._arrive(method, watched, raw, context), context, respond)

            return grpc.unary_stream_rpc_method_handler(stream)
        answered = endpoint

        async def unary(raw: bytes, context: Context) -> bytes | None:
            return await self._serve(self._arrive(method, answered, raw, context), context, answered.handle)

        return grpc.unary_unary_rpc_method_handler(unary)

    def _arrive(self, method: str, endpoint: Endpoint, raw: bytes, context: Context) -> _Arrival:
        metadata = {k: v for k, v in context.invocation_metadata() or () if isinstance(v, str)}
        try:
            message = endpoint.request.FromString(raw)
        except DecodeError:
            message = None
        request_id = str(getattr(message, "request_id", ""))
        if not is_uuid(request_id):
            request_id = metadata.get(REQUEST_ID, "")
            if not _SAFE_ID.fullmatch(request_id):
                request_id = self.ids()
        return _Arrival(method, endpoint, message, metadata, request_id, self.clock.monotonic())

    async def _serve(self, arrival: _Arrival, context: Context, respond: Respond) -> bytes | None:
        """Runs the call inside its span, and turns what it raises into a status."""
        with self.telemetry.server_span(
            arrival.method, arrival.metadata, request_id=arrival.request_id
        ) as span:
            try:
                response = await self._timed(arrival, context, respond)
                context.set_trailing_metadata(self._trailers(arrival))
            except asyncio.CancelledError:
                self._cancelled(arrival, span)
                raise  # the caller has gone; whatever was held has been released on the way here
            except BrokerError as error:
                remaining = cast("float | None", context.time_remaining())
                refusal = self.statuses.refusal(error, arrival.request_id, remaining)
            except Exception:  # noqa: BLE001 - the boundary: the caller must see neither type nor text
                _LOG.exception("unexpected error in %s", arrival.method)
                bug = BrokerError(ErrorReason.INTERNAL, "")
                refusal = self.statuses.refusal(bug, arrival.request_id)
            else:
                self._finished(arrival, span, "OK")
                return response
            self._finished(arrival, span, refusal.code.name, refusal.reason.value)
            return await _abort(context, refusal, self._trailers(arrival))

    async def _timed(self, arrival: _Arrival, context: Context, respond: Respond) -> bytes | None:
        """Runs the call inside its time limit."""
        limits = self.options.limits_of(arrival.method)
        remaining = cast("float | None", context.time_remaining())  # None without a deadline
        seconds = min(limits.default if remaining is None else remaining, limits.cap)
        arrival.deadline = Deadline.after(seconds, arrival.started)
        watch = arrival.endpoint.watch if isinstance(arrival.endpoint, Streaming) else ""
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                with self.gate.open(limit, watch=bool(watch)):
                    if watch:
                        return await self._watched(watch, arrival, context, respond)
                    return await self._admitted(arrival, context, respond)
        except TimeoutError:
            if not limit.expired():
                raise
            if self.gate.ended(limit):
                raise self.gate.refusal() from None
            text = f"The work was not done within {seconds:.3f} s and was stopped. Allow more time, or narrow it."
            raise BrokerError(
                ErrorReason.DEADLINE_EXCEEDED, text, metadata={"deadline_seconds": f"{seconds:.3f}"}
            ) from None

    async def _watched(
        self, watch: str, arrival: _Arrival, context: Context, respond: Respond
    ) -> bytes | None:
        self.telemetry.watch_streams(watch, 1)
        try:
            return await self._admitted(arrival, context, respond)
        finally:
            self.telemetry.watch_streams(watch, -1)

    async def _admitted(self, arrival: _Arrival, context: Context, respond: Respond) -> bytes | None:
        """Authenticates, then hands over to the servicer."""
        if self.gate.closed and not arrival.endpoint.while_draining:
            raise self.gate.refusal()
        principal = await self.authenticator.authenticate(arrival.metadata, context.peer())
        arrival.principal = _lowered(principal, arrival.metadata)
        if arrival.message is None:
            name = arrival.endpoint.request.DESCRIPTOR.full_name
            raise invalid([Violation("request", f"cannot be read as {name}", "MALFORMED")])
        assert arrival.deadline is not None
        arrival.call = Call(
            CallContext(
                request_id=arrival.request_id,
                principal=arrival.principal,
                deadline=arrival.deadline,
                received=self.clock.now(),
                method=arrival.method,
                attempt=_number(arrival.metadata.get("grpc-previous-rpc-attempts", ""), 0),
                trace=self.telemetry.inject(),
            ),
            min(
                self.options.max_send_bytes,
                _number(arrival.metadata.get(RESPONSE_LIMIT, ""), self.options.assumed_receive_bytes),
            ),
        )
        return await respond(arrival.call, arrival.message)

    def _trailers(self, arrival: _Arrival) -> tuple[tuple[str, str], ...]:
        notes = {"request-id": arrival.request_id, **arrival.notes()}
        return tuple((f"{PREFIX}{name}", value) for name, value in notes.items())

    def _cancelled(self, arrival: _Arrival, span: ServerCall) -> None:
        """A deadline of the caller arrives as a cancellation too; the clock tells them apart.

        The wire rounds long timeouts up by as much as a hundredth, so the caller's own may pass that much earlier.
        """
        late = False
        if arrival.deadline is not None:
            given = arrival.deadline.at - arrival.started
            late = arrival.deadline.remaining(self.clock.monotonic()) < max(0.005, given * 0.015)
        self._finished(arrival, span, "DEADLINE_EXCEEDED" if late else "CANCELLED")

    def _finished(self, arrival: _Arrival, span: ServerCall, code: str, reason: str = "") -> None:
        span.status(code, reason)
        seconds = self.clock.monotonic() - arrival.started
        notes, principal = arrival.notes(), arrival.principal
        log_call(arrival.method, code, seconds, arrival.request_id, principal, notes, reason)


async def _abort(context: Context, refusal: Refusal, trailers: tuple[tuple[str, str], ...]) -> Never:
    await context.abort(refusal.code, refusal.message, (*refusal.trailers, *trailers))


def _lowered(principal: Principal, metadata: Mapping[str, str]) -> Principal:
    """The principal with the criticality that the caller asks for; asking for more than it has changes nothing."""
    wanted = metadata.get(CRITICALITY)
    if wanted is None:
        return principal
    name = wanted.upper()
    if name not in Criticality.__members__:
        names = ", ".join(c.name.lower() for c in Criticality)
        text = f"{wanted[:64]!r} is not known; use one of {names}"
        raise invalid([Violation(f"metadata.{CRITICALITY}", text, "UNKNOWN_ENUM")])
    return replace(principal, criticality=min(principal.criticality, Criticality[name]))


def _number(text: str, default: int) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 12 else default
