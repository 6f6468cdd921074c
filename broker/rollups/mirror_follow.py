"""Keeps a mirror up with its rollups: looks for new versions, has them fetched ahead, and tells what has changed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from random import Random
from typing import Protocol

from broker.domain.errors import BrokerError
from broker.domain.model import Dataset
from broker.domain.rollup import Rollup
from broker.ports.clock import Clock
from broker.ports.rollups import RollupStatus
from broker.rollups.gauges import RollupGauges
from broker.rollups.mirror_hydrate import Progress
from broker.telemetry.instruments import Telemetry

logger = logging.getLogger(__name__)

Rollups = Callable[[], Iterable[tuple[Dataset, Rollup]]]
"""The rollups of the model, each with its dataset."""


class StatusSource(Protocol):
    """What rollups are like; a RollupStore is one."""

    async def status(self, dataset: Dataset, rollup: Rollup) -> RollupStatus:
        """State and partitions. Raises BrokerError."""
        ...


class Hydrated(Protocol):
    """What is to be kept up; a mirror is one."""

    async def hydrate(
        self, statuses: Iterable[RollupStatus], progress: Callable[[Progress], None] | None = None
    ) -> Progress:
        """Fetches what is current."""
        ...


class Follower:
    """Looks every ``every`` seconds on average. ``progress`` is that of the current look, or of the last one."""

    def __init__(
        self,
        mirror: Hydrated,
        store: StatusSource,
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
        self._telemetry = telemetry
        self._every = every
        self._hint = asyncio.Event()
        self._failing = False
        self._gauges: RollupGauges | None = None
        self.progress = Progress(0, 0, 0, 0)

    async def run(self) -> None:
        """Looks until it is cancelled; what goes wrong is logged, and tried again."""
        self._gauges = RollupGauges(self._clock, self._telemetry)
        try:
            while True:
                began = self._clock.monotonic()
                try:
                    await self.look()
                except Exception:
                    # Whatever it is, the next look may see: without looks nothing is fetched ahead.
                    logger.exception("looking for new segments failed")
                await self._pause(self._clock.monotonic() - began)
        finally:
            self._gauges.close()

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
            logger.warning("the state of rollups cannot be read; segments are not fetched ahead: %s", failure)
        self._failing = bool(failure)
        if self._gauges is not None:
            self._gauges.see(statuses)
        before = self.progress
        done = self.progress = await self._mirror.hydrate(statuses, self._told)
        if (done.total, done.skipped) != (before.total, before.skipped):
            logger.info("%d of %d segments of rollups are here", done.total - done.skipped, done.total)
        return done

    def _told(self, progress: Progress) -> None:
        self.progress = progress

    async def _pause(self, took: float) -> None:
        """At least four times as long as the look took, so that many rollups cost the database no more than a few."""
        try:
            async with asyncio.timeout(max(self._every, 4.0 * took) * self._rng.uniform(0.5, 1.5)):
                await self._hint.wait()
        except TimeoutError:
            return
        self._hint.clear()
