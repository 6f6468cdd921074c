# ruff: noqa: ASYNC109 - a timeout here is gRPC's deadline, which travels to the server
"""The cache of a broker, for operators; asynchronously."""

from __future__ import annotations

import grpc

from querybroker.calls import answer
from querybroker.channel import Connection
from querybroker.v1 import admin_service_pb2 as pb
from querybroker.v1 import answer_pb2
from querybroker.v1.admin_service_pb2_grpc import AdminServiceStub


class Cache:
    """Shows the tiers of the cache and removes answers; every method needs the grant ``admin``."""

    def __init__(self, channel: grpc.aio.Channel, connection: Connection) -> None:
        self._stub = AdminServiceStub(channel)
        self._connection = connection

    async def tiers(self, *, timeout: float | None = None) -> list[pb.CacheState]:
        """The tiers of the broker that answers, nearest first."""
        given = self._connection.unary(timeout=timeout)
        request = pb.GetStateRequest()
        return list((await answer(self._connection, self._stub.GetState, request, given)).state.caches)

    async def invalidate(
        self,
        dataset: str = "",
        *,
        rollup: str = "",
        interval: answer_pb2.TimeInterval | None = None,
        timeout: float | None = None,
    ) -> int:
        """Removes answers from all tiers of all brokers that share one; how many this broker found.

        Args:
            dataset: Name of a dataset; empty for all.
            rollup: Resource name of a rollup: only answers that it gave.
            interval: Only answers that touch it.
            timeout: Seconds that the call may take.
        """
        given = self._connection.unary(timeout=timeout)
        name = f"datasets/{dataset}" if dataset else ""
        request = pb.InvalidateCacheRequest(dataset=name, rollup=rollup, interval=interval)
        return (await answer(self._connection, self._stub.InvalidateCache, request, given)).removed_count
