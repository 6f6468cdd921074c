"""How channels are set up: retries, sizes, keepalive, credentials, metadata."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import grpc

from querybroker.errors import ThrottledError
from querybroker.throttle import Sent, Throttle, Throttled

MIB = 1024 * 1024
MAX_RESPONSE = 64 * MIB
_RETRY = {
    "maxAttempts": 3,
    "initialBackoff": "0.2s",
    "maxBackoff": "5s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}
_JOBS = ("SubmitJob", "GetJob", "ListJobs", "CancelJob")
_SAFE_TO_REPEAT = [
    {"service": "querybroker.v1.QueryService"},
    {"service": "querybroker.v1.CatalogService"},
    *({"service": "querybroker.v1.JobService", "method": method} for method in _JOBS),
]

SERVICE_CONFIG = json.dumps(
    {
        "loadBalancingConfig": [{"round_robin": {}}],
        "methodConfig": [{"name": _SAFE_TO_REPEAT, "retryPolicy": _RETRY}],
        "retryThrottling": {"maxTokens": 100, "tokenRatio": 0.1},
    }
)
"""Calls that are safe to repeat are tried up to three times while a server is away or full; the server says how long to
wait, or not to (gRFC A6), and no call is repeated while much fails. SubmitJob is among them because this client always
gives it a request id; WatchJob and ReadJobResult are not, because they go on by themselves from where they broke off,
and two that retry multiply. There are no timeouts here: Python misfires them (grpc/grpc issues 34547, 40633), so every
call is given its own."""


Inject = Callable[[MutableMapping[str, str]], None]


def trace_injector() -> Inject:
    """Writes the current trace context, where OpenTelemetry is installed."""
    if find_spec("opentelemetry") is None:
        return lambda _headers: None
    inject: Inject = import_module("opentelemetry.propagate").inject
    return inject


@dataclass(frozen=True, slots=True)
class Connection:
    """Where the broker is, and as whom to speak to it.

    ``target`` is a gRPC target such as ``localhost:50051``, ``dns:///broker.example.com:443`` (all addresses are used
    in turn) or ``unix:/run/broker.sock``. ``tls`` is True for the system's authorities, or the PEM text of others.
    ``timeout`` in seconds is for calls that name none of their own. ``throttle`` keeps calls back from a broker that
    refuses most of them; None lets all through.
    """

    target: str
    api_key: str = field(default="", repr=False)
    tls: bool | bytes = False
    metadata: tuple[tuple[str, str], ...] = ()
    timeout: float = 30.0
    max_response_bytes: int = MAX_RESPONSE
    throttle: Throttle | None = None
    inject: Inject = field(default_factory=trace_injector, repr=False)

    def options(self) -> list[tuple[str, str | int]]:
        """Arguments of the channel."""
        return [
            ("grpc.service_config", SERVICE_CONFIG),
            ("grpc.max_receive_message_length", self.max_response_bytes),
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.keepalive_timeout_ms", 10_000),
        ]

    def credentials(self) -> grpc.ChannelCredentials | None:
        """Credentials of the channel, None for plain HTTP/2."""
        if self.tls is False:
            return None
        return grpc.ssl_channel_credentials(None if self.tls is True else self.tls)

    def sending(self) -> Sent | None:
        """Counts a call that is about to be sent; None when nothing is counted.

        Raises:
            ThrottledError: The call is not to be sent.
        """
        if self.throttle is None:
            return None
        found = self.throttle.ask()
        if isinstance(found, Throttled):
            raise ThrottledError(
                self.target, sent=found.sent, refused=found.refused, window=found.window, share=found.share
            )
        return found

    def unary(self, request_id: str = "", timeout: float | None = None) -> dict[str, Any]:
        """Arguments of a call with one response: its own time or that of the connection."""
        return self.stream(request_id, self.timeout if timeout is None else timeout)

    def stream(self, request_id: str = "", timeout: float | None = None) -> dict[str, Any]:
        """Arguments of a call with a stream of responses; None leaves the time to the server."""
        return {"timeout": timeout, "metadata": self.headers(request_id or new_request_id())}

    def headers(self, request_id: str) -> tuple[tuple[str, str], ...]:
        """Metadata of a call: identity, request id, the largest response, and the current trace."""
        headers = {"x-request-id": request_id, "querybroker-max-response-bytes": str(self.max_response_bytes)}
        if self.api_key:
            headers["x-api-key"] = self.api_key
        self.inject(headers)
        return (*headers.items(), *self.metadata)


def new_request_id() -> str:
    """A UUID4."""
    return str(uuid.uuid4())
