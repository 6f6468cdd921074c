"""Keeps a mirror up with its rollups: what is current and has room is fetched, newest first, before it is asked for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from random import Random

from broker.domain.errors import BrokerError
from broker.domain.model import Dataset
from broker.domain.rollup import Rollup, Segment, Storage
from broker.ports.clock import Clock
from broker.ports.rollups import RollupStatus, RollupStore
from broker.rollups.mirror import Mirror
from broker.telemetry import catalog_rollups as catalog
from broker.telemetry import names as n
from broker.telemetry.instruments import Telemetry
from broker.telemetry.meters import Reading

logger = logging.getLogger(__name__)

Rollups = Callable[[], Iterable[tuple[Dataset, Rollup]]]
"""The rollups of the model, each with its dataset."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a hydration is, in segments and bytes; ``skipped`` ones found no room, or failed."""

    done: int
    total: int
    done_bytes: int
    total_bytes: int
    skipped: int = 0


async def hydrate(
    mirror: Mirror,
    statuses: Sequence[RollupStatus],
    parallel: int = 4,
    progress: Callable[[Progress], None] | None = None,
) -> Progress:
    """Fetches every current segment that is missing and has room, newest first; removes what was replaced before."""
    wanted = [(s.rollup, _segments(s)) for s in statuses if s.rollup.storage is Storage.SEGMENTS]
    await mirror.replace(wanted)
    found = [(rollup, segment) for rollup, segments in wanted for segment in segments]
    found.sort(key=lambda pair: pair[1].span, reverse=True)
    state = Progress(0, len(found), 0, sum(segment.byte_count for _, segment in found))
    queue = iter(found)

    async def work() -> None:
        nonlocal state
        for rollup, segment in queue:
            here = await mirror.prefetch(rollup, segment)
            state = Progress(
                state.done + 1,
                state.total,
                state.done_bytes + segment.byte_count,
                state.total_bytes,
                state.skipped + (not here),
            )
            if progress is not None:
                progress(state)

    async with asyncio.TaskGroup() as group:
        for _ in range(parallel):
            group.create_task(work())
    return state


class Follower:
    """Looks every ``every`` seconds, on average, for new versions; tells what is dirty and since when as metrics."""

    def __init__(
        self,
        mirror: Mirror,
        store: RollupStore,
        rollups: Rollups,
        clock: Clock,
        rng: Random,
        telemetry: Telemetry,
        every: float = 5.0,
    ) -> None:
        self._mirror = mirror
        self._store = store
        self._rollups = rollups
        self._clock = clock
        self._rng = rng
        self._every = every
        self._telemetry = telemetry
        self._statuses: tuple[RollupStatus, ...] = ()
        self._hint = asyncio.Event()
        self._failing = False
        self.progress = Progress(0, 0, 0, 0)
        """How far the current look is, or the last one."""

    async def run(self) -> None:
        """Looks until it is cancelled."""
        forget = [
            self._telemetry.observe(catalog.DIRTY, self._dirty),
            self._telemetry.observe(catalog.LAG, self._lag),
        ]
        try:
            while True:
                await self.look()
                await self._pause()
        finally:
            for function in forget:
                function()

    def hint(self) -> None:
        """Something was published: the next look is now."""
        self._hint.set()

    async def look(self) -> Progress:
        """Reads the state of every rollup and fetches what is new."""
        statuses: list[RollupStatus] = []
        failure = ""
        for dataset, rollup in self._rollups():
            try:
                statuses.append(await self._store.status(dataset, rollup))
            except BrokerError as error:
                failure = str(error)
        if failure and not self._failing:
            logger.warning(
                "the state of rollups cannot be read; their segments are not fetched ahead: %s", failure
            )
        self._failing = bool(failure)
        self._statuses = tuple(statuses)
        before = self.progress
        done = await hydrate(self._mirror, statuses, progress=self._told)
        if done.total and (done.total, done.skipped) != (before.total, before.skipped):
            logger.info(
                "%d of %d segments of rollups are here (%d bytes)",
                done.total - done.skipped,
                done.total,
                self._mirror.byte_count,
            )
        return done

    def _told(self, progress: Progress) -> None:
        self.progress = progress

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(self._every * self._rng.uniform(0.5, 1.5)):
                await self._hint.wait()
        except TimeoutError:
            return
        self._hint.clear()

    def _dirty(self) -> list[Reading]:
        return [
            (sum(len(part.dirty) for part in status.partitions), _labels(status)) for status in self._statuses
        ]

    def _lag(self) -> list[Reading]:
        now = self._clock.now()
        readings: list[Reading] = []
        for status in self._statuses:
            dirty = [part.segment.as_of for part in status.partitions if part.segment and part.dirty]
            age = (now - min(dirty)).total_seconds() if dirty else 0.0
            readings.append((age, _labels(status)))
        return readings


def _segments(status: RollupStatus) -> list[Segment]:
    return [part.segment for part in status.partitions if part.segment is not None]


def _labels(status: RollupStatus) -> dict[str, str]:
    return {n.DATASET: status.rollup.dataset, n.ROLLUP: status.rollup.name}
