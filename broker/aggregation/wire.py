"""The protobuf wire format of single fields: https://protobuf.dev/programming-guides/encoding/.

A message is a list of byte strings, joined once at the end.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

Parts = list[bytes]

LENGTH_DELIMITED = 2
"""Wire type of messages, strings and packed numbers."""
MORE = 0x80
"""Set in every byte of a varint but the last."""


@lru_cache(maxsize=1 << 14)
def varint(value: int) -> bytes:
    """One non-negative number, seven bits to a byte, lowest first. Instants of buckets come again and again."""
    out = bytearray()
    while value >= MORE:
        out.append(value & 0x7F | MORE)
        value >>= 7
    out.append(value)
    return bytes(out)


def varints(values: Iterable[int]) -> bytes:
    """Many numbers one after the other. Those of one to four bytes are put together without a call."""
    return b"".join([
        _SMALL[v] if v < _SMALLS else _LOW[v & _SMALLS - 1] + _SMALL[v >> 14] if v < 1 << 28 else varint(v)
        for v in values
    ])  # fmt: skip


_SMALLS = 1 << 14
_SMALL = tuple(bytes((v,)) if v < MORE else bytes((v & 0x7F | MORE, v >> 7)) for v in range(_SMALLS))
"""The numbers of one and two bytes."""
_LOW = tuple(bytes((v & 0x7F | MORE, v >> 7 | MORE)) for v in range(_SMALLS))
"""The lowest fourteen bits of larger ones."""


def number(field: int, value: int) -> Parts:
    """A field with a non-negative number; zero is the default and left out."""
    return [varint(field << 3), varint(value)] if value else []


def text(field: int, value: str) -> Parts:
    """A string field; an empty string is the default and left out."""
    return message(field, [value.encode()]) if value else []


def message(field: int, parts: Parts) -> Parts:
    """A field that holds a message or bytes, also when it is empty."""
    size = sum(map(len, parts))
    return [varint(field << 3 | LENGTH_DELIMITED) + varint(size), *parts]


def packed(field: int, data: bytes) -> Parts:
    """A packed repeated field; without elements it is left out."""
    return message(field, [data]) if data else []


def strings(field: int, values: Iterable[str]) -> bytes:
    """A repeated string field with few elements."""
    tag = varint(field << 3 | LENGTH_DELIMITED)
    return b"".join(tag + varint(len(data)) + data for data in (value.encode() for value in values))
