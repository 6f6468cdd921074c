"""ResultStore in a directory, which several hosts may share.

``parts/{tenant}/{job}/{fence}/{file}`` holds what is published, ``staged/{tenant}/{job}/{fence}/`` what is being
written, on the same file system, so that publishing is a rename: a file is there whole or not at all. A crash leaves
files behind that nobody owns; the sweep finds them by their prefix.

All file system calls run in threads.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from heapq import merge
from itertools import groupby, islice
from pathlib import Path

from broker.ports.results import OWNER, PREFIXES, Staging


class DirectoryResults:
    """Result files below ``root``, which is made when it is missing."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()

    @asynccontextmanager
    async def stage(self, prefix: str) -> AsyncIterator[Staging]:
        """A local directory to write files in; leaving the context deletes it with all that was not published."""
        directory = self._path("staged", prefix)
        await asyncio.to_thread(_make_new, directory)
        try:
            yield _Staging(directory, self._path("parts", prefix), prefix)
        finally:
            await asyncio.shield(asyncio.to_thread(_remove, directory, self._root / "staged"))

    async def read(self, key: str, offset: int, chunk: int) -> AsyncGenerator[bytes, None]:
        """The bytes of a file from ``offset`` in pieces of at most ``chunk`` bytes; raises FileNotFoundError."""
        descriptor = await asyncio.to_thread(os.open, self._path("parts", key), os.O_RDONLY | os.O_CLOEXEC)
        try:
            while data := await asyncio.to_thread(os.pread, descriptor, chunk, offset):
                offset += len(data)
                yield data
        finally:
            os.close(descriptor)

    async def copy(self, key: str, prefix: str) -> str:
        """Gives a published file a second name, below another prefix: not a byte is copied; returns its key there."""
        source, depth = self._path("parts", key), prefix.count("/") + 1
        await asyncio.to_thread(_publish, source, self._path("parts", prefix), depth, os.link)
        return f"{prefix}/{source.name}"

    async def owner(self, deployment: str) -> str:
        """Whose the store is; it is given to the first that asks."""
        return await asyncio.to_thread(_owner, self._root, deployment)

    async def prefixes(self, after: str = "", most: int = PREFIXES) -> Sequence[str]:
        """The first prefixes after one, in order, under which something is stored or staged."""
        return await asyncio.to_thread(self._prefixes, after, most)

    async def delete(self, prefix: str) -> None:
        """Deletes everything under a prefix, staged or published; missing ones are ignored."""
        for area in ("parts", "staged"):
            await asyncio.to_thread(_remove, self._path(area, prefix), self._root / area)

    def _path(self, area: str, key: str) -> Path:
        pieces = key.split("/")
        if any(piece in {"", ".", ".."} or "\0" in piece for piece in pieces):
            raise ValueError(f"not a key of the result store: {key!r}")
        return self._root.joinpath(area, *pieces)

    def _prefixes(self, after: str, most: int) -> list[str]:
        areas = [_below(self._root / area, "", 3, after) for area in ("parts", "staged")]
        return list(islice((prefix for prefix, _ in groupby(merge(*areas))), most))


class _Staging:
    """Files of one attempt on their way."""

    def __init__(self, directory: Path, target: Path, prefix: str) -> None:
        self._directory = directory
        self._target = target
        self._prefix = prefix

    @property
    def directory(self) -> str:
        """Path of the directory."""
        return str(self._directory)

    async def publish(self, name: str) -> str:
        """Makes a finished and synced file of the directory durable and visible; returns its key."""
        depth = self._prefix.count("/") + 1
        await asyncio.to_thread(_publish, self._directory / name, self._target, depth)
        return f"{self._prefix}/{name}"


def _below(directory: Path, prefix: str, depth: int, after: str) -> Iterator[str]:
    """The directories so far below one, as paths from it, in order; what ends before a path is not looked at."""
    try:
        names = [entry.name for entry in os.scandir(directory) if entry.is_dir()]
    except FileNotFoundError:
        return
    for name in sorted(names, key=lambda name: name if depth == 1 else f"{name}/"):
        path = prefix + name
        if depth == 1:
            if path > after:
                yield path
        elif f"{path}0" > after:  # "0" comes next after "/"
            yield from _below(directory / name, f"{path}/", depth - 1, after)


def _owner(root: Path, deployment: str) -> str:
    """The name in the file of the owner, which appears with it or not at all."""
    named = root / OWNER
    with suppress(FileNotFoundError):
        return named.read_text().strip()
    _make(root)
    with tempfile.NamedTemporaryFile("w", dir=root, prefix=".") as file:
        file.write(f"{deployment}\n")
        file.flush()
        os.fsync(file.fileno())
        with suppress(FileExistsError):  # another one was faster
            os.link(file.name, named)
    return named.read_text().strip()


def _make_new(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)  # of the same claim, before a crash of this very process
    _make(directory)


def _make(directory: Path) -> None:
    """Makes a directory with its parents, also while somebody deletes empty parents."""
    for _ in range(100):
        with suppress(FileNotFoundError):
            return directory.mkdir(parents=True, exist_ok=True)
    raise FileNotFoundError(f"{directory} keeps being deleted")


def _publish(source: Path, target: Path, depth: int, put: Callable[[Path, Path], object] = os.rename) -> None:
    _make(target)
    put(source, target / source.name)
    # The name becomes durable with its directory, and so do directories that were just made.
    for directory in (target, *target.parents[:depth]):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove(directory: Path, base: Path) -> None:
    """Deletes a directory, and those above it that have become empty, up to ``base``."""
    shutil.rmtree(directory, ignore_errors=True)
    for parent in directory.parents:
        if parent == base:
            return
        with suppress(OSError):  # not empty: somebody else's
            parent.rmdir()
