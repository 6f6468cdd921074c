"""A result store without room: named, told once in the log, and tried again after a while, not at once."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path

import polars as pl
import pytest

from broker.adapters.result_dir import _publish
from broker.domain.errors import ErrorReason
from broker.domain.job import ExportFormat, JobResult, JobState
from broker.domain.room import RETRY_SECONDS, no_room
from broker.domain.values import Column, ColumnRole, DataType
from broker.jobs.child import Channel
from broker.jobs.kind import JobContext
from broker.jobs.order import Failed
from broker.jobs.sinks import HashingFile, open_sink
from broker.jobs.writer import telling
from tests.support.jobs import Jobs, submission
from tests.support.result_files import files_in
from tests.support.workers import worker


class Told(Channel):
    """What a child says, instead of a socket."""

    def __init__(self) -> None:
        self.messages: list[object] = []

    def send(self, message: object) -> None:
        self.messages.append(message)


def full(*_: object, **__: object) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("call", ["write", "fsync"])
@pytest.mark.parametrize("encoding", list(ExportFormat))
def test_a_child_names_what_is_full(
    call: str, encoding: ExportFormat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns, told = (Column("a", DataType.INT64, ColumnRole.DIMENSION),), Told()

    def write() -> None:
        file = HashingFile(tmp_path / "part")
        with monkeypatch.context() as patched:
            patched.setattr(os, call, full)
            sink = open_sink(encoding, columns, file)
            sink.write(pl.DataFrame({"a": [1, 2]}))
            sink.close()
            file.sync()

    telling(told, write)
    (failed,) = told.messages
    assert isinstance(failed, Failed)
    assert failed.error.reason is ErrorReason.STORE_UNAVAILABLE
    assert failed.error.metadata == {"store": "results", "error": "ENOSPC"}
    assert str(tmp_path) not in failed.error.message
    assert failed.detail == f"[Errno 28] No space left on device: '{tmp_path}/part'"


async def test_an_attempt_without_room_waits_for_some(
    jobs: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The fault is at the file system: a staged file cannot be given its name, as when directories cannot grow."""

    async def publishes(context: JobContext) -> JobResult:
        async with context.results.stage(context.prefix) as staging:
            (Path(staging.directory) / "a").write_bytes(b"1")
            await staging.publish("a")
        return JobResult()

    def no_name(source: Path, target: Path) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), str(target))

    monkeypatch.setattr(_publish, "__defaults__", (no_name,))
    caplog.set_level(logging.WARNING)
    async with worker(jobs.ports, publishes, tmp_path):
        submitted = await jobs.ports.store.submit(submission())
        waiting = await jobs.until(submitted.id, lambda job: job.failure is not None)
    assert (waiting.state, waiting.attempt) == (JobState.QUEUED, 1)
    assert waiting.failure is not None
    assert (waiting.failure.reason, waiting.failure.metadata["error"]) == ("STORE_UNAVAILABLE", "EDQUOT")
    left = await jobs.admin.fetchval(
        "SELECT extract(epoch FROM run_at - update_time)::float8 FROM broker.job WHERE id = $1", waiting.id
    )
    assert left == pytest.approx(RETRY_SECONDS, abs=1.0)
    (told,) = [record for record in caplog.records if "no room" in record.getMessage()]
    assert (told.exc_info, str(tmp_path) in told.getMessage()) == (None, True)
    assert not files_in(tmp_path)


def test_other_errors_of_files_are_what_they_were() -> None:
    assert no_room(OSError(errno.EIO, "Input/output error")) is None
    assert no_room(ValueError("28")) is None
