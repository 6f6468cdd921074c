"""Asynchronous calls with the client's own errors."""

from __future__ import annotations

from typing import Any, TypeVar

import grpc

from querybroker.channel import Connection
from querybroker.errors import QueryBrokerError

R = TypeVar("R")
T = TypeVar("T")


async def answer(
    connection: Connection, method: grpc.aio.UnaryUnaryMultiCallable[R, T], request: R, given: dict[str, Any]
) -> T:
    """The response of a call.

    Raises:
        QueryBrokerError: The call failed, or was not sent.
    """
    sent = connection.sending()
    try:
        response = await method(request, **given)
    except grpc.aio.AioRpcError as error:
        problem = QueryBrokerError.from_rpc_error(error)
        if sent is not None:
            sent.failed(problem)
        raise problem from error
    if sent is not None:
        sent.accepted()
    return response
