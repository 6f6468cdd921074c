"""Keeps an eye on what all rollups cover, so that what answers will cost can be predicted.

An answer never rests on what was seen here; it reads its own snapshot. The mirror looks for itself: more seldom, at the
primary, and at partitions and files, where this asks what a snapshot of an answer says.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from random import Random

from broker.domain.errors import BrokerError
from broker.domain.model import Dataset
from broker.domain.rollup import Coverage
from broker.pipeline.looks import Look
from broker.pipeline.routes import Router

LOOK_SECONDS = 1.0
"""Mean time between two looks."""
_LOG = logging.getLogger(__name__)

Read = Callable[[Dataset], Awaitable[tuple[Sequence[Coverage], datetime]]]
"""The coverage of all rollups of a dataset, from a snapshot of its own, and the instant of which that tells."""

Keep = Callable[[Mapping[str, Look]], Awaitable[None]]
"""Keeps the last looks for the next process."""


async def keep_nothing(_: Mapping[str, Look]) -> None:
    """The next process knows nothing."""


class Watch:
    """The loop over the datasets that have rollups."""

    def __init__(
        self,
        datasets: Sequence[Dataset],
        read: Read,
        router: Router,
        random: Random,
        keep: Keep = keep_nothing,
    ) -> None:
        self._datasets, self._read, self._router, self._random = datasets, read, router, random
        self._keep = keep
        self._ill: set[str] = set()

    async def run(self) -> None:
        """Looks until it is cancelled. What goes wrong is told once in the log, and tried again."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_SECONDS * self._random.uniform(0.5, 1.5))

    async def look(self) -> None:
        """Looks at every dataset once, and has what was seen kept."""
        for dataset in self._datasets:
            try:
                found, as_of = await self._read(dataset)
            except BrokerError as error:
                if dataset.name not in self._ill:
                    _LOG.warning("the rollups of %s cannot be seen: %s", dataset.name, error.message)
                self._ill.add(dataset.name)
            else:
                self._ill.discard(dataset.name)
                self._router.learn(dataset, found, as_of)
        await self._keep(self._router.looks)
