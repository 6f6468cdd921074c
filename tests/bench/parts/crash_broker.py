"""The part of a broker that stores jobs, there to be killed: `python -m tests.bench.parts.crash_broker DSN`.

Reads lines ``REQUEST_ID KIND`` and answers each with ``REQUEST_ID JOB_ID`` once the job is stored, or with ``REQUEST_ID
!`` when it could not say whether it is.
"""

from __future__ import annotations

import asyncio
import os
import sys
import uuid
from random import Random
from time import monotonic

from broker.adapters.pg_jobs_open import PgJobs, open_jobs
from broker.domain.errors import BrokerError
from tests.support.jobs import submission


async def main(dsn: str) -> None:
    """Serves until it is killed, or its input ends."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    opened = open_jobs(dsn, connections=4, clock=monotonic, rng=Random(os.getpid()))
    async with opened as ports, asyncio.TaskGroup() as answers:
        while line := await reader.readline():
            request_id, kind = line.decode().split()
            answers.create_task(_answer(ports, request_id, kind))


async def _answer(ports: PgJobs, request_id: str, kind: str) -> None:
    given = submission(id=uuid.uuid4().hex, request_id=request_id, kind=kind, max_attempts=100)
    try:
        answer = (await ports.store.submit(given)).id
    except BrokerError:
        answer = "!"
    os.write(1, f"{request_id} {answer}\n".encode())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
