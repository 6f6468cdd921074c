"""The directory of a mirror as one process sees it: what is there, getting more, and what to do when it cannot be."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.rollup import SegmentFile
from broker.ports.clock import Clock
from broker.rollups.mirror_files import Found, Stamp, prepare, remove, right, verified, write
from broker.rollups.mirror_room import Current, choose, remove_idle, survey
from broker.telemetry.instruments import Telemetry

logger = logging.getLogger(__name__)
_T = TypeVar("_T")
_LONGEST_BACKOFF = 60.0
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(frozen=True, slots=True)
class MirrorOptions:
    """Where the files lie, and how many bytes of them there may be.

    ``scope`` tells databases apart that share a directory. ``parallel`` segments are fetched at once, each file within
    ``fetch_timeout`` seconds. A file is kept for ``keep`` seconds after its last use whatever happens, since somebody
    may be about to open it. After a failure nothing is tried for ``backoff`` seconds, and for longer while it goes on.
    Every ``upkeep`` seconds processes tell each other what they use; it must be less than ``keep``.
    """

    directory: Path
    byte_limit: int = 2 << 30
    scope: str = ""
    parallel: int = 4
    keep: float = 30.0
    backoff: float = 5.0
    fetch_timeout: float = 60.0
    upkeep: float = 5.0


class Holder(Protocol):
    """Who hands out the files. Its methods are called on the event loop."""

    def used(self) -> Mapping[str, float]:
        """Wall-clock times at which files were handed out lately."""
        ...

    def release(self, paths: Iterable[str]) -> Sequence[str]:
        """Stops handing these out, and returns them without those that were handed out lately."""
        ...

    def settle(self, files: Mapping[str, Stamp]) -> None:
        """These files are there now; others are not any more, or are not what they were."""
        ...


class MirrorDisk:
    """Verified files. ``problem`` says for people why nothing can be stored, and is empty when all is well."""

    def __init__(self, options: MirrorOptions, holder: Holder, clock: Clock, telemetry: Telemetry) -> None:
        self._options = options
        self._holder = holder
        self._clock = clock
        self._telemetry = telemetry
        self._threads = ThreadPoolExecutor(2, "mirror")
        self._turn = asyncio.Lock()
        self._broken_until = 0.0
        self._backoff = options.backoff
        self._added: dict[str, Stamp] = {}
        self._reserved = 0
        self.problem = ""
        self.files: dict[str, Stamp] = {}
        self.byte_count = 0

    async def open(self) -> None:
        """Makes the directory and clears away what dead processes left."""
        try:
            if count := await self._thread(prepare, self._options.directory, _alive):
                logger.info("removed %d files that were being fetched when a process ended", count)
        except OSError as error:
            self.broken(error)

    async def close(self) -> None:
        """Waits for what is being written."""
        await asyncio.to_thread(self._threads.shutdown)

    async def obtain(self, path: str, file: SegmentFile, fetch: Callable[[], Awaitable[bytes]]) -> Stamp:
        """The stamp of a verified file, which is fetched if it is not there, or is broken.

        Raises:
            LookupError: The version is gone.
            BrokerError: There is no room, or the directory or the database fails.
        """
        if self._clock.monotonic() < self._broken_until:
            raise BrokerError(ErrorReason.STORE_UNAVAILABLE, self.problem)
        try:
            found: Stamp | None = await self._thread(verified, path, file)
        except ValueError as error:
            logger.warning("segment file %s is broken (%s); it is fetched again", path, error)
            self._telemetry.mirror_fetch("corrupt")
            self.discard(path)
            found = None
        except OSError as error:
            raise self.broken(error) from error
        if found is not None:
            self._telemetry.mirror_fetch("found")
            self._add(path, found)
            return found
        await self._make_room(file.byte_count)
        self._reserved += file.byte_count
        try:
            data = await self._fetched(path, file, fetch)
            made: Stamp = await self._thread(write, path, data, self._clock.now().timestamp())
        except OSError as error:
            raise self.broken(error) from error
        finally:
            self._reserved -= file.byte_count
        self.problem, self._backoff = "", self._options.backoff
        self._add(path, made)
        self._telemetry.mirror_fetch("fetched", made.size)
        return made

    async def found(self, path: str, file: SegmentFile) -> Stamp | None:
        """The stamp of a verified file; None where there is none, or another one. Nothing is fetched."""
        try:
            stamp: Stamp | None = await self._thread(verified, path, file)
        except (ValueError, OSError) as error:
            logger.warning("segment file %s cannot be used: %s", path, error)
            return None
        if stamp is not None:
            self._telemetry.mirror_fetch("found")
            self._add(path, stamp)
        return stamp

    def discard(self, path: str) -> None:
        """Removes a file."""
        self._added.pop(path, None)
        stamp = self.files.pop(path, None)
        self.byte_count -= stamp.size if stamp is not None else 0
        remove(path)

    async def tidy(self, current: Current, need: int = 0) -> None:
        """Makes room for ``need`` bytes, removes what is stale, and learns what other processes did."""
        async with self._turn:
            self._added = {}
            since = self._clock.now().timestamp() - self._options.keep
            root = self._options.directory
            found: list[Found] = await self._thread(survey, root, self._holder.used())
            leaving = choose(found, self._options.byte_limit - self._reserved - need, since, current)
            released = self._holder.release([*leaving.stale, *leaving.evicted])
            gone: frozenset[str] = await self._thread(remove_idle, released, since)
            self.files = {file.path: file.stamp for file in found if file.path not in gone} | self._added
            self.byte_count = sum(stamp.size for stamp in self.files.values())
            self._holder.settle(self.files)
        if evicted := len(gone.intersection(leaving.evicted)):
            self._telemetry.mirror_eviction("space", evicted)
        if stale := len(gone.intersection(leaving.stale)):
            self._telemetry.mirror_eviction("stale", stale)

    def broken(self, error: OSError) -> BrokerError:
        """Notes that the directory cannot be used for a while; returns what to tell those who wait."""
        advice = "make room on its disk" if error.errno in _FULL else "make it writable"
        text = (
            f"the mirror of segments in {self._options.directory} cannot be used ({error.strerror or error}); "
            f"{advice}, or set rollups.mirror_dir to another directory. Until then answers are read live"
        )
        if text != self.problem:
            logger.error("%s", text)
        self.problem = text
        now = self._clock.monotonic()
        if now >= self._broken_until:
            self._broken_until = now + self._backoff
            self._backoff = min(_LONGEST_BACKOFF, 2.0 * self._backoff)
        return BrokerError(ErrorReason.STORE_UNAVAILABLE, text)

    def _add(self, path: str, stamp: Stamp) -> None:
        before = self.files.get(path)
        self._added[path] = stamp
        self.files[path] = stamp
        self.byte_count += stamp.size - (before.size if before is not None else 0)

    def has_room(self, byte_count: int) -> bool:
        """Whether so many bytes more may be stored, beside what is under way."""
        return self.byte_count + self._reserved + byte_count <= self._options.byte_limit

    async def _make_room(self, byte_count: int) -> None:
        limit = self._options.byte_limit
        if not self.has_room(byte_count) and byte_count <= limit:
            await self.tidy(Current(), byte_count)
        if not self.has_room(byte_count):
            text = (
                f"the mirror holds {self.byte_count} of {limit} bytes, none of which can be spared for a file of "
                f"{byte_count}; raise rollups.mirror_size. Until then answers that need it are read live"
            )
            raise BrokerError(ErrorReason.STORE_UNAVAILABLE, text)

    async def _fetched(self, path: str, file: SegmentFile, fetch: Callable[[], Awaitable[bytes]]) -> bytes:
        for _ in range(2):  # twice, since what is between here and the database may have been to blame
            try:
                async with asyncio.timeout(self._options.fetch_timeout):
                    data = await fetch()
            except TimeoutError as error:
                text = f"the database did not return a segment in {self._options.fetch_timeout:g} s"
                raise BrokerError(ErrorReason.STORE_UNAVAILABLE, text) from error
            if await self._thread(right, data, file):
                return data
            self._telemetry.mirror_fetch("corrupt")
        text = f"the stored bytes of {Path(path).name} have another checksum; build the partition again"
        logger.error("%s", text)
        raise BrokerError(ErrorReason.STORE_REJECTED, text)

    async def _thread(self, function: Callable[..., _T], *arguments: object) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)


def _alive(pid: int) -> bool:
    """Whether another process has the number. This one has written nothing yet."""
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
