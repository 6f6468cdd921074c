"""gRPC calls straight on HTTP/2, for a generator of traffic that must not take the processors from what it measures.

What traffic of a benchmark does not need is left out: TLS, compression of messages, several messages to the server.
What the server sees is kept: a connection for each caller, compressed headers, flow control, answered pings, deadlines,
and calls that are cancelled when theirs has passed. The server is asked not to compress its own headers (RFC 7541, a
table of 0 bytes) and to send binary metadata as it is, so that trailers can be read as they stand.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS, PADDED, PRIORITY, ACK = 0x1, 0x4, 0x8, 0x20, 0x1
HEADER_TABLE_SIZE, ENABLE_PUSH, INITIAL_WINDOW, TRUE_BINARY = 1, 2, 4, 0xFE03
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
WINDOW = 2**31 - 1
INITIAL = 65_535
STATIC_ENTRIES = 61
CANCELLED = 8
TIMED_OUT = 4
"""The status of a call whose deadline passed before the server said anything, as gRPC numbers it."""
LOST = -1
"""The status of a call that ended without one."""
_STATUS = re.compile(rb"\x0bgrpc-status(?:\x01(\d)|\x02(\d\d))")


@dataclass(slots=True, eq=False)
class Reply:
    """What came back: the messages, framed as they were, and the trailers as they stood on the wire."""

    status: int = TIMED_OUT
    body: bytearray = field(default_factory=bytearray)
    trailers: bytes = b""

    @property
    def message(self) -> bytes:
        """The only message of a unary call."""
        return bytes(self.body[5:])


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """A frame of HTTP/2."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def _setting(name: int, value: int) -> bytes:
    return name.to_bytes(2, "big") + value.to_bytes(4, "big")


def _text(text: bytes) -> bytes:
    if len(text) > 126:
        raise ValueError("a header is longer than this client writes")
    return bytes((len(text),)) + text


class Connection(asyncio.Protocol):
    """One connection. ``metadata`` goes with every call; a message fits into a frame, which has 16 KiB."""

    def __init__(self, authority: str, metadata: Sequence[tuple[str, str]]) -> None:
        self._loop = asyncio.get_running_loop()
        common = (
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("user-agent", "bench"),
            *metadata,
        )
        self._first = ((":method", "POST"), (":scheme", "http"), (":authority", authority))
        self._common = common
        self._table: list[tuple[str, str]] = []
        self._transport: asyncio.Transport | None = None
        self._calls: dict[int, tuple[Reply, asyncio.Future[Reply]]] = {}
        self._next = 1
        self._window = INITIAL
        self._unsent: list[bytes] = []
        self._received = 0
        self._buffer = b""
        self.lost = False
        """Whether new calls need another connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = written = cast("asyncio.Transport", transport)
        settings = (
            _setting(HEADER_TABLE_SIZE, 0), _setting(ENABLE_PUSH, 0), _setting(INITIAL_WINDOW, WINDOW),
            _setting(TRUE_BINARY, 1),
        )  # fmt: skip
        written.write(PREFACE + frame(SETTINGS, 0, 0, b"".join(settings)) + _grown(WINDOW - INITIAL))

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        for number in list(self._calls):
            self._end(number, LOST)

    async def call(self, path: str, message: bytes, seconds: float) -> Reply:
        """One call with one message; the reply is complete, or its status says that the deadline passed."""
        assert self._transport is not None
        number, self._next = self._next, self._next + 2
        future: asyncio.Future[Reply] = self._loop.create_future()
        self._calls[number] = Reply(), future
        timer = self._loop.call_later(seconds, self._late, number)
        head = self._headers(path, seconds)
        body = b"\x00" + len(message).to_bytes(4, "big") + message
        size = len(body)
        sent = frame(HEADERS, END_HEADERS, number, head)
        data = frame(DATA, END_STREAM, number, body)
        if self._unsent or size > self._window:
            self._transport.write(sent)
            self._unsent.append(data)
        else:
            self._window -= size
            self._transport.write(sent + data)
        try:
            return await future
        finally:
            timer.cancel()

    def close(self) -> None:
        """Ends the connection."""
        if self._transport is not None:
            self._transport.close()

    def _headers(self, path: str, seconds: float) -> bytes:
        timeout = f"{min(99_999_999, max(1, round(seconds * 1e6)))}u"
        fields = (*self._first, (":path", path), *self._common)
        return b"".join(map(self._field, fields)) + b"\x00" + _text(b"grpc-timeout") + _text(timeout.encode())

    def _field(self, entry: tuple[str, str]) -> bytes:
        """A header by its place in the table that the server keeps, where it is put when it is sent first."""
        table = self._table
        if entry in table:
            return bytes((0x80 | (STATIC_ENTRIES + len(table) - table.index(entry)),))
        table.append(entry)
        name, value = entry
        return b"\x40" + _text(name.encode()) + _text(value.encode())

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        at, size = 0, len(buffer)
        while size - at >= 9:
            end = at + 9 + int.from_bytes(buffer[at : at + 3], "big")
            if end > size:
                break
            stream = int.from_bytes(buffer[at + 5 : at + 9], "big") & WINDOW
            self._frame(buffer[at + 3], buffer[at + 4], stream, buffer[at + 9 : end])
            at = end
        self._buffer = buffer[at:]

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        assert self._transport is not None
        if kind == DATA:
            self._data(flags, stream, payload)
        elif kind == HEADERS:
            self._head(flags, stream, payload)
        elif kind == WINDOW_UPDATE and not stream:
            self._window += int.from_bytes(payload, "big")
            self._flush()
        elif kind == RST_STREAM:
            self._end(stream, LOST)
        elif kind in (PING, SETTINGS) and not flags & ACK:
            self._transport.write(frame(kind, ACK, 0, payload if kind == PING else b""))
        elif kind == GOAWAY:
            self.lost = True  # what was sent is answered all the same
        elif kind == CONTINUATION:
            raise ValueError("headers in a shape that this client does not read")

    def _data(self, flags: int, stream: int, payload: bytes) -> None:
        assert self._transport is not None
        self._received += len(payload)
        if self._received > WINDOW // 2:
            self._transport.write(_grown(self._received))
            self._received = 0
        if (call := self._calls.get(stream)) is not None:
            call[0].body += payload
            if flags & END_STREAM:
                self._end(stream, LOST)

    def _head(self, flags: int, stream: int, payload: bytes) -> None:
        if not flags & END_HEADERS or flags & (PADDED | PRIORITY):
            raise ValueError("headers in a shape that this client does not read")
        if flags & END_STREAM and (call := self._calls.get(stream)) is not None:
            found = _STATUS.search(payload)
            if found is None:
                raise ValueError("trailers in a shape that this client does not read")
            call[0].trailers = payload
            self._end(stream, int(found[1] or found[2]))

    def _flush(self) -> None:
        assert self._transport is not None
        while self._unsent and len(self._unsent[0]) - 9 <= self._window:
            data = self._unsent.pop(0)
            self._window -= len(data) - 9
            self._transport.write(data)

    def _late(self, number: int) -> None:
        assert self._transport is not None
        if number in self._calls:
            self._unsent = [data for data in self._unsent if data[5:9] != number.to_bytes(4, "big")]
            self._transport.write(frame(RST_STREAM, 0, number, CANCELLED.to_bytes(4, "big")))
            self._end(number, TIMED_OUT)

    def _end(self, number: int, status: int) -> None:
        call = self._calls.pop(number, None)
        if call is not None and not call[1].done():
            reply, future = call
            reply.status = status
            future.set_result(reply)


def _grown(size: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, 0, size.to_bytes(4, "big"))


async def connect(address: str, metadata: Sequence[tuple[str, str]] = ()) -> Connection:
    """A connection to ``host:port``."""
    host, _, port = address.rpartition(":")
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(lambda: Connection(address, metadata), host, int(port))
    return connection
