"""An empty handler of grpc.aio: whatever is asked, it returns the same bytes. What no server in Python can go below.

Run as a process: ``python -m tests.bench.parts.emptyhandler FILE PORT``; port 0 takes a free one, which is printed,
another is shared with the processes that listen on it already.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import uvloop


async def serve(body: bytes, service: str, method: str, port: int) -> None:
    """Serves until standard input ends."""

    async def handle(_request: bytes, _context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        return body

    handler: grpc.RpcMethodHandler[Any, Any] = grpc.unary_unary_rpc_method_handler(handle)
    server = grpc.aio.server(options=[("grpc.so_reuseport", 1)])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    server.add_registered_method_handlers(service, {method: handler})
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    print(bound, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(None)


@asynccontextmanager
async def running(body: Path, path: str, processes: int) -> AsyncIterator[tuple[str, list[int]]]:
    """Starts it in so many processes on one port; yields their address and their numbers."""
    service, _, method = path.strip("/").rpartition("/")
    port, started = 0, []
    async with AsyncExitStack() as stack:
        for _ in range(processes):
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.bench.parts.emptyhandler", str(body), service, method, str(port),
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
            assert process.stdin is not None
            assert process.stdout is not None
            stack.push_async_callback(process.wait)
            stack.callback(process.stdin.close)
            port = int(await process.stdout.readline())
            started.append(process.pid)
        yield f"127.0.0.1:{port}", started


if __name__ == "__main__":
    uvloop.run(serve(Path(sys.argv[1]).read_bytes(), sys.argv[2], sys.argv[3], int(sys.argv[4])))
