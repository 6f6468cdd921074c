"""The broker's end of a worker's socket: one request at a time, one reply to it."""

from __future__ import annotations

import asyncio
import socket
from typing import cast

from broker.aggregation.framing import HEAD, Reply, Request, dump, load

_BUFFER = 1 << 20


class Lost(Exception):  # noqa: N818 - an outcome of a request, not an error of the caller
    """The worker ended before it replied."""


class Connection(asyncio.BufferedProtocol):
    """Frames on a socket. Replies are read straight into a buffer of their size."""

    def __init__(self) -> None:
        self._transport: asyncio.WriteTransport | None = None
        self._reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._head = bytearray(HEAD.size)
        self._target = memoryview(self._head)
        self._filled = 0

    @property
    def greeting(self) -> asyncio.Future[Reply]:
        """The first reply, which nobody has asked for: the worker is ready."""
        return self._reply

    def send(self, request: Request) -> asyncio.Future[Reply]:
        """Sends a request; the future gives its reply, or raises :class:`Lost`."""
        self._reply = asyncio.get_running_loop().create_future()
        if self._transport is None:
            self._reply.set_exception(Lost())
        else:
            self._transport.writelines(dump(request))
        return self._reply

    def close(self) -> None:
        """Closes the socket at once."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is open."""
        self._transport = cast("asyncio.WriteTransport", transport)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the loop's interface
        """Where the next bytes go."""
        return self._target[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes have come; a frame may be complete."""
        self._filled += nbytes
        if self._filled < len(self._target):
            return
        frame, self._filled = self._target, 0
        if len(frame) == HEAD.size and frame.obj is self._head:
            self._target = memoryview(bytearray(*HEAD.unpack(frame)))
            return
        self._target = memoryview(self._head)
        if not self._reply.done():
            self._reply.set_result(load(frame))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the loop's interface
        """The worker has ended, or the socket was closed here."""
        self._transport = None
        if not self._reply.done():
            self._reply.set_exception(Lost())
            self._reply.exception()  # seen: nobody may be waiting any more


async def connect() -> tuple[Connection, socket.socket]:
    """A connection, and the worker's end of it, which is to be closed once it has been handed over."""
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
    ours.setblocking(False)
    try:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_unix_connection(Connection, sock=ours)
    except BaseException:
        ours.close()
        theirs.close()
        raise
    return connection, theirs
