"""One request over and over on one HTTP/2 connection, for servers that are as quick as a client in Python.

Of what comes back only the ends of calls are looked for, so that a call costs the sender a few microseconds: a client
that does more would be what is measured. The first response is looked at whole, by another client.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import cast

from tests.bench.parts.wire import (
    ACK,
    DATA,
    ENABLE_PUSH,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADER_TABLE_SIZE,
    HEADERS,
    INITIAL,
    INITIAL_WINDOW,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    WINDOW,
    WINDOW_UPDATE,
    frame,
)

DEADLINE = 60
"""Seconds that each call may take."""
OK = b"\x0bgrpc-status\x010"


class Flood(asyncio.Protocol):
    """A connection that keeps ``width`` calls under way until it is told to stop, or begins them ``once``."""

    def __init__(self, path: str, message: bytes, authority: str, width: int, *, once: bool = False) -> None:
        fields = (
            (":method", "POST"), (":scheme", "http"), (":path", path), (":authority", authority), ("te", "trailers"),
            ("content-type", "application/grpc"), ("user-agent", "bench"), ("grpc-timeout", f"{DEADLINE}S"),
        )  # fmt: skip
        head = b"".join(b"\x00" + _text(name) + _text(value) for name, value in fields)
        body = b"\x00" + len(message).to_bytes(4, "big") + message
        self._head = frame(HEADERS, END_HEADERS, 0, head)
        self._body = frame(DATA, END_STREAM, 0, body)
        self._size = len(body)
        self._width = width
        self._next = 1
        self._window, self._received, self._buffer = INITIAL, 0, b""
        self._running: dict[int, float] = {}
        self._transport: asyncio.Transport | None = None
        self._stopped = once
        self._done = asyncio.get_running_loop().create_future()
        self.seconds: list[float] = []
        """What each call took."""
        self.failures = 0
        """Calls that ended otherwise than OK."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        pairs = ((HEADER_TABLE_SIZE, 0), (ENABLE_PUSH, 0), (INITIAL_WINDOW, WINDOW))
        settings = b"".join(name.to_bytes(2, "big") + value.to_bytes(4, "big") for name, value in pairs)
        grown = frame(WINDOW_UPDATE, 0, 0, (WINDOW - INITIAL).to_bytes(4, "big"))
        self._transport.write(PREFACE + frame(SETTINGS, 0, 0, settings) + grown)
        for _ in range(self._width):
            self._call()

    def connection_lost(self, exc: Exception | None) -> None:
        self._finish()

    async def stop(self) -> None:
        """Begins no more calls and waits for those that run, unless the connection is lost."""
        self._stopped = True
        if self._running:
            await self._done
        if self._transport is not None:
            self._transport.close()

    @property
    def lost(self) -> int:
        """Calls that the connection took with it."""
        return len(self._running)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        at, size = 0, len(buffer)
        while size - at >= 9:
            end = at + 9 + int.from_bytes(buffer[at : at + 3], "big")
            if end > size:
                break
            kind, flags = buffer[at + 3], buffer[at + 4]
            if kind == DATA:
                self._received += end - at - 9
            elif kind == HEADERS:
                if flags & END_STREAM:
                    self._ended(int.from_bytes(buffer[at + 5 : at + 9], "big"), OK in buffer[at:end])
            elif kind == WINDOW_UPDATE and not any(buffer[at + 5 : at + 9]):
                self._window += int.from_bytes(buffer[at + 9 : end], "big")
            else:
                self._other(kind, flags, buffer[at + 5 : at + 9], buffer[at + 9 : end])
            at = end
        self._buffer = buffer[at:]
        if self._received > WINDOW // 2:
            self._write(frame(WINDOW_UPDATE, 0, 0, self._received.to_bytes(4, "big")))
            self._received = 0

    def _other(self, kind: int, flags: int, stream: bytes, payload: bytes) -> None:
        if kind in (PING, SETTINGS) and not flags & ACK:
            self._write(frame(kind, ACK, 0, payload if kind == PING else b""))
        elif kind == RST_STREAM:
            self._ended(int.from_bytes(stream, "big"), good=False)
        elif kind == GOAWAY:
            self._stopped = True

    def _call(self) -> None:
        number, self._next = self._next, self._next + 2
        if self._window < self._size:
            raise RuntimeError("the server reads too slowly for this client")
        self._window -= self._size
        name = number.to_bytes(4, "big")
        self._running[number] = time.perf_counter()
        self._write(self._head[:5] + name + self._head[9:] + self._body[:5] + name + self._body[9:])

    def _ended(self, number: int, good: bool) -> None:
        began = self._running.pop(number, None)
        if began is None:
            return  # a server may reset a stream that has ended
        self.seconds.append(time.perf_counter() - began)
        self.failures += not good
        if not self._stopped:
            self._call()
        elif not self._running:
            self._finish()

    def _finish(self) -> None:
        if not self._done.done():
            self._done.set_result(None)

    def _write(self, data: bytes) -> None:
        assert self._transport is not None
        self._transport.write(data)


def _text(text: str) -> bytes:
    return bytes((len(text),)) + text.encode()


async def connected(address: str, path: str, message: bytes, width: int, *, once: bool = False) -> Flood:
    """A connection that floods ``host:port``."""
    host, _, port = address.rpartition(":")
    loop = asyncio.get_running_loop()
    _, flooding = await loop.create_connection(
        lambda: Flood(path, message, address, width, once=once), host, int(port)
    )
    return flooding


async def flood(
    address: str, path: str, message: bytes, seconds: float, connections: int, width: int
) -> Sequence[float]:
    """What every call of so many seconds took, over so many connections with ``width`` calls under way on each.

    Raises:
        RuntimeError: A call ended otherwise than OK.
    """
    floods = [await connected(address, path, message, width) for _ in range(connections)]
    await asyncio.sleep(seconds)
    await asyncio.gather(*(each.stop() for each in floods))
    if failures := sum(each.failures for each in floods):
        raise RuntimeError(f"{failures} calls of {address} failed")
    return [took for each in floods for took in each.seconds]
