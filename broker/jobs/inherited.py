"""Which finished ranges of an attempt that died or was stopped the next one takes over, and why they are the same.

A file may only hold rows of one snapshot, and the snapshot of a dead attempt is gone. What it wrote is as good as read
anew only where the rows of the range have not changed since, which has to be proven in the new snapshot:

- A range is *closed* where it lies wholly within segments of a rollup with triggers that no mark concerns, whose
  columns are all that the plan reads, and whose definition, tables, columns and triggers are those that were installed.
- Every range is opened with its proofs: what names those very versions (:mod:`broker.policy.rollups.closed`). The next
  attempt finds out the proofs of its own snapshot. A late row, a correction or TRUNCATE leaves a mark, a refresh makes
  another version, DDL makes the rollup unusable: then nothing agrees, and the range is written again.
- The files are first copied to where the attempt keeps its own, so neither the sweep nor the old attempt, should it
  only have been asleep, can take them away. Then the statement that opens the ranges, under the job's fence, compares
  range, plan and proofs once more with what was left, and forgets that.
- The status in the manifest has a part with the rows that were taken over, and the instant at which they were read.

Rows that are only promised not to change (``append_only``, a change token), sealed segments, whose rows the tables may
no longer have, and ranges without an end along the rollup's time are not closed: their attempt starts over.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from broker.domain.errors import BrokerError
from broker.domain.job import Job, ResultPart, part_prefix
from broker.domain.plan import Plan
from broker.domain.ranges import KeyRange, Legacy, RangeOffer, range_id
from broker.domain.rollup import ALWAYS, Rollup
from broker.jobs.ranges import LeadingKey, reached
from broker.policy.rollups.closed import proof, provers
from broker.ports.results import ResultStore
from broker.ports.store import QueryStore, Snapshot

logger = logging.getLogger(__name__)


async def offers(
    store: QueryStore, snapshot: Snapshot, plan: Plan, key: LeadingKey, ranges: Sequence[KeyRange]
) -> tuple[RangeOffer, ...]:
    """The ranges of a plan, each with what proves its rows in the snapshot."""
    dataset = plan.main.dataset
    groups = [group for group in _groups(provers(dataset)) if store.tells(plan, group)]
    if not groups:
        return tuple(map(RangeOffer, ranges))
    wanted = tuple({rollup.name: rollup for group in groups for rollup in group}.values())
    found, _ = await snapshot.coverage(dataset, wanted, ALWAYS)
    coverage = {each.rollup: each for each in found}
    made = []
    for each in ranges:
        proofs = []
        for group in groups:
            span = reached(plan, key, each, group[0].time)
            own = [proof(dataset, rollup, coverage[rollup.name], span) for rollup in group]
            if all(own):
                proofs.append(" ".join(own))
        made.append(RangeOffer(each, tuple(proofs)))
    return tuple(made)


@dataclass(frozen=True, slots=True)
class Heir:
    """Takes over what is proven of a legacy."""

    job: Job
    results: ResultStore

    async def claimed(self, own: Sequence[RangeOffer], legacy: Legacy) -> tuple[RangeOffer, ...]:
        """The same ranges, which are those of the legacy if it is useful, with copies of files that are taken over."""
        if not legacy.useful:
            return tuple(own)
        return tuple(
            [
                replace(mine, parts=await self._copied(index, left.parts))
                if left.parts is not None and not set(left.proofs).isdisjoint(mine.proofs)
                else mine
                for index, (mine, left) in enumerate(zip(own, legacy.ranges, strict=True))
            ]
        )

    async def _copied(self, index: int, parts: Sequence[ResultPart]) -> tuple[ResultPart, ...] | None:
        """The files below the prefix of a claim that nobody makes; None when one is gone or cannot be copied."""
        prefix = part_prefix(self.job.tenant, range_id(self.job.id, self.job.fence, index), 0)
        try:
            return tuple([replace(part, key=await self.results.copy(part.key, prefix)) for part in parts])
        except (BrokerError, OSError) as error:
            logger.info("range %d of %s is written again: %s", index, self.job.name, error)
            return None


def _groups(rollups: Sequence[Rollup]) -> list[tuple[Rollup, ...]]:
    """Each rollup by itself, and together all that are over one time dimension, whose columns may be enough."""
    alone = [(rollup,) for rollup in rollups]
    along = sorted(rollups, key=lambda rollup: rollup.time)
    together = [tuple(group) for _, group in groupby(along, key=lambda rollup: rollup.time)]
    return [*alone, *(group for group in together if len(group) > 1)]
