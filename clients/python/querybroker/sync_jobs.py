"""Jobs, synchronously."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import grpc

from querybroker.channel import Connection
from querybroker.errors import QueryBrokerError
from querybroker.requests import FileFormat, Policy, Work, failed, list_request, submit_request
from querybroker.resume import Download, Patience, Watch
from querybroker.v1 import admin_service_pb2, job_pb2
from querybroker.v1 import job_service_pb2 as pb
from querybroker.v1.admin_service_pb2_grpc import AdminServiceStub
from querybroker.v1.job_service_pb2_grpc import JobServiceStub


@contextmanager
def called(connection: Connection) -> Iterator[None]:
    """Counts the call that is made inside, and raises gRPC's errors as :class:`QueryBrokerError`."""
    sent = connection.sending()
    try:
        yield
    except grpc.RpcError as error:
        problem = QueryBrokerError.from_rpc_error(error)
        if sent is not None:
            sent.failed(problem)
        raise problem from error
    if sent is not None:
        sent.accepted()


class SyncJobs:
    """Submits, watches and reads jobs. A job is named by its resource name, ``tenants/{tenant}/jobs/{job}``."""

    def __init__(self, channel: grpc.Channel, connection: Connection) -> None:
        self._stub = JobServiceStub(channel)
        self._admin = AdminServiceStub(channel)
        self._connection = connection

    def submit(
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
        with called(self._connection):
            return self._stub.SubmitJob(request, **self._connection.unary(request.request_id, timeout)).job

    def get(self, name: str, *, timeout: float | None = None) -> job_pb2.Job:
        """A job as it is now."""
        with called(self._connection):
            return self._stub.GetJob(
                pb.GetJobRequest(name=name), **self._connection.unary(timeout=timeout)
            ).job

    def list(
        self,
        *,
        states: Iterable[str] = (),
        kind: str = "",
        all_owners: bool = False,
        dead_lettered: bool = False,
        timeout: float | None = None,
    ) -> Generator[job_pb2.Job, None, None]:
        """Jobs, newest first, page by page as they are read; states by name, such as ``running``."""
        request = list_request(states, kind, all_owners=all_owners, dead_lettered=dead_lettered)
        while True:
            with called(self._connection):
                page = self._stub.ListJobs(request, **self._connection.unary(timeout=timeout))
            yield from page.jobs
            request.page_token = page.next_page_token
            if not request.page_token:
                return

    def cancel(self, name: str, *, timeout: float | None = None) -> job_pb2.Job:
        """Asks a job to stop."""
        with called(self._connection):
            return self._stub.CancelJob(
                pb.CancelJobRequest(name=name), **self._connection.unary(timeout=timeout)
            ).job

    def requeue(self, name: str, *, attempts: int = 1, timeout: float | None = None) -> job_pb2.Job:
        """Puts a job of the dead-letter queue back into the queue, with so many attempts more."""
        request = admin_service_pb2.RequeueJobRequest(name=name, extra_attempts=attempts)
        with called(self._connection):
            return self._admin.RequeueJob(request, **self._connection.unary(timeout=timeout)).job

    def delete(self, name: str, *, timeout: float | None = None) -> None:
        """Deletes a job that has ended, with its result."""
        request = admin_service_pb2.DeleteJobRequest(name=name)
        with called(self._connection):
            self._admin.DeleteJob(request, **self._connection.unary(timeout=timeout))

    def watch(
        self, name: str, *, after_revision: int = 0, timeout: float | None = None
    ) -> Generator[job_pb2.Job, None, None]:
        """The job as it changes, to its final state; goes on by itself when the connection breaks."""
        watch, patience = Watch(name, after_revision), Patience(time.monotonic, timeout)
        while not watch.done:
            call = self._stub.WatchJob(watch.request(), **self._connection.stream(timeout=patience.left()))
            try:
                for event in call:
                    patience.progressed()
                    if (job := watch.accept(event)) is not None:
                        yield job
                problem = watch.broken()
            except grpc.RpcError as error:
                problem = QueryBrokerError.from_rpc_error(error)
            finally:
                call.cancel()
            if not watch.done:
                _pause(patience.delay(problem))

    def wait(self, name: str, *, timeout: float | None = None) -> job_pb2.Job:
        """The job once it has succeeded; raises its error when it has not."""
        latest = job_pb2.Job(name=name)
        for job in self.watch(name, timeout=timeout):
            latest = job
        if (problem := failed(latest)) is not None:
            raise problem
        return latest

    def read(
        self, name: str, part_index: int = 0, *, offset: int = 0, timeout: float | None = None
    ) -> Generator[bytes, None, None]:
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
                for piece in call:
                    patience.progressed()
                    if data := download.accept(piece):
                        yield data
                problem = download.finish()
            except grpc.RpcError as error:
                problem = QueryBrokerError.from_rpc_error(error)
            finally:
                call.cancel()
            if not download.done:
                _pause(patience.delay(problem))

    def download(
        self, name: str, path: str | Path, part_index: int = 0, *, timeout: float | None = None
    ) -> Path:
        """Writes a file of a result; it appears under its name only once it is complete and verified."""
        target = Path(path)
        if target.is_dir():
            raise IsADirectoryError(f"{target} is a folder; give the name of a file in it")
        partial = target.with_name(f"{target.name}.part")
        try:
            with partial.open("wb") as file:
                for data in self.read(name, part_index, timeout=timeout):
                    file.write(data)
            return partial.replace(target)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


def _pause(seconds: float) -> None:
    threading.Event().wait(seconds)
