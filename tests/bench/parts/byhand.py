"""What people write by hand: a gRPC service over asyncpg, with a semaphore before it or with nothing.

Run as a process: ``python -m tests.bench.parts.byhand DSN SEATS``; 0 seats admit everything, up to a hundred
connections, and -1 declines everything at once. It prints its port. A request is two instants in ISO format; the answer
is JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from typing import Any

import asyncpg
import grpc
import grpc.aio
import uvloop

METHOD = "/byhand.Reports/Read"
CONNECTIONS = 100
DECLINE = -1


class Reports(grpc.GenericRpcHandler):
    """The service. Without a pool it declines."""

    def __init__(self, pool: asyncpg.Pool | None, seats: asyncio.Semaphore | None, sql: str) -> None:
        self.pool, self.seats, self.sql = pool, seats, sql

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        """The handler of the only method."""
        return grpc.unary_unary_rpc_method_handler(self.read) if details.method == METHOD else None

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
        server = grpc.aio.server()
        server.add_generic_rpc_handlers(
            (Reports(pool, asyncio.Semaphore(seats) if seats > 0 else None, sql),)
        )
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        print(port, flush=True)
        await asyncio.to_thread(sys.stdin.read)
        await server.stop(None)


@asynccontextmanager
async def running(dsn: str, seats: int, sql: str) -> AsyncIterator[str]:
    """Starts it in a process of its own; yields its address."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.parts.byhand", dsn, str(seats), sql,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield f"127.0.0.1:{int(await process.stdout.readline())}"
    finally:
        process.stdin.close()
        await process.wait()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
