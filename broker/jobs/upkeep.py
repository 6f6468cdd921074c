"""What every worker does for all: jobs of lost workers, results past their time, files that nobody owns."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from random import Random
from typing import Protocol

from broker.domain.job import part_prefix
from broker.ports.jobs import JobKeeper, ResultStore

logger = logging.getLogger(__name__)


class Chores(Protocol):
    """What a worker does for all, again and again."""

    async def reap(self) -> None:
        """Often."""
        ...

    async def sweep(self) -> None:
        """Now and then."""
        ...


@dataclass(frozen=True, slots=True)
class Upkeep:
    """Small bounded steps that any number of workers may do at the same time. ``tombstone_age`` is in seconds."""

    keeper: JobKeeper
    results: ResultStore
    rng: Random
    tombstone_age: float

    async def reap(self) -> None:
        """Ends attempts of lost workers and overdue ones, and jobs that nobody began in time."""
        if count := await self.keeper.reap(self.rng.random):
            logger.warning("ended %d attempts that were lost or overdue", count)
        await self.keeper.fail_unstarted()

    async def sweep(self) -> None:
        """Deletes what has expired: results first, then files without an owner, then rows of jobs long ended."""
        while expired := await self.keeper.expire():
            for job in expired:
                await self.results.delete(part_prefix(job.tenant, job.id, job.fence))
        # Listed before the owners are asked for: whatever is published in between has an owner by then.
        for prefix in await self.keeper.unwanted(await self.results.prefixes()):
            await self.results.delete(prefix)
        while await self.keeper.purge(self.tombstone_age):
            pass
