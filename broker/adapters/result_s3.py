"""ResultStore in S3, or in what speaks its protocol: objects ``{prefix of the store}/{tenant}/{job}/{fence}/{file}``.

An object is there whole or not at all, so that publishing is an upload: in several parts where the file is large, each
with a SHA-256 that the store compares. Files are written to a local directory first, because their hashes and lengths
go into the manifest and a child process writes them. Readers ask for ranges: what a slow one has not asked for is
held by nobody, and one that comes back asks for the rest.

Address and credentials are taken from the environment as by every other client of S3 (``AWS_REGION``,
``AWS_ACCESS_KEY_ID``, ``AWS_ENDPOINT_URL``, ``AWS_ALLOW_HTTP``, or the role of the machine). An upload that a crash cut
short is not visible; a rule of the bucket (AbortIncompleteMultipartUpload) lets go of the space.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import S3Store

from broker.adapters.result_dir import DirectoryResults
from broker.domain.errors import BrokerError, ErrorReason
from broker.ports.results import OWNER, PREFIXES, Staging

UPLOAD_BYTES = 8 << 20
"""Size of the parts of an upload."""
UPLOADS = 4
"""Parts under way at once."""
RANGE_BYTES = 4 << 20
"""What a reader asks for at once, and so what one holds."""
LISTED = 1000
RETRIES = 5
RETRY_SECONDS = 30.0

logger = logging.getLogger(__name__)


class S3Results:
    """Result files at ``s3://bucket/prefix``; ``local`` has room for files that are being written.

    Whatever fails in passing is tried again up to ``retries`` times.
    """

    def __init__(self, address: str, local: Path, retries: int = RETRIES) -> None:
        self._store = S3Store.from_url(
            address,
            checksum_algorithm="SHA256",
            retry_config={"max_retries": retries, "retry_timeout": timedelta(seconds=RETRY_SECONDS)},
        )
        self._local = DirectoryResults(local)

    @asynccontextmanager
    async def stage(self, prefix: str) -> AsyncIterator[Staging]:
        """A local directory to write files in; leaving the context deletes it."""
        async with self._local.stage(prefix) as local:
            yield _Staging(self._store, local.directory, prefix)

    async def read(self, key: str, offset: int, chunk: int) -> AsyncGenerator[bytes, None]:
        """The bytes of a file from ``offset`` in pieces of at most ``chunk`` bytes; raises FileNotFoundError."""
        _check(key)
        with _translated(key):
            size = (await obstore.head_async(self._store, key))["size"]
        while offset < size:
            end = min(size, offset + max(chunk, RANGE_BYTES))
            with _translated(key):
                data = memoryview(await obstore.get_range_async(self._store, key, start=offset, end=end))
            for start in range(0, len(data), chunk):
                yield bytes(data[start : start + chunk])
            offset = end

    async def copy(self, key: str, prefix: str) -> str:
        """Lets the store copy an object to another prefix; returns its key there."""
        copied = f"{prefix}/{key.rpartition('/')[2]}"
        _check(key)
        _check(copied)
        with _translated(key):
            await obstore.copy_async(self._store, key, copied)
        return copied

    async def owner(self, deployment: str) -> str:
        """Whose the store is; it is given to the first that asks."""
        with suppress(FileNotFoundError):
            return await self._owner()
        with _translated(OWNER), suppress(AlreadyExistsError):  # another one was faster
            await obstore.put_async(self._store, OWNER, f"{deployment}\n".encode(), mode="create")
        return await self._owner()

    async def _owner(self) -> str:
        with _translated(OWNER):
            found = await obstore.get_async(self._store, OWNER)
            return bytes(await found.bytes_async()).decode().strip()

    async def prefixes(self, after: str = "", most: int = PREFIXES) -> Sequence[str]:
        """The first prefixes after one, in order, under which something is stored, or staged on this machine."""
        found = set(await self._local.prefixes(after, most))
        stored: dict[str, None] = {}
        beyond = f"{after}0" if after else None  # "0" comes next after "/", and so after all that lies below
        with _translated(""):
            async for batch in obstore.list(self._store, offset=beyond, chunk_size=LISTED):
                for entry in batch:
                    tenant, job, fence, *rest = [*entry["path"].split("/"), "", "", ""][:4]
                    if rest[0]:  # others may keep other things in the bucket
                        stored[f"{tenant}/{job}/{fence}"] = None
                if len(stored) >= most:
                    break
        return sorted(found.union(stored))[:most]

    async def delete(self, prefix: str) -> None:
        """Deletes everything under a prefix; what the store does not let go of now is left to the next sweep."""
        await self._local.delete(prefix)
        try:
            async for batch in obstore.list(self._store, prefix, chunk_size=LISTED):
                await obstore.delete_async(self._store, [entry["path"] for entry in batch])
        except (BaseError, OSError) as error:
            logger.warning("files under %s are left to the sweep: %s", prefix, _short(error))


class _Staging:
    """Files of one attempt on their way."""

    def __init__(self, store: S3Store, directory: str, prefix: str) -> None:
        self._store = store
        self._directory = directory
        self._prefix = prefix

    @property
    def directory(self) -> str:
        """Path of the local directory."""
        return self._directory

    async def publish(self, name: str) -> str:
        """Uploads a finished file of the directory, which makes it visible, and deletes it here; returns its key."""
        key, file = f"{self._prefix}/{name}", Path(self._directory) / name
        _check(key)
        with _translated(key):
            await obstore.put_async(self._store, key, file, chunk_size=UPLOAD_BYTES, max_concurrency=UPLOADS)
        await asyncio.to_thread(file.unlink)
        return key


def _check(key: str) -> None:
    if any(piece in {"", ".", ".."} or "\0" in piece for piece in key.split("/")):
        raise ValueError(f"not a key of the result store: {key!r}")


@contextmanager
def _translated(key: str) -> Iterator[None]:
    """Errors of the store as those of the port: a missing file, or a store that cannot be used now."""
    try:
        yield
    except FileNotFoundError:
        raise FileNotFoundError(key) from None
    except (BaseError, OSError) as error:
        text = "The result store cannot be used at present. Try again later; reading goes on at any offset."
        metadata = {"error": type(error).__name__}
        raise BrokerError(ErrorReason.STORE_UNAVAILABLE, text, metadata=metadata) from error


def _short(error: BaseException) -> str:
    """The first line: what follows repeats answers of the store."""
    return str(error).partition("\n")[0][:300]
