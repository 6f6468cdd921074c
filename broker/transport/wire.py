"""Protobuf fields written by hand, so that bytes which are encoded already are sent as they are.

A serialized message is the concatenation of its fields, and a nested message is a field of bytes. So an answer is put
together from a cached table and a fresh status without decoding either (protobuf.dev, "Encoding").
"""

from __future__ import annotations

from functools import lru_cache

_LENGTH_DELIMITED = 2
WIDE = 12
"""Bytes of a `wide` duration: each of its numbers in five, after its tag."""


def varint(number: int) -> bytes:
    """A non-negative integer, seven bits to a byte, lowest first."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def integer(field: int, number: int) -> bytes:
    """A non-negative integer field; the default 0 takes no bytes."""
    return varint(field << 3) + varint(number) if number else b""


@lru_cache(maxsize=1 << 12)
def head(field: int, size: int) -> bytes:
    """What stands before the ``size`` bytes of a nested message, a string or bytes."""
    return varint(field << 3 | _LENGTH_DELIMITED) + varint(size)


def nested(field: int, encoded: bytes) -> bytes:
    """A nested message, a string or bytes."""
    return head(field, len(encoded)) + encoded


def text(field: int, value: str) -> bytes:
    """A string field; the empty default takes no bytes."""
    return nested(field, value.encode()) if value else b""


def wide(seconds: float) -> bytes:
    """A message Duration of non-negative seconds that takes as many bytes whatever it is."""
    nanos = round(seconds * 1e9)
    nanos = max(nanos, 0)
    s, n = divmod(nanos, 1_000_000_000)
    return bytes((
        0x08, s & 127 | 128, s >> 7 & 127 | 128, s >> 14 & 127 | 128, s >> 21 & 127 | 128, s >> 28 & 127,
        0x10, n & 127 | 128, n >> 7 & 127 | 128, n >> 14 & 127 | 128, n >> 21 & 127 | 128, n >> 28,
    ))  # fmt: skip
