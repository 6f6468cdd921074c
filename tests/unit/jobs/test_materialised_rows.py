"""Rows of datasets that jobs made: read once, compared with what was written, and held within a limit."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import cast

import pytest

from broker.domain.answer import AnswerKind, AnswerStatus, Exactness
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.job import ResultPart
from broker.domain.materialised import Materialised
from broker.jobs.materialised_rows import MaterialisedRows
from broker.ports.results import ResultStore

NOW = datetime(2024, 5, 1, tzinfo=UTC)
STATUS = AnswerStatus(AnswerKind.LIVE, Exactness.EXACT, NOW)
FILE = b"ARROW1\0\0" + b"x" * 92


@dataclass
class Store:
    """Files by key, and how often each was read."""

    files: dict[str, bytes] = field(default_factory=dict)
    reads: list[str] = field(default_factory=list)
    error: Exception | None = None

    async def read(self, key: str, offset: int, chunk: int) -> AsyncGenerator[bytes, None]:
        self.reads.append(key)
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        if key not in self.files:
            raise FileNotFoundError(key)
        yield self.files[key][offset:50]
        yield self.files[key][50:]


def dataset(key: str, data: bytes = FILE, *, inline: bool = False) -> Materialised:
    own = "" if inline else key
    part = ResultPart(0, own, "kept.arrow", "", 1, len(data), hashlib.sha256(data).digest())
    text = data if inline else b""
    return Materialised(f"jobs/{key}", key, (), (part,), text, 1, len(data), STATUS, NOW)


def rows(store: Store, most_bytes: int = 250) -> MaterialisedRows:
    return MaterialisedRows(cast("ResultStore", store), most_bytes)


async def test_questions_at_the_same_time_read_the_files_once() -> None:
    store = Store({"a": FILE})
    read = rows(store)
    found = await asyncio.gather(*(read(dataset("a")) for _ in range(5)))
    assert all(each is found[0] for each in found)
    assert await read(dataset("a")) is found[0]
    assert store.reads == ["a"]
    assert found[0][0].endswith(FILE[8:])


async def test_those_that_were_not_asked_for_longest_go_first() -> None:
    store = Store(dict.fromkeys("abc", FILE))
    read = rows(store)
    for key in "abacaba":
        await read(dataset(key))
    assert store.reads == ["a", "b", "c", "b"]


async def test_few_rows_are_in_the_job_itself() -> None:
    store = Store()
    (table,) = await rows(store)(dataset("a", inline=True))
    assert table.endswith(FILE[8:])
    assert store.reads == []


@pytest.mark.parametrize(
    ("store", "reason"),
    [
        (Store(), ErrorReason.RESULT_EXPIRED),
        (Store({"a": FILE[:-1]}), ErrorReason.STORE_REJECTED),
        (Store(error=OSError("gone")), ErrorReason.STORE_UNAVAILABLE),
    ],
)
async def test_what_cannot_be_read_is_told_and_tried_again(store: Store, reason: ErrorReason) -> None:
    read = rows(store)
    with pytest.raises(BrokerError) as caught:
        await read(dataset("a"))
    assert caught.value.reason is reason
    store.files, store.error = {"a": FILE}, None
    assert len(await read(dataset("a"))) == 1


async def test_who_leaves_does_not_take_the_reading_from_others() -> None:
    store = Store({"a": FILE})
    read = rows(store)
    leaving = asyncio.create_task(_read(read, dataset("a")))
    staying = asyncio.create_task(_read(read, dataset("a")))
    await asyncio.sleep(0)
    leaving.cancel()
    assert await staying == 1
    assert store.reads == ["a"]


async def _read(read: MaterialisedRows, made: Materialised) -> int:
    return len(await read(replace(made)))
