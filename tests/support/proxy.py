"""A TCP proxy before a server, through which a test sees and breaks connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from enum import Enum
from urllib.parse import urlsplit


class Way(Enum):
    """What becomes of a new connection."""

    THROUGH = "through"
    """It reaches the server."""
    RESET = "reset"
    """It is accepted and closed at once, as by a proxy whose server is away."""
    SILENCE = "silence"
    """It is accepted, and nothing comes back, as when packets are dropped."""


class Proxy:
    """Stands before ``host:port``. ``attempts`` counts the connections that somebody tried to make."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._resets = 0
        self._moving = asyncio.Event()
        self._moving.set()
        self.delay = 0.0
        """Seconds by which everything that comes is late."""
        self.way = Way.THROUGH
        self.attempts = 0
        self.port = 0

    def reset_next(self, count: int) -> None:
        """The next connections are reset, whatever the way."""
        self._resets = count

    def cut(self) -> None:
        """Ends all connections."""
        for writer in tuple(self._writers):
            writer.transport.abort()

    def halt(self) -> None:
        """Connections stay, and nothing gets through them in either direction, as when packets are dropped."""
        self._moving.clear()

    def go_on(self) -> None:
        """Ends a halt; what came meanwhile gets through."""
        self._moving.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.attempts += 1
        self._writers.add(writer)
        try:
            if self._resets > 0 or self.way is Way.RESET:
                self._resets -= 1
                return
            if self.way is Way.SILENCE:
                await reader.read()  # until the other side gives up
                return
            there, back = await asyncio.open_connection(self._host, self._port)
            self._writers.add(back)
            try:
                await asyncio.gather(self._pump(reader, back), self._pump(there, writer))
            finally:
                self._writers.discard(back)
                back.transport.abort()
        except (
            OSError,
            RuntimeError,
        ):  # the server is away, or a connection was cut: the other side sees its end
            return  # uvloop calls a transport that is closed a RuntimeError
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            if self.delay:
                await asyncio.sleep(self.delay)
            await self._moving.wait()
            writer.write(data)
            await writer.drain()
        with suppress(OSError):
            writer.write_eof()


@asynccontextmanager
async def proxied(dsn: str) -> AsyncIterator[tuple[Proxy, str]]:
    """A proxy before the server of an address, and the address through it."""
    parts = urlsplit(dsn)
    assert parts.hostname is not None
    assert parts.port is not None
    proxy = Proxy(parts.hostname, parts.port)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy, dsn.replace(f":{parts.port}/", f":{proxy.port}/")
    finally:
        server.close()
        proxy.cut()
        await server.wait_closed()
