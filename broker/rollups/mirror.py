"""Local copies of segment files, for workers to map: fetched once a host, verified, bounded in bytes.

No answer is wrong for what goes wrong here. A full disk, a broken file, a database that does not answer: whoever waits
is told and reads live, and it is tried again later.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Protocol

from broker.domain.deadline import Deadline
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.plan import LocalFile
from broker.domain.rollup import Rollup, Segment, SegmentFile
from broker.ports.clock import Clock
from broker.ports.rollups import RollupStatus
from broker.rollups.mirror_disk import MirrorDisk, MirrorOptions
from broker.rollups.mirror_files import Stamp, file_name, rollup_folder
from broker.rollups.mirror_hydrate import Progress, hydrate
from broker.rollups.mirror_ready import Key, ReadySegments, key_of
from broker.rollups.mirror_room import Current
from broker.telemetry import catalog_rollups as catalog
from broker.telemetry.instruments import Telemetry
from broker.telemetry.meters import Reading

logger = logging.getLogger(__name__)


class SegmentSource(Protocol):
    """Where segments are fetched from; a RollupStore is one."""

    async def fetch(self, segment: Segment, file: SegmentFile) -> bytes:
        """The bytes of a file, not yet verified. Raises LookupError when the version is gone."""
        ...


class Mirror:
    """The mirror of one process; call :meth:`open` before and :meth:`close` after its use."""

    def __init__(
        self, options: MirrorOptions, store: SegmentSource, clock: Clock, telemetry: Telemetry
    ) -> None:
        self._options = options
        self._store = store
        self._clock = clock
        self._telemetry = telemetry
        self._ready = ReadySegments(options.keep, clock)
        self._disk = MirrorDisk(options, self._ready, clock, telemetry)
        self._flights: dict[Key, asyncio.Task[None]] = {}
        self._failed: dict[Key, tuple[float, BaseException]] = {}
        self._folders: dict[tuple[str, str], str] = {}
        self._slots = asyncio.Semaphore(options.parallel)
        self._observed: list[Callable[[], None]] = []
        self._upkeep: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Makes the directory and clears away what dead processes left; one that cannot be used is logged."""
        for metric, value in (
            (catalog.PENDING, lambda: len(self._ready.flying)),
            (catalog.MIRROR_FILES, lambda: len(self._disk.files)),
            (catalog.MIRROR_USAGE, lambda: self._disk.byte_count),
            (catalog.MIRROR_LIMIT, lambda: self._options.byte_limit),
        ):
            self._observed.append(self._telemetry.observe(metric, partial(_reading, value)))
        await self._disk.open()
        await self.tidy()
        self._upkeep = asyncio.create_task(self._keep_up())

    async def close(self) -> None:
        """Ends what is under way."""
        for forget in self._observed:
            forget()
        tasks = [*self._flights.values(), *([self._upkeep] if self._upkeep is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._disk.close()

    @property
    def problem(self) -> str:
        """Why nothing can be stored at the moment, for people; empty when all is well."""
        return self._disk.problem

    @property
    def byte_count(self) -> int:
        """Bytes in the directory, as far as this process knows."""
        return self._disk.byte_count

    def local(self, rollup: Rollup, segment: Segment) -> tuple[LocalFile, ...] | None:  # noqa: ARG002 - ids are unique; the port says more
        """The files of a segment, if all are here; they stay for the next seconds at least."""
        return self._ready.files(segment) if segment.files else ()

    def holds(self, segment: Segment) -> bool:
        """Whether all files of a segment are here; that does not count as a use of them."""
        return segment in self._ready or not segment.files

    async def adopt(self, rollup: Rollup, segment: Segment) -> bool:
        """Whether the segment is here, after a look at the disk; nothing is fetched."""
        if self.holds(segment):
            return True
        files: list[LocalFile] = []
        stamps: list[Stamp] = []
        for file in segment.files:
            path = self.path(rollup, segment, file)
            if (stamp := await self._disk.found(path, file)) is None:
                return False
            stamps.append(stamp)
            files.append(LocalFile(path, file.grain, rollup.zone, segment.span, file.sha256))
        self._ready.add(rollup, segment, tuple(files), tuple(stamps))
        return True

    async def ensure(self, rollup: Rollup, segments: Sequence[Segment], deadline: Deadline) -> None:
        """Fetches what is missing; each segment is fetched once however many wait for it.

        What has failed just now fails again at once: many may ask, and the database is not to feel it.

        Raises:
            LookupError: A version is gone.
            BrokerError: DEADLINE_EXCEEDED, STORE_UNAVAILABLE or STORE_REJECTED; read live instead.
        """
        missing = [segment for segment in segments if self.local(rollup, segment) is None]
        if not missing:
            return
        for segment in missing:
            if (error := self._failure(key_of(segment))) is not None:
                raise _again(error) from error
        flights = [self._flight(rollup, segment) for segment in missing]
        waiting = asyncio.gather(*(asyncio.shield(flight) for flight in flights))
        try:
            async with asyncio.timeout(deadline.remaining(self._clock.monotonic())):
                await waiting
        except TimeoutError as error:
            text = "segments of the rollup did not arrive in time; allow more time, or forbid rollups"
            raise BrokerError(ErrorReason.DEADLINE_EXCEEDED, text) from error
        except (BrokerError, LookupError):
            raise
        except Exception as error:
            # Of the disk, or a bug: whoever waits reads live; the flight has logged what it is.
            raise _again(error) from error

    def want(self, rollup: Rollup, segments: Sequence[Segment]) -> None:
        """Fetches what is missing behind the caller's back, unless it has just failed."""
        for segment in segments:
            if self.local(rollup, segment) is None and self._failure(key_of(segment)) is None:
                self._flight(rollup, segment)

    def forget(self, path: str) -> None:
        """Removes a file that a worker could not read, and fetches it again."""
        ready = self._ready.drop(path)
        if ready is None:
            return
        logger.warning("segment file %s cannot be read; it is fetched again", path)
        self._telemetry.mirror_eviction("unreadable")
        self._disk.discard(path)
        self._flight(ready.rollup, ready.segment)

    async def hydrate(
        self, statuses: Iterable[RollupStatus], progress: Callable[[Progress], None] | None = None
    ) -> Progress:
        """Removes what was replaced, and fetches every current segment that has room, newest first.

        What finds no room, or fails, is skipped.
        """
        return await hydrate(self, statuses, self._options.parallel, progress)

    async def prefetch(self, rollup: Rollup, segment: Segment) -> bool:
        """Whether the segment is here, after fetching it if there is room.

        Only the next version of a partition that is here makes room for itself: what nobody has asked for yet pushes
        nothing out.
        """
        key = key_of(segment)
        if segment in self._ready or not segment.files:
            return True
        missing = [f for f in segment.files if self.path(rollup, segment, f) not in self._disk.files]
        full = not self._disk.has_room(sum(file.byte_count for file in missing))
        if (full and not self._ready.succeeded_by(rollup, segment)) or self._failure(key) is not None:
            return False
        try:
            await asyncio.shield(self._flight(rollup, segment))
        except Exception:  # noqa: BLE001 - it was logged, and the others are to be had all the same
            return False
        return True

    async def replace(self, found: Iterable[tuple[Rollup, Sequence[Segment]]]) -> None:
        """Of these rollups, only these segments are current: removes others when they are idle."""
        folders: set[str] = set()
        paths: set[str] = set()
        for rollup, segments in found:
            folders.add(self._folder(rollup))
            paths |= {self.path(rollup, segment, file) for segment in segments for file in segment.files}
        await self._disk.tidy(Current(frozenset(folders), frozenset(paths)))

    async def tidy(self) -> None:
        """Tells other processes what this one uses, and learns what they removed."""
        await self._disk.tidy(Current())

    def path(self, rollup: Rollup, segment: Segment, file: SegmentFile) -> str:
        """Where a file lies."""
        return f"{self._options.directory}/{self._folder(rollup)}/{file_name(segment, file)}"

    def _folder(self, rollup: Rollup) -> str:
        key = rollup.dataset, rollup.name
        found = self._folders.get(key)
        if found is None:
            found = self._folders[key] = rollup_folder(self._options.scope, rollup)
        return found

    async def _keep_up(self) -> None:
        while True:
            await asyncio.sleep(self._options.upkeep)
            try:
                await self.tidy()
            except Exception:
                # Without the next turn, other processes would take files that are used here for idle.
                logger.exception("the mirror could not be tidied")

    def _failure(self, key: Key) -> BaseException | None:
        """Why fetching the segment has failed lately."""
        until, error = self._failed.get(key, (0.0, None))
        return error if until > self._clock.monotonic() else None

    def _flight(self, rollup: Rollup, segment: Segment) -> asyncio.Task[None]:
        key = key_of(segment)
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = asyncio.create_task(self._fetch(rollup, segment))
            self._ready.flying |= {self.path(rollup, segment, file) for file in segment.files}
            flight.add_done_callback(partial(self._landed, rollup, segment))
        return flight

    def _landed(self, rollup: Rollup, segment: Segment, flight: asyncio.Task[None]) -> None:
        key, now = key_of(segment), self._clock.monotonic()
        del self._flights[key]
        self._ready.flying -= {self.path(rollup, segment, file) for file in segment.files}
        self._failed = {k: failed for k, failed in self._failed.items() if failed[0] > now and k != key}
        if flight.cancelled() or (error := flight.exception()) is None:
            return
        self._failed[key] = now + self._options.backoff, error
        self._telemetry.mirror_fetch("gone" if isinstance(error, LookupError) else "failed")
        known = isinstance(error, BrokerError | LookupError)
        logger.log(
            logging.INFO if known else logging.ERROR,
            "segment %d is not in the mirror: %s",
            segment.id,
            error,
            exc_info=None if known else error,
        )

    async def _fetch(self, rollup: Rollup, segment: Segment) -> None:
        files: list[LocalFile] = []
        stamps: list[Stamp] = []
        async with self._slots:
            for file in segment.files:
                path = self.path(rollup, segment, file)
                fetch = partial(self._store.fetch, segment, file)
                stamps.append(await self._disk.obtain(path, file, fetch))
                files.append(LocalFile(path, file.grain, rollup.zone, segment.span, file.sha256))
        self._ready.add(rollup, segment, tuple(files), tuple(stamps))


def _again(error: BaseException) -> Exception:
    """The error for somebody who comes after it."""
    if isinstance(error, LookupError):
        return LookupError(*error.args)
    if isinstance(error, BrokerError):
        return BrokerError(error.reason, error.message, retry_after=error.retry_after)
    return BrokerError(ErrorReason.STORE_UNAVAILABLE, "a segment could not be fetched; the log says why")


def _reading(value: Callable[[], float]) -> list[Reading]:
    return [(value(), {})]
