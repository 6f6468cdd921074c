"""Result files in a real S3 server: in parts where they are large, nothing left behind, and what an outage does."""

from __future__ import annotations

import random
import uuid
from pathlib import Path

import pytest

from broker.adapters.result_s3 import RANGE_BYTES, UPLOAD_BYTES, S3Results
from broker.domain.errors import BrokerError, ErrorReason
from tests.support.s3 import s3_environment


@pytest.fixture
def store(bucket: str, tmp_path: Path) -> S3Results:
    """A store of this test's own in the bucket."""
    return S3Results(f"{bucket}/{uuid.uuid4()}/deep", tmp_path)


async def read(store: S3Results, key: str, offset: int = 0, chunk: int = 4) -> list[bytes]:
    return [piece async for piece in store.read(key, offset, chunk)]


def write(directory: str, name: str, data: bytes) -> None:
    (Path(directory) / name).write_bytes(data)


async def test_a_large_file_goes_up_and_comes_down_in_parts(store: S3Results) -> None:
    data = random.Random(1).randbytes(UPLOAD_BYTES + RANGE_BYTES + 3)
    async with store.stage("acme/j/1") as staging:
        write(staging.directory, "a", data)
        key = await staging.publish("a")
        assert not (Path(staging.directory) / "a").exists(), "its room is needed for the next one"
    for offset in (0, RANGE_BYTES - 1, len(data) - 5):
        pieces = await read(store, key, offset, 1 << 20)
        assert max(map(len, pieces)) <= 1 << 20
        assert b"".join(pieces) == data[offset:]


async def test_prefixes_name_what_is_stored_and_what_is_staged_until_it_is_deleted(store: S3Results) -> None:
    async with store.stage("acme/one/1") as staging:
        for name in ("a", "b"):
            write(staging.directory, name, b"1")
            await staging.publish(name)
    async with store.stage("acme/two/7"):
        assert await store.prefixes() == ["acme/one/1", "acme/two/7"]
    async with store.stage("acme/one/12") as staging:
        write(staging.directory, "a", b"1")
        await staging.publish("a")
    await store.delete("acme/one/1")
    await store.delete("acme/one/1")
    async with store.stage("acme/one/12/0/1") as staging:  # of a range, below its attempt
        write(staging.directory, "a", b"1")
        assert await staging.publish("a") == "acme/one/12/0/1/a"
    assert await store.prefixes() == ["acme/one/12"]
    async with store.stage("acme/one/2"), store.stage("acme/one-x/1") as staging:
        write(staging.directory, "a", b"1")
        await staging.publish("a")
        wanted = ["acme/one-x/1", "acme/one/12", "acme/one/2"]
        for number, after in enumerate(["", *wanted]):
            assert await store.prefixes(after, 2) == wanted[number : number + 2]
    await store.delete("acme/one-x/1")
    await store.delete("acme/one/12")
    assert await store.prefixes() == []


async def test_a_store_that_is_away_may_be_back_for_the_next_attempt(bucket: str, tmp_path: Path) -> None:
    with s3_environment({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}):
        store = S3Results(f"{bucket}/away", tmp_path, retries=0)
    for work in (read(store, "acme/j/1/a"), store.prefixes()):
        with pytest.raises(BrokerError) as caught:
            await work
        assert caught.value.reason is ErrorReason.STORE_UNAVAILABLE
    await store.delete("acme/j/1")  # must not keep an attempt from ending


@pytest.mark.parametrize("key", ["", "..", "a/../b", "/etc/passwd", "a//b"])
async def test_keys_are_checked(store: S3Results, key: str) -> None:
    with pytest.raises(ValueError, match="not a key"):
        await read(store, key)
