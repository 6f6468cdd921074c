"""How an answer is written in a tier that processes share.

An entry is a fixed head in ASCII and numbers, the reach as JSON, the rest of the answer as JSON without what has its
default, and the bytes of the table as they are::

    magic 4 | as_of 16 hex | layout 8 hex | digest 16 bytes | lengths of both texts 2 x 4 bytes | reach | rest | table

The digest is over everything else. It finds what was cut off, mixed up or written by something else; it is no
signature, and keeps nobody out who may write to the tier. The layout is a hash of the fields of all values within, so
that processes of different releases never misread each other: they only miss.
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import ClassVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from broker.domain.answer import AnswerStatus, Table
from broker.domain.held import Content, Held, Reach
from broker.domain.rollup import micros
from broker.domain.values import Column, ResultFormat
from broker.policy import query_json

MAGIC = b"QBA1"
PREFIX = 1024
"""So many bytes of an entry are looked at to find its reach; where that is longer it counts as unknown."""


class CorruptEntryError(Exception):
    """The bytes are not the entry that was asked for; the text says in which way."""


@dataclass(frozen=True, slots=True)
class _Rest:
    """What an entry holds beside reach and table; ``until`` is when it ends, ``key`` where it belongs.

    ``content`` is JSON in itself: its values are of several types, which must come back as they were.
    """

    __pydantic_config__: ClassVar = ConfigDict(ser_json_inf_nan="constants")

    key: str
    until: datetime
    columns: tuple[Column, ...]
    row_count: int
    format: ResultFormat
    status: AnswerStatus
    moment: str = ""
    seconds: float = 0.0
    content: str = ""


_REACH, _REST = TypeAdapter(Reach), TypeAdapter(_Rest)
LAYOUT = hashlib.blake2b(
    json.dumps(
        [_REACH.json_schema(), _REST.json_schema(), [(f.name, str(f.type)) for f in fields(Content)]],
        sort_keys=True,
    ).encode(),
    digest_size=4,
).hexdigest()
_LENGTHS = struct.Struct(">II")
_DIGEST = 28, 44
_HEAD = _DIGEST[1] + _LENGTHS.size


@dataclass(frozen=True, slots=True)
class Entry:
    """An answer and the instant at which it ends."""

    held: Held
    until: datetime


def encode(entry: Entry) -> bytes:
    """The bytes of an entry."""
    held = entry.held
    table = held.table
    content = "" if held.content is None else json.dumps(query_json.encode(held.content))
    rest = _Rest(
        held.key, entry.until, table.columns, table.row_count, table.format, held.status, held.moment, held.seconds,
        content,
    )  # fmt: skip
    reach = _REACH.dump_json(held.reach, exclude_defaults=True)
    text = _REST.dump_json(rest, exclude_defaults=True)
    first = MAGIC + rank(held.as_of) + LAYOUT.encode()
    lengths = _LENGTHS.pack(len(reach), len(text))
    digest = _digest(first, lengths + reach + text, table.encoded)
    return b"".join((first, digest, lengths, reach, text, table.encoded))


def decode(key: str, data: bytes) -> Entry:
    """The entry under a key. Raises `CorruptEntryError`, also for an entry of another key, version or layout."""
    if data[:4] != MAGIC or data[20:28] != LAYOUT.encode():
        raise CorruptEntryError("version")
    if len(data) < _HEAD or _digest(data[: _DIGEST[0]], data[_DIGEST[1] :]) != data[slice(*_DIGEST)]:
        raise CorruptEntryError("digest")
    reach_length, length = _LENGTHS.unpack_from(data, _DIGEST[1])
    middle, end = _HEAD + reach_length, _HEAD + reach_length + length
    try:
        reach = _REACH.validate_json(data[_HEAD:middle])
        rest = _REST.validate_json(data[middle:end])
        content = query_json.decode(json.loads(rest.content)) if rest.content else None
    except (ValueError, TypeError, KeyError) as error:
        raise CorruptEntryError("fields") from error
    if rest.key != key or not isinstance(content, Content | None):
        raise CorruptEntryError("key")
    table = Table(rest.columns, rest.row_count, rest.format, data[end:])
    return Entry(Held(key, table, rest.status, reach, rest.moment, rest.seconds, content), rest.until)


def reach_of(first: bytes) -> Reach | None:
    """The reach of an entry by its first `PREFIX` bytes; None where it cannot be told."""
    if first[:4] != MAGIC or len(first) < _HEAD:
        return None
    end = _HEAD + _LENGTHS.unpack_from(first, _DIGEST[1])[0]
    if end > len(first):
        return None
    try:
        return _REACH.validate_json(first[_HEAD:end])
    except ValidationError:
        return None


def rank(as_of: datetime) -> bytes:
    """Text that is the greater the later the instant."""
    return b"%016x" % micros(as_of.astimezone(UTC))


def _digest(*parts: bytes) -> bytes:
    state = hashlib.blake2b(digest_size=_DIGEST[1] - _DIGEST[0])
    for part in parts:
        state.update(part)
    return state.digest()
