"""What every worker does for all: jobs of lost workers, results past their time, files that nobody owns."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

from broker.domain.job import part_prefix
from broker.ports.jobs import JobKeeper
from broker.ports.results import OWNER, PREFIXES, ResultStore

logger = logging.getLogger(__name__)


class Chores(Protocol):
    """What a worker does for all, again and again."""

    async def reap(self) -> None:
        """Often."""
        ...

    async def sweep(self) -> None:
        """Now and then."""
        ...


@dataclass(slots=True)
class Upkeep:
    """Small bounded steps that any number of workers may do at the same time. ``tombstone_age`` is in seconds.

    A sweep looks at ``page`` prefixes of the result store, and the next one goes on from there. In the store of another
    deployment, whose jobs are not known here, no file is without an owner.
    """

    keeper: JobKeeper
    results: ResultStore
    rng: Random
    tombstone_age: float
    page: int = PREFIXES
    _after: str = field(default="", init=False)

    async def reap(self) -> None:
        """Ends attempts of lost workers and overdue ones, and jobs that nobody began in time."""
        if count := await self.keeper.reap(self.rng.random):
            logger.warning("ended attempts that were lost or overdue: %d", count)
        await self.keeper.fail_unstarted()

    async def sweep(self) -> None:
        """Deletes what has expired: results first, then files without an owner, then rows of jobs long ended."""
        while expired := await self.keeper.expire():
            for job in expired:
                await self.results.delete(part_prefix(job.tenant, job.id, job.fence))
        if await self._ours():
            # Listed before the owners are asked for: whatever is published in between has an owner by then.
            prefixes = await self.results.prefixes(self._after, self.page)
            for prefix in await self.keeper.unwanted(prefixes):
                await self.results.delete(prefix)
            self._after = prefixes[-1] if len(prefixes) == self.page else ""
        while await self.keeper.purge(self.tombstone_age):
            pass

    async def _ours(self) -> bool:
        deployment = await self.keeper.deployment()
        owner = await self.results.owner(deployment)
        if owner == deployment:
            return True
        logger.error(
            "the result store is that of deployment %s, this one is %s: what lost attempts leave there is not swept. "
            "Set jobs.results or jobs.result_dir to a place of its own, or, if that deployment is gone, delete the "
            "file %r in the store",
            owner,
            deployment,
            OWNER,
        )
        return False
