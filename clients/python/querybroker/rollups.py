# ruff: noqa: ASYNC109 - a timeout here is gRPC's deadline, which travels to the server
"""Rollups, for operators; asynchronously."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import grpc

from querybroker.calls import answer
from querybroker.channel import Connection
from querybroker.v1 import admin_service_pb2 as pb
from querybroker.v1 import answer_pb2, job_pb2
from querybroker.v1.admin_service_pb2_grpc import AdminServiceStub


class Rollups:
    """Lists, builds, verifies and drops rollups; every method needs the grant ``admin``.

    A rollup is named by its resource name, ``datasets/{dataset}/rollups/{rollup}``.
    """

    def __init__(self, channel: grpc.aio.Channel, connection: Connection) -> None:
        self._stub = AdminServiceStub(channel)
        self._connection = connection

    async def list(
        self, dataset: str = "", *, timeout: float | None = None
    ) -> AsyncGenerator[pb.Rollup, None]:
        """Rollups by name, of one dataset or of all, page by page as they are read."""
        request = pb.ListRollupsRequest(dataset=f"datasets/{dataset}" if dataset else "")
        while True:
            given = self._connection.unary(timeout=timeout)
            page = await answer(self._connection, self._stub.ListRollups, request, given)
            for rollup in page.rollups:
                yield rollup
            request.page_token = page.next_page_token
            if not request.page_token:
                return

    async def build(
        self, name: str, interval: answer_pb2.TimeInterval | None = None, *, timeout: float | None = None
    ) -> job_pb2.Job:
        """Submits a job that builds a rollup anew, all of it or an interval."""
        given = self._connection.unary(timeout=timeout)
        request = pb.BuildRollupRequest(name=name, interval=interval)
        return (await answer(self._connection, self._stub.BuildRollup, request, given)).job

    async def refresh(
        self, name: str, interval: answer_pb2.TimeInterval | None = None, *, timeout: float | None = None
    ) -> job_pb2.Job:
        """Submits a job that brings up to date what is missing or has changed."""
        given = self._connection.unary(timeout=timeout)
        request = pb.RefreshRollupRequest(name=name, interval=interval)
        return (await answer(self._connection, self._stub.RefreshRollup, request, given)).job

    async def verify(
        self, name: str, interval: answer_pb2.TimeInterval | None = None, *, timeout: float | None = None
    ) -> pb.VerifyRollupResponse:
        """Compares a rollup with its source in one snapshot; one that differs is quarantined."""
        given = self._connection.unary(timeout=timeout)
        request = pb.VerifyRollupRequest(name=name, interval=interval)
        return await answer(self._connection, self._stub.VerifyRollup, request, given)

    async def release(self, name: str, *, timeout: float | None = None) -> pb.Rollup:
        """Lets a quarantined rollup answer again."""
        given = self._connection.unary(timeout=timeout)
        request = pb.ReleaseQuarantineRequest(name=name)
        return (await answer(self._connection, self._stub.ReleaseQuarantine, request, given)).rollup

    async def drop(self, name: str, *, keep_triggers: bool = False, timeout: float | None = None) -> None:
        """Deletes a rollup's data and, unless they are to be kept or others need them, its triggers."""
        given = self._connection.unary(timeout=timeout)
        request = pb.DropRollupRequest(name=name, keep_triggers=keep_triggers)
        await answer(self._connection, self._stub.DropRollup, request, given)
