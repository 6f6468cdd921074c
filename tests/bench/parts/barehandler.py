"""The least that could answer from a rollup table over gRPC: two statements in one REPEATABLE READ transaction.

Run as a process: ``python -m tests.bench.parts.barehandler DSN``. It prints its port. A request is a JSON list of the
query's values, instants in ISO format; the answer is JSON. There is no admission, no cache, no deadline, no status.
"""

from __future__ import annotations

import json
import sys
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime

import asyncpg
import grpc.aio
import uvloop

from tests.bench.parts import bare
from tests.bench.parts.rollup_shapes import SELECTIVE, Call

METHOD = "/byhand.Rollups/Read"
CONNECTIONS = 10
STATE = "SELECT refresh_time FROM hand_state"


@dataclass(frozen=True)
class Rollups:
    """The service."""

    pool: asyncpg.Pool

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
        await bare.serve(METHOD, Rollups(pool).read)


def running(dsn: str) -> AbstractAsyncContextManager[str]:
    """Starts it in a process of its own; yields its address."""
    return bare.running("tests.bench.parts.barehandler", dsn)


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1]))
