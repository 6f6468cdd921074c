"""Asynchronous calls with the client's own errors."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

import grpc

from querybroker.errors import QueryBrokerError

T = TypeVar("T")


async def answer(call: Awaitable[T]) -> T:
    """The response of a call.

    Raises:
        QueryBrokerError: The call failed.
    """
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        raise QueryBrokerError.from_rpc_error(error) from error
