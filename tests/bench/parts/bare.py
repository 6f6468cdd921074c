"""The least server of gRPC in a process of its own: one method, a handler of bytes, no deadline, no limit."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import grpc
import grpc.aio

Read: TypeAlias = "Callable[[bytes, grpc.aio.ServicerContext[bytes, bytes]], Awaitable[bytes]]"


class _One(grpc.GenericRpcHandler):
    """A service of one method."""

    def __init__(self, method: str, read: Read) -> None:
        self.method, self.read = method, read

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        """The handler of the only method."""
        return grpc.unary_unary_rpc_method_handler(self.read) if details.method == self.method else None


async def serve(method: str, read: Read) -> None:
    """Serves on any free port, which it prints, until standard input ends."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((_One(method, read),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(None)


@asynccontextmanager
async def running(module: str, *arguments: str) -> AsyncIterator[str]:
    """Starts a module that serves so; yields its address."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *arguments,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield f"127.0.0.1:{int(await process.stdout.readline())}"
    finally:
        process.stdin.close()
        await process.wait()
