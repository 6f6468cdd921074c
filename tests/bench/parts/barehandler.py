"""The least that could answer from a rollup table over gRPC: two statements in one REPEATABLE READ transaction.

Run as a process: ``python -m tests.bench.parts.barehandler DSN``. It prints its port. A request is a JSON list of the
query's values, instants in ISO format; the answer is JSON. There is no admission, no cache, no deadline, no status.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import asyncpg
import grpc
import grpc.aio
import uvloop

from tests.bench.parts.rollup_shapes import SELECTIVE, Call

METHOD = "/byhand.Rollups/Read"
CONNECTIONS = 10
STATE = "SELECT refresh_time FROM hand_state"


class Rollups(grpc.GenericRpcHandler):
    """The service."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self.pool = pool

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        """The handler of the only method."""
        return grpc.unary_unary_rpc_method_handler(self.read) if details.method == METHOD else None

    async def read(self, request: bytes, _: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        """Answers one request."""
        start, end, carrier = json.loads(request)
        async with (
            self.pool.acquire() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            as_of = await connection.fetchval(STATE)
            rows = await connection.fetch(
                SELECTIVE.table, datetime.fromisoformat(start), datetime.fromisoformat(end), carrier
            )
        return json.dumps(
            [as_of.isoformat(), *([row[0].isoformat(), int(row[1]), int(row[2]), row[3]] for row in rows)]
        ).encode()


def request(call: Call) -> bytes:
    """A request."""
    return json.dumps([call.start.isoformat(), call.end.isoformat(), call.carrier]).encode()


async def unchanged(_: object) -> None:
    """Nothing is to be reset on a connection: saves a round trip per use."""


async def serve(dsn: str) -> None:
    """Serves until standard input ends."""
    async with asyncpg.create_pool(dsn, min_size=CONNECTIONS, max_size=CONNECTIONS, reset=unchanged) as pool:
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((Rollups(pool),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        print(port, flush=True)
        await asyncio.to_thread(sys.stdin.read)
        await server.stop(None)


@asynccontextmanager
async def running(dsn: str) -> AsyncIterator[str]:
    """Starts it in a process of its own; yields its address."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.parts.barehandler", dsn,
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
    uvloop.run(serve(sys.argv[1]))
