"""Worker processes for tests of jobs: started, killed, paused."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.jobs import Jobs
from tests.support.processes import ended


@dataclass(frozen=True, slots=True)
class Process:
    """A worker process."""

    handle: asyncio.subprocess.Process
    worker_id: str


@asynccontextmanager
async def worker_process(
    jobs: Jobs, directory: Path, seconds: float = 3600.0, ranges: int = 1
) -> AsyncIterator[Process]:
    """A worker process that is ready, killed at the end if it still runs. Exports are cut into ``ranges``."""
    arguments = (jobs.dsn, str(directory), str(seconds), str(ranges))
    handle = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.job_worker_main", *arguments, stdout=asyncio.subprocess.PIPE
    )
    assert handle.stdout is not None
    try:
        async with asyncio.timeout(60):
            line = await handle.stdout.readline()
        yield Process(handle, line.decode().strip())
    finally:
        if handle.returncode is None:
            handle.send_signal(signal.SIGCONT)
            handle.kill()
        await handle.stdout.read()  # until everybody who inherited it has ended, children included
        await handle.wait()


async def kill(jobs: Jobs, process: Process) -> None:
    """Kills a worker process and lets its lease end."""
    process.handle.kill()
    await ended(process.handle.pid)
    await jobs.lose(process.worker_id)
