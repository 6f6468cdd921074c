"""grpc.health.v1: one state per service, set by readiness checks.

Own code rather than the library's servicer, because that one begins as SERVING, offers no List, and keeps Watch streams
open while the server stops, so that one watching client would make every drain take its whole grace.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc

OVERALL = ""
LIVENESS = "liveness"
"""Proves that the event loop turns, and nothing else."""
Check = Callable[[], Awaitable[object]]
"""Returns when a service can work, raises when it cannot."""
_Status = health_pb2.HealthCheckResponse
_LOG = logging.getLogger(__name__)


class Health(health_pb2_grpc.HealthServicer):
    """The states. Everything begins as NOT_SERVING; after :meth:`shut_down` nothing serves any more."""

    def __init__(self, services: Iterable[str]) -> None:
        self._serving = dict.fromkeys((OVERALL, LIVENESS, *services), False)
        self._changed = asyncio.Event()
        self._down = False
        self._closed = False

    def report(self, service: str, *, serving: bool) -> None:
        """Sets a state and tells the watchers."""
        if self._down or self._serving[service] == serving:
            return
        self._serving[service] = serving
        _LOG.info("health of %r: %s", service, "serving" if serving else "not serving")
        self._notify()

    def shut_down(self) -> None:
        """Reports every service but liveness as NOT_SERVING, for good."""
        self._down = True
        self._serving.update({name: False for name in self._serving if name != LIVENESS})
        self._notify()

    def close(self) -> None:
        """Ends the Watch streams, so that they do not hold up the server's stop."""
        self._closed = True
        self._notify()

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _state(self, service: str) -> health_pb2.HealthCheckResponse:
        serving = self._serving.get(service)
        if serving is None:
            return _Status(status=_Status.SERVICE_UNKNOWN)
        return _Status(status=_Status.SERVING if serving else _Status.NOT_SERVING)

    async def Check(  # noqa: N802 - named by the contract
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> health_pb2.HealthCheckResponse:
        """The state of one service."""
        if request.service not in self._serving:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no service {request.service!r}")
        return self._state(request.service)

    async def Watch(  # noqa: N802 - named by the contract
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> None:
        """The state of one service, now and after every change."""
        last: health_pb2.HealthCheckResponse | None = None
        while not self._closed:
            changed, state = self._changed, self._state(request.service)
            if state != last:
                await context.write(state)
                last = state
            await changed.wait()

    async def List(  # noqa: N802 - named by the contract
        self, _request: Message, _context: grpc.aio.ServicerContext[Any, Any]
    ) -> Message:
        """The states of all services (gRFC A90)."""
        states = {name: self._state(name) for name in self._serving}
        response: Message = health_pb2.HealthListResponse(statuses=states)  # type: ignore[attr-defined] # newer than its types
        return response


@dataclass(frozen=True, slots=True)
class Readiness:
    """Keeps the states up to date. ``interval`` and ``timeout`` are in seconds; ``failing`` has been told in the log.

    A service without a check serves as soon as the server does. The server as a whole serves while one of the checked
    services does.
    """

    health: Health
    services: tuple[str, ...]
    checks: Mapping[str, Check]
    interval: float
    timeout: float
    failing: set[str] = field(default_factory=set)

    async def once(self) -> None:
        """Runs every check, side by side."""
        results = await asyncio.gather(*(self._passes(name, check) for name, check in self.checks.items()))
        for name, passed in zip(self.checks, results, strict=True):
            self.health.report(name, serving=passed)
        for name in self.services:
            if name not in self.checks:
                self.health.report(name, serving=True)
        self.health.report(LIVENESS, serving=True)
        self.health.report(OVERALL, serving=any(results) or not results)

    async def run(self) -> None:
        """Runs the checks again and again, until cancelled."""
        while True:
            await self.once()
            await asyncio.sleep(self.interval)

    async def _passes(self, name: str, check: Check) -> bool:
        try:
            async with asyncio.timeout(self.timeout):
                await check()
        except Exception as error:  # noqa: BLE001 - whatever a check raises means that the service cannot work
            if name not in self.failing:
                self.failing.add(name)
                _LOG.warning("%s cannot serve: %s", name, str(error) or type(error).__name__)
            return False
        self.failing.discard(name)
        return True
