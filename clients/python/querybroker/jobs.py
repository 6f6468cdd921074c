# ruff: noqa: ASYNC109 - a timeout here is gRPC's deadline, which travels to the server
"""Jobs, asynchronously."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterable, Mapping
from datetime import datetime
from pathlib import Path

import grpc

from querybroker.calls import answer
from querybroker.channel import Connection
from querybroker.errors import QueryBrokerError
from querybroker.requests import FileFormat, Policy, Work, failed, list_request, submit_request
from querybroker.resume import Download, Patience, Watch
from querybroker.v1 import admin_service_pb2, job_pb2
from querybroker.v1 import job_service_pb2 as pb
from querybroker.v1.admin_service_pb2_grpc import AdminServiceStub
from querybroker.v1.job_service_pb2_grpc import JobServiceStub


class Jobs:
    """Submits, watches and reads jobs. A job is named by its resource name, ``tenants/{tenant}/jobs/{job}``."""

    def __init__(self, channel: grpc.aio.Channel, connection: Connection) -> None:
        self._stub = JobServiceStub(channel)
        self._admin = AdminServiceStub(channel)
        self._connection = connection

    async def submit(
        self,
        work: Work,
        *,
        format: FileFormat = "parquet",
        policy: Policy = None,
        priority: int | None = None,
        labels: Mapping[str, str] | None = None,
        start_by: datetime | None = None,
        request_id: str = "",
        validate_only: bool = False,
        timeout: float | None = None,
    ) -> job_pb2.Job:
        """Stores a job and returns it.

        A query or SQL is exported to a file of the format. Submitting again with the same ``request_id`` returns the
        job that exists.
        """
        request = submit_request(
            work, format, policy, priority, labels, start_by, request_id, validate_only=validate_only
        )
        given = self._connection.unary(request.request_id, timeout)
        return (await answer(self._connection, self._stub.SubmitJob, request, given)).job

    async def get(self, name: str, *, timeout: float | None = None) -> job_pb2.Job:
        """A job as it is now."""
        given = self._connection.unary(timeout=timeout)
        return (await answer(self._connection, self._stub.GetJob, pb.GetJobRequest(name=name), given)).job

    async def list(
        self,
        *,
        states: Iterable[str] = (),
        kind: str = "",
        all_owners: bool = False,
        dead_lettered: bool = False,
        timeout: float | None = None,
    ) -> AsyncGenerator[job_pb2.Job, None]:
        """Jobs, newest first, page by page as they are read; states by name, such as ``running``."""
        request = list_request(states, kind, all_owners=all_owners, dead_lettered=dead_lettered)
        while True:
            given = self._connection.unary(timeout=timeout)
            page = await answer(self._connection, self._stub.ListJobs, request, given)
            for job in page.jobs:
                yield job
            request.page_token = page.next_page_token
            if not request.page_token:
                return

    async def cancel(self, name: str, *, timeout: float | None = None) -> job_pb2.Job:
        """Asks a job to stop."""
        given = self._connection.unary(timeout=timeout)
        return (
            await answer(self._connection, self._stub.CancelJob, pb.CancelJobRequest(name=name), given)
        ).job

    async def requeue(self, name: str, *, attempts: int = 1, timeout: float | None = None) -> job_pb2.Job:
        """Puts a job of the dead-letter queue back into the queue, with so many attempts more."""
        given = self._connection.unary(timeout=timeout)
        request = admin_service_pb2.RequeueJobRequest(name=name, extra_attempts=attempts)
        return (await answer(self._connection, self._admin.RequeueJob, request, given)).job

    async def delete(self, name: str, *, timeout: float | None = None) -> None:
        """Deletes a job that has ended, with its result."""
        given = self._connection.unary(timeout=timeout)
        request = admin_service_pb2.DeleteJobRequest(name=name)
        await answer(self._connection, self._admin.DeleteJob, request, given)

    async def watch(
        self, name: str, *, after_revision: int = 0, timeout: float | None = None
    ) -> AsyncGenerator[job_pb2.Job, None]:
        """The job as it changes, to its final state; goes on by itself when the connection breaks."""
        watch, patience = Watch(name, after_revision), Patience(time.monotonic, timeout)
        while not watch.done:
            given = self._connection.stream(timeout=patience.left())
            call = self._stub.WatchJob(watch.request(), **given)
            try:
                async for event in call:
                    patience.progressed()
                    if (job := watch.accept(event)) is not None:
                        yield job
                problem = watch.broken()
            except grpc.aio.AioRpcError as error:
                problem = QueryBrokerError.from_rpc_error(error)
            finally:
                call.cancel()
            if not watch.done:
                await asyncio.sleep(patience.delay(problem))

    async def wait(self, name: str, *, timeout: float | None = None) -> job_pb2.Job:
        """The job once it has succeeded; raises its error when it has not."""
        latest = job_pb2.Job(name=name)
        async for job in self.watch(name, timeout=timeout):
            latest = job
        if (problem := failed(latest)) is not None:
            raise problem
        return latest

    async def read(
        self, name: str, part_index: int = 0, *, offset: int = 0, timeout: float | None = None
    ) -> AsyncGenerator[bytes, None]:
        """The bytes of a file of a result; goes on by itself when the connection breaks.

        When the file is read from its beginning, its SHA-256 is verified at the end.

        Raises:
            ChecksumError: The bytes are not the ones that were written.
        """
        download, patience = Download(name, part_index, offset), Patience(time.monotonic, timeout)
        while not download.done:
            given = self._connection.stream(timeout=patience.left())
            call = self._stub.ReadJobResult(download.request(), **given)
            try:
                async for piece in call:
                    patience.progressed()
                    if data := download.accept(piece):
                        yield data
                problem = download.finish()
            except grpc.aio.AioRpcError as error:
                problem = QueryBrokerError.from_rpc_error(error)
            finally:
                call.cancel()
            if not download.done:
                await asyncio.sleep(patience.delay(problem))

    async def download(
        self, name: str, path: str | Path, part_index: int = 0, *, timeout: float | None = None
    ) -> Path:
        """Writes a file of a result; it appears under its name only once it is complete and verified."""
        target = Path(path)
        if await asyncio.to_thread(target.is_dir):
            raise IsADirectoryError(f"{target} is a folder; give the name of a file in it")
        partial = target.with_name(f"{target.name}.part")
        try:
            with partial.open("wb") as file:
                async for data in self.read(name, part_index, timeout=timeout):
                    await asyncio.to_thread(file.write, data)
            return partial.replace(target)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
