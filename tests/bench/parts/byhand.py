"""What people write by hand: a gRPC service over asyncpg, with a semaphore before it or with nothing.

Run as a process: ``python -m tests.bench.parts.byhand DSN SEATS``; 0 seats admit everything, up to a hundred
connections, and -1 declines everything at once. It prints its port. A request is two instants in ISO format; the answer
is JSON.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from datetime import datetime

import asyncpg
import grpc
import grpc.aio
import uvloop

from tests.bench.parts import bare

METHOD = "/byhand.Reports/Read"
CONNECTIONS = 100
DECLINE = -1


@dataclass(frozen=True)
class Reports:
    """The service. Without a pool it declines."""

    pool: asyncpg.Pool | None
    seats: asyncio.Semaphore | None
    sql: str

    async def read(self, request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        """Answers one request within its deadline."""
        if self.pool is None:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "no seat is free")
        start, end = (datetime.fromisoformat(text) for text in request.decode().split())
        async with asyncio.timeout(context.time_remaining()), AsyncExitStack() as stack:
            if self.seats is not None:
                await stack.enter_async_context(self.seats)
            rows = await self.pool.fetch(self.sql, start, end)
        return json.dumps([[str(value) for value in row] for row in rows]).encode()


async def serve(dsn: str, seats: int, sql: str) -> None:
    """Serves until standard input ends."""
    size = seats or CONNECTIONS
    async with AsyncExitStack() as stack:
        pool = None
        if seats != DECLINE:
            pool = await stack.enter_async_context(
                asyncpg.create_pool(dsn, min_size=min(size, 8), max_size=size)
            )
        reports = Reports(pool, asyncio.Semaphore(seats) if seats > 0 else None, sql)
        await bare.serve(METHOD, reports.read)


def running(dsn: str, seats: int, sql: str) -> AbstractAsyncContextManager[str]:
    """Starts it in a process of its own; yields its address."""
    return bare.running("tests.bench.parts.byhand", dsn, str(seats), sql)


if __name__ == "__main__":
    logging.getLogger("grpc").setLevel(logging.CRITICAL)  # of callers that leave, which is what some do here
    uvloop.run(serve(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
