"""The one path of every call: identity, time, trace, errors, trailers, log.

Calls are wrapped where they are registered rather than by ``grpc.aio.ServerInterceptor``, which sees no request and no
response. From the outside in: the door, request id, trace context and server span with its metric, access log, error
boundary, deadline, servicer. Nothing is sent before the first response, because initial metadata that is sent early
ends the client's chance of a retry (gRFC A6).

Calls whose answer is at hand have been given it before they come here (:mod:`broker.transport.shortcut`). At the door
calls that take seats are authenticated and, where the answer is no whatever they ask, refused without being decoded or
timed: refusing has to be cheaper than serving, or refusals alone bring the server down. Such a call is counted like any
other; in the log, such calls share a line.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Any, Never, cast

import grpc
from google.protobuf.message import DecodeError

from broker.domain.deadline import Deadline
from broker.domain.errors import BrokerError, ErrorReason, Violation, invalid
from broker.domain.pool import PoolName
from broker.domain.principal import Principal
from broker.domain.request import CallContext
from broker.ports.auth import Authenticator
from broker.ports.clock import Clock
from broker.telemetry.instruments import Telemetry
from broker.telemetry.spans import ServerCall
from broker.transport.access import UnreadLog, log_call, repeat
from broker.transport.arrival import PREFIX, Arrival, lowered, named, number
from broker.transport.call import RESPONSE_LIMIT, Call, Endpoint, Streaming, Unary
from broker.transport.decode_values import is_uuid
from broker.transport.drain import Gate
from broker.transport.options import ServerOptions
from broker.transport.shortcut import Shortcut
from broker.transport.status import Refusal, Statuses
from broker.transport.writing import Responses

_LOG = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]
Respond = Callable[[Call, Any], Awaitable[bytes | None]]
Door = Callable[[PoolName, Principal, float], BrokerError | None]
"""Why a call for seats of a pool, with so many seconds left, is refused whatever it asks; None lets it in."""


def open_door(_pool: PoolName, _principal: Principal, _left: float) -> None:
    """Lets everybody in."""


@dataclass(frozen=True, slots=True)
class CallPath:
    """Serves calls. ``ids`` makes request ids for callers that bring none; ``door`` is asked before a call is read."""

    authenticator: Authenticator
    telemetry: Telemetry
    clock: Clock
    ids: Callable[[], str]
    statuses: Statuses
    gate: Gate
    options: ServerOptions
    door: Door = open_door
    unread: UnreadLog = field(default_factory=UnreadLog)

    def handler(self, service: str, name: str, endpoint: Endpoint) -> grpc.RpcMethodHandler[Any, Any]:
        """The endpoint as gRPC wants it: bytes in, bytes out."""
        method = f"{service}/{name}"
        if isinstance(endpoint, Streaming):
            watched = endpoint

            async def stream(raw: bytes, context: Context) -> None:
                arrival = self._arrive(method, watched, context)
                written = Responses(context, self.options.stall_limit if watched.pool is not None else 0.0)

                async def respond(call: Call, message: Any) -> None:
                    async with aclosing(watched.handle(call, message)) as responses:
                        async for response in responses:
                            await written.write(response)
                            if arrival.running is not None:
                                arrival.running.sent += len(response)

                await self._serve(arrival, raw, context, respond)

            return grpc.unary_stream_rpc_method_handler(stream)
        answered = endpoint

        async def unary(raw: bytes, context: Context) -> bytes | None:
            return await self._serve(self._arrive(method, answered, context), raw, context, answered.handle)

        if answered.recall is None:
            return grpc.unary_unary_rpc_method_handler(unary)
        names = self.authenticator.names
        short = Shortcut(method, answered.recall, self.telemetry, self.unread, self.clock, self.ids, names)

        async def recalled(raw: bytes, context: Context) -> bytes | None:
            return await self._short(short, method, answered, raw, context)

        return grpc.unary_unary_rpc_method_handler(recalled)

    async def _short(
        self, short: Shortcut, method: str, endpoint: Unary[Any], raw: bytes, context: Context
    ) -> bytes | None:
        """Answers what is at hand, whoever is at the door; all else is served like any call."""
        arrival, known = None, None
        if not self.gate.closed:
            met = short.meet(context)
            if met.caller is None:
                arrival = self._arrive(method, endpoint, context)
                await self._identified(arrival, context)
                if (principal := arrival.principal) is not None:
                    lasting = self.authenticator.lasting(arrival.metadata)
                    short.know(met, principal, self._receives(arrival), lasting=lasting)
            if (response := short.answer(raw, context, met)) is not None:
                return response
            known = met.caller
        if arrival is None:
            arrival = self._arrive(method, endpoint, context)
            arrival.principal = known.principal if known is not None else None
        return await self._serve(arrival, raw, context, endpoint.handle)

    def _arrive(self, method: str, endpoint: Endpoint, context: Context) -> Arrival:
        metadata = {k: v for k, v in context.invocation_metadata() or () if isinstance(v, str)}
        return Arrival(method, endpoint, metadata, self.clock.monotonic())

    async def _identified(self, arrival: Arrival, context: Context) -> None:
        """Finds out who calls. Who cannot be identified is let in, to be told so like every other error."""
        if arrival.principal is not None or arrival.unknown is not None:
            return
        try:
            principal = await self.authenticator.authenticate(arrival.metadata, context.peer())
            arrival.principal = lowered(principal, arrival.metadata)
        except asyncio.CancelledError:
            self._turned_away(arrival, "CANCELLED")
            raise
        except Exception as error:  # noqa: BLE001 - raised again inside the boundary
            arrival.unknown = error

    def _refused_unread(self, arrival: Arrival, context: Context) -> BrokerError | None:
        """What the door says."""
        if arrival.endpoint.pool is None or arrival.principal is None:
            return None
        arrival.deadline = self._deadline(arrival, context)
        return self.door(arrival.endpoint.pool, arrival.principal, arrival.deadline.at - arrival.started)

    def _deadline(self, arrival: Arrival, context: Context) -> Deadline:
        """That of the call, or the default of its method, within the cap."""
        limits = self.options.limits_of(arrival.method)
        left = cast("float | None", context.time_remaining())  # None without a deadline
        return Deadline.after(min(limits.default if left is None else left, limits.cap), arrival.started)

    def _receives(self, arrival: Arrival) -> int:
        """Bytes of the largest message that the caller receives."""
        told = number(arrival.metadata.get(RESPONSE_LIMIT, ""), self.options.assumed_receive_bytes)
        return min(self.options.max_send_bytes, told)

    def _turned_away(self, arrival: Arrival, code: str, reason: str = "") -> None:
        seconds = self.clock.monotonic() - arrival.started
        self.telemetry.call(arrival.method, code, seconds, reason or code)
        self.unread.add(arrival.method, code, seconds, arrival.request_id, arrival.principal, reason)

    def _named(self, arrival: Arrival) -> str:
        return named(arrival.metadata) or self.ids()

    def _read(self, arrival: Arrival, raw: bytes) -> None:
        arrival.raw = raw
        with suppress(DecodeError):
            arrival.message = arrival.endpoint.request.FromString(raw)
        request_id = str(getattr(arrival.message, "request_id", ""))
        arrival.request_id = request_id if request_id and is_uuid(request_id) else self._named(arrival)

    async def _serve(self, arrival: Arrival, raw: bytes, context: Context, respond: Respond) -> bytes | None:
        """Asks at the door, then runs the call inside its span, and turns what it raises into a status."""
        if arrival.endpoint.pool is not None:
            unread = None
            if self.gate.closed and not arrival.endpoint.while_draining:
                unread = self.gate.refusal()
            else:
                await self._identified(arrival, context)
                unread = self._refused_unread(arrival, context)
            if unread is not None:
                arrival.request_id = self._named(arrival)
                remaining = cast("float | None", context.time_remaining())
                refusal = self.statuses.again(unread, arrival.request_id, remaining)
                self._turned_away(arrival, refusal.code.name, refusal.reason.value)
                return await _abort(context, refusal, self._trailers(arrival))
        self._read(arrival, raw)
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

    async def _timed(self, arrival: Arrival, context: Context, respond: Respond) -> bytes | None:
        """Runs the call inside its time limit."""
        if arrival.deadline is None:
            arrival.deadline = self._deadline(arrival, context)
        seconds = arrival.deadline.at - arrival.started
        watch = arrival.endpoint.watch if isinstance(arrival.endpoint, Streaming) else ""
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                with self.gate.open(limit, watch=bool(watch)) as arrival.running:
                    if watch:
                        return await self._watched(watch, arrival, context, respond)
                    return await self._admitted(arrival, context, respond)
        except TimeoutError:
            if not limit.expired():
                raise
            if arrival.running is not None and arrival.running.ended is not None:
                raise arrival.running.ended from None
            text = f"The work was not done within {seconds:.3f} s and was stopped. Allow more time, or narrow it."
            raise BrokerError(
                ErrorReason.DEADLINE_EXCEEDED, text, metadata={"deadline_seconds": f"{seconds:.3f}"}
            ) from None

    async def _watched(
        self, watch: str, arrival: Arrival, context: Context, respond: Respond
    ) -> bytes | None:
        self.telemetry.watch_streams(watch, 1)
        try:
            return await self._admitted(arrival, context, respond)
        finally:
            self.telemetry.watch_streams(watch, -1)

    async def _admitted(self, arrival: Arrival, context: Context, respond: Respond) -> bytes | None:
        """Authenticates, then hands over to the servicer."""
        if self.gate.closed and not arrival.endpoint.while_draining:
            raise self.gate.refusal()
        if arrival.unknown is not None:
            raise arrival.unknown
        if arrival.principal is None:
            principal = await self.authenticator.authenticate(arrival.metadata, context.peer())
            arrival.principal = lowered(principal, arrival.metadata)
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
                attempt=number(arrival.metadata.get("grpc-previous-rpc-attempts", ""), 0),
                trace=self.telemetry.carrier(),
                payload=len(arrival.raw),
            ),
            self._receives(arrival),
            arrival.raw,
        )
        return await respond(arrival.call, arrival.message)

    def _trailers(self, arrival: Arrival) -> tuple[tuple[str, str], ...]:
        notes = {"request-id": arrival.request_id, **arrival.notes()}
        return tuple([(PREFIX + name, value) for name, value in notes.items()])

    def _cancelled(self, arrival: Arrival, span: ServerCall) -> None:
        """A deadline of the caller arrives as a cancellation too; the clock tells them apart.

        The wire rounds long timeouts up by as much as a hundredth, so the caller's own may pass that much earlier.
        """
        late = False
        if arrival.deadline is not None:
            given = arrival.deadline.at - arrival.started
            late = arrival.deadline.remaining(self.clock.monotonic()) < max(0.005, given * 0.015)
        self._finished(arrival, span, "DEADLINE_EXCEEDED" if late else "CANCELLED")

    def _finished(self, arrival: Arrival, span: ServerCall, code: str, reason: str = "") -> None:
        span.status(code, reason)
        seconds = self.clock.monotonic() - arrival.started
        notes, principal = arrival.notes(), arrival.principal
        repeat(span.span, notes)
        log_call(arrival.method, code, seconds, arrival.request_id, principal, notes, reason)


async def _abort(context: Context, refusal: Refusal, trailers: tuple[tuple[str, str], ...]) -> Never:
    await context.abort(refusal.code, refusal.message, (*refusal.trailers, *trailers))
