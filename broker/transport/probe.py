"""Asks a broker for its health, as a load balancer or ``broker ping`` does."""

from __future__ import annotations

from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from querybroker.errors import QueryBrokerError


async def probe(channel: grpc.aio.Channel, service: str, seconds: float) -> str:
    """The state of a service (empty: of all of them), such as ``SERVING`` or ``NOT_SERVING``.

    Raises:
        QueryBrokerError: Nothing answers within ``seconds``, or there is no service of that name.
    """
    stub: Any = health_pb2_grpc.HealthStub(channel)
    try:
        response = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=seconds)
    except grpc.aio.AioRpcError as error:
        raise QueryBrokerError.from_rpc_error(error) from error
    return health_pb2.HealthCheckResponse.ServingStatus.Name(response.status)
