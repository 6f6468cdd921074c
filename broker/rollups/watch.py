"""Keeps an eye on what all rollups cover, so that what answers will cost can be predicted.

An answer rests on its own snapshot, and on what was seen here only for what is sealed, while that is young enough. The
mirror looks for itself: more seldom, at the primary, and at partitions and files, where this asks what a snapshot of an
answer says.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from random import Random

from broker.domain.errors import BrokerError
from broker.domain.model import Dataset

LOOK_SECONDS = 1.0
"""Mean time between two looks."""
_LOG = logging.getLogger(__name__)

Look = Callable[[Dataset], Awaitable[None]]
"""Learns the coverage of all rollups of a dataset, from a snapshot of its own."""

Keep = Callable[[], Awaitable[None]]
"""Keeps what was learned for the next process."""


class Watch:
    """The loop over the datasets that have rollups."""

    def __init__(self, datasets: Sequence[Dataset], look: Look, random: Random, keep: Keep) -> None:
        self._datasets, self._look, self._random, self._keep = datasets, look, random, keep
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
                await self._look(dataset)
            except BrokerError as error:
                if dataset.name not in self._ill:
                    _LOG.warning("the rollups of %s cannot be seen: %s", dataset.name, error.message)
                self._ill.add(dataset.name)
            else:
                self._ill.discard(dataset.name)
        await self._keep()
