"""The gRPC server: services, health, reflection, start, drain."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import cast

import grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from broker.transport.call import Service
from broker.transport.call_path import CallPath
from broker.transport.health import Check, Health, Readiness
from broker.transport.options import ServerOptions, Tls
from broker.transport.unknown import UnknownMethods

HEALTH_SERVICE = "grpc.health.v1.Health"
LAST_WORDS = 1.0
"""Seconds in which calls that are ended by a drain may still say so."""


class Generic:
    """A server that looks methods up by name, instead of waiting for calls of each method by itself.

    grpc.aio keeps a task for every registered method and watches all of them anew for every call, which costs as many
    microseconds as there are methods, twice. But each task takes one call at a time from the library, and the next one
    only when the loop has turned: so methods that may come in floods are registered, and only they. Generated code
    registers all; here it is not let.
    """

    def __init__(self, server: grpc.aio.Server) -> None:
        self._server = server

    @property
    def stub(self) -> grpc.aio.Server:
        """As generated code wants it."""
        return cast("grpc.aio.Server", self)

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Adds handlers that find their methods by name."""
        self._server.add_generic_rpc_handlers(handlers)

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, object]) -> None:
        """Registers nothing: the same methods are found by name."""


class Server:
    """Serves the given services on one event loop.

    ``checks`` say by full service name when a service can work; a check returns, or raises.
    """

    def __init__(
        self, path: CallPath, services: Sequence[Service], checks: Mapping[str, Check], options: ServerOptions
    ) -> None:
        names = tuple(service.name for service in services)
        unknown = set(checks) - set(names)
        if unknown:
            raise ValueError(f"checks for services that are not served: {sorted(unknown)}")
        self._options = options
        self._path, self._gate = path, path.gate
        self.health = Health(names)
        self._readiness = Readiness(self.health, names, checks, options.check_interval, options.check_timeout)
        self._watching: asyncio.Task[None] | None = None
        self._draining: asyncio.Task[None] | None = None
        self._server = grpc.aio.server(
            options=options.channel_options(), maximum_concurrent_rpcs=options.max_calls
        )
        for service in services:
            self._register(path, service)
        generic = Generic(self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self.health, generic.stub)
        if options.reflection:
            reflection.enable_server_reflection(
                (*names, HEALTH_SERVICE, reflection.SERVICE_NAME), generic.stub
            )
        self._server.add_generic_rpc_handlers((UnknownMethods(path.telemetry, path.statuses, path.ids),))

    def _register(self, path: CallPath, service: Service) -> None:
        service.check()
        handlers = {
            name: path.handler(service.name, name, endpoint) for name, endpoint in service.endpoints.items()
        }
        generic = grpc.method_handlers_generic_handler(service.name, handlers)
        self._server.add_generic_rpc_handlers((generic,))
        flooded = {name: handlers[name] for name, endpoint in service.endpoints.items() if endpoint.pool}
        self._server.add_registered_method_handlers(service.name, flooded)

    async def start(self) -> int:
        """Listens, runs the readiness checks once, and returns the port.

        Raises:
            OSError: The address cannot be listened on.
        """
        address = self._options.address
        try:
            if self._options.tls is None:
                port = self._server.add_insecure_port(address)
            else:
                port = self._server.add_secure_port(address, credentials(self._options.tls))
        except RuntimeError as error:
            text = f"cannot listen on {address}; is another server running there? `server.port` chooses another port"
            raise OSError(text) from error
        await self._server.start()
        await self._readiness.once()
        self._watching = asyncio.create_task(self._readiness.run(), name="readiness")
        return port

    async def drain(self, grace: float | None = None) -> None:
        """Stops serving without losing work; later calls wait for the first one.

        Reports NOT_SERVING, waits for load balancers to notice, refuses new calls and ends watches, then gives running
        calls ``grace`` seconds (the configured time when None) before they are ended with DRAINING.
        """
        if self._draining is None:
            seconds = self._options.drain_grace if grace is None else grace
            self._draining = asyncio.create_task(self._drain(seconds), name="drain")
        await asyncio.shield(self._draining)

    async def _drain(self, grace: float) -> None:
        self.health.shut_down()
        await asyncio.sleep(self._options.drain_notice)
        self._gate.close()
        self.health.close()
        stopping = asyncio.create_task(self._server.stop(grace + LAST_WORDS), name="stop")
        await asyncio.wait([stopping], timeout=grace)
        if not stopping.done():
            self._gate.end()
        await stopping
        self._path.unread.flush()
        if self._watching is not None:
            self._watching.cancel()
            with suppress(asyncio.CancelledError):
                await self._watching

    async def wait_closed(self) -> None:
        """Returns once the server has stopped."""
        await self._server.wait_for_termination()


def credentials(tls: Tls) -> grpc.ServerCredentials:
    """Credentials of the server."""
    return grpc.ssl_server_credentials(
        [(tls.key, tls.certificate)],
        root_certificates=tls.client_ca or None,
        require_client_auth=bool(tls.client_ca),
    )
