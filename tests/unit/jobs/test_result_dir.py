"""Result files in a directory: there whole or not at all, told a page at a time, and nothing outside of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from broker.adapters.result_dir import DirectoryResults
from broker.domain.job import part_prefix
from broker.domain.ranges import range_id


async def read(store: DirectoryResults, key: str, offset: int = 0, chunk: int = 4) -> list[bytes]:
    return [piece async for piece in store.read(key, offset, chunk)]


def write(directory: str, name: str, data: bytes) -> None:
    (Path(directory) / name).write_bytes(data)


def names_below(directory: Path) -> set[str]:
    return {path.name for path in directory.rglob("*")}


async def test_what_was_not_published_is_gone(tmp_path: Path) -> None:
    store = DirectoryResults(tmp_path)

    async def fail_half_way() -> None:
        async with store.stage("acme/j/1") as staging:
            write(staging.directory, "kept", b"1")
            write(staging.directory, "lost", b"2")
            await staging.publish("kept")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail_half_way()
    assert await read(store, "acme/j/1/kept") == [b"1"]
    with pytest.raises(FileNotFoundError):
        await read(store, "acme/j/1/lost")
    assert "kept" in names_below(tmp_path)
    assert "lost" not in names_below(tmp_path)


async def test_prefixes_name_what_is_stored_and_what_is_staged(tmp_path: Path) -> None:
    store = DirectoryResults(tmp_path)
    async with store.stage("acme/one/1") as staging:
        write(staging.directory, "a", b"1")
        await staging.publish("a")
    async with store.stage("acme/two/7"):
        assert await store.prefixes() == ["acme/one/1", "acme/two/7"]
    assert await store.prefixes() == ["acme/one/1"]
    await store.delete("acme/one/1")
    await store.delete("acme/one/1")
    assert await store.prefixes() == []
    assert names_below(tmp_path) == {"parts", "staged"}, "empty directories go as well"


async def test_prefixes_are_told_a_page_at_a_time_in_order(tmp_path: Path) -> None:
    store = DirectoryResults(tmp_path)
    wanted = ["acme/a-b/1", "acme/a/1", "acme/a/12", "acme/a/2", "zeta/a/1"]
    for area, prefix in zip(("parts", "staged", "parts", "parts", "staged"), wanted, strict=True):
        (tmp_path / area / prefix / "0").mkdir(parents=True)
    (tmp_path / "staged" / wanted[0]).mkdir(parents=True)
    assert await store.prefixes() == wanted
    for number, after in enumerate(["", *wanted]):
        assert await store.prefixes(after, 2) == wanted[number : number + 2]


async def test_staging_begins_empty_after_a_crash_of_the_same_claim(tmp_path: Path) -> None:
    store = DirectoryResults(tmp_path)
    left = tmp_path / "staged/acme/j/1"
    left.mkdir(parents=True)
    (left / "part").write_bytes(b"half")
    async with store.stage("acme/j/1") as staging:
        assert names_below(Path(staging.directory)) == set()


async def test_attempts_of_one_tenant_come_and_go_at_the_same_time(tmp_path: Path) -> None:
    store = DirectoryResults(tmp_path)

    async def one(i: int) -> None:
        async with store.stage(f"acme/j{i}/1") as staging:
            write(staging.directory, "a", b"1")
            await staging.publish("a")
        await store.delete(f"acme/j{i}/1")

    await asyncio.gather(*(one(i) for i in range(100)))
    assert await store.prefixes() == []


async def test_a_reader_that_began_in_time_reads_to_the_end(tmp_path: Path) -> None:
    store = DirectoryResults(tmp_path)
    async with store.stage("acme/j/1") as staging:
        write(staging.directory, "a", b"01234567")
        key = await staging.publish("a")
    reading = store.read(key, 0, 4)
    assert await anext(reading) == b"0123"
    await store.delete("acme/j/1")
    assert await anext(reading) == b"4567"
    await reading.aclose()


@pytest.mark.parametrize("key", ["", "..", "a/../b", "/etc/passwd", "a//b", "a/./b", "a/\0"])
async def test_keys_cannot_leave_the_directory(tmp_path: Path, key: str) -> None:
    store = DirectoryResults(tmp_path)
    with pytest.raises(ValueError, match="not a key"):
        await read(store, key)
    with pytest.raises(ValueError, match="not a key"):
        await store.delete(key)
    with pytest.raises(ValueError, match="not a key"):
        async with store.stage(key):
            pass


async def test_ranges_keep_their_files_below_their_attempt_and_go_with_it(tmp_path: Path) -> None:
    store = DirectoryResults(tmp_path)
    one, two = part_prefix("acme", range_id("j", 7, 0), 1), part_prefix("acme", range_id("j", 7, 1), 2)
    assert (one, two) == ("acme/j/7/0/1", "acme/j/7/1/2")
    async with store.stage(one) as first:
        async with store.stage(two) as second:
            write(second.directory, "a", b"2")
            key = await second.publish("a")
        write(first.directory, "a", b"1")  # its directory outlives the end of the other
        await first.publish("a")
        assert await store.prefixes() == ["acme/j/7"]
    assert await read(store, key) == [b"2"]
    await store.delete(one)
    assert names_below(tmp_path / "parts") == {"acme", "j", "7", "1", "2", "a"}
    await store.delete("acme/j/7")
    assert await store.prefixes() == []
