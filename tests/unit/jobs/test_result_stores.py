"""What every store of result files does, in a directory as in a bucket."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path

import pytest

from broker.adapters.result_dir import DirectoryResults
from broker.adapters.result_s3 import S3Results
from broker.ports.results import ResultStore


@pytest.fixture(params=["directory", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ResultStore:
    """A store of this test's own, in which there has been nothing yet."""
    if request.param == "directory":
        return DirectoryResults(tmp_path / "new")
    return S3Results(f"{request.getfixturevalue('bucket')}/{uuid.uuid4()}/deep", tmp_path)


async def read(store: ResultStore, key: str, offset: int = 0) -> list[bytes]:
    return [piece async for piece in store.read(key, offset, 4)]


async def published(store: ResultStore, prefix: str, data: bytes) -> str:
    async with store.stage(prefix) as staging:
        (Path(staging.directory) / "a").write_bytes(data)
        (Path(staging.directory) / "lost").write_bytes(b"2")
        with pytest.raises(FileNotFoundError):
            await read(store, f"{prefix}/a")
        return await staging.publish("a")


async def test_a_published_file_is_read_from_any_offset_and_others_are_not_there(store: ResultStore) -> None:
    key = await published(store, "ac%2Eme/j/1", b"0123456789")
    assert key == "ac%2Eme/j/1/a"
    assert await read(store, key) == [b"0123", b"4567", b"89"]
    assert await read(store, key, offset=7) == [b"789"]
    assert await read(store, key, offset=10) == []
    assert await read(store, key, offset=99) == []
    with pytest.raises(FileNotFoundError):
        await read(store, "ac%2Eme/j/1/lost")


async def test_a_copy_stays_when_the_file_that_it_was_made_of_is_deleted(store: ResultStore) -> None:
    key = await published(store, "acme/j/1", b"0123")
    copied = await store.copy(key, "acme/j/2/0/0")
    await store.delete("acme/j/1")
    assert (copied, await read(store, copied)) == ("acme/j/2/0/0/a", [b"0123"])
    with pytest.raises(FileNotFoundError):
        await store.copy(key, "acme/j/3")


async def test_a_store_belongs_to_the_first_that_asks(store: ResultStore) -> None:
    owners = await asyncio.gather(*map(store.owner, ("one", "two", "three")))
    assert len(set(owners)) == 1
    assert owners[0] in {"one", "two", "three"}
    assert await store.owner("four") == owners[0]
    assert await store.prefixes() == [], "the file that says so is no result"
