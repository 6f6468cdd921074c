"""Ranges of an export under way, seen from its attempt and from the workers that help it.

Every method raises BrokerError STORE_UNAVAILABLE when the job database cannot be reached, and may then be called again.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Protocol

from broker.domain.job import Job, JobProgress, JobResult
from broker.domain.ranges import Legacy, RangeClaim, RangeOffer, RangeState


class JobRanges(Protocol):
    """The ranges of running attempts.

    An attempt opens them under its own fence, and withdraws them when it ends. Each has a fence of its own, which grows
    with every claim: a write about a range happens only under the claim's fence and worker, and while the attempt that
    opened it runs; otherwise it changes nothing and says so.
    """

    async def left(self, job: Job, fingerprint: str) -> Legacy:
        """What the last attempt left that opened ranges of the same plan and died."""
        ...

    async def open(
        self,
        job: Job,
        snapshot: str,
        fingerprint: str,
        ranges: Sequence[RangeOffer],
        *,
        read_time: datetime,
        legacy: int = 0,
    ) -> bool:
        """Offers the ranges of an attempt, in the order of the answer; False when the attempt is stale.

        A range with parts is done at once, provided that the attempt with the fence ``legacy`` has left the same range
        of the same plan as finished, and that one of its proofs is still given; otherwise it is to be written.
        ``read_time`` is when the snapshot was taken.
        """
        ...

    async def claim_own(self, job: Job) -> RangeClaim | None:
        """A range for the attempt itself, one at a time: one that nobody has, or that its worker has not begun."""
        ...

    async def finish_own(self, job: Job, claim: RangeClaim, result: JobResult) -> bool:
        """The attempt has written a range; False when it is stale."""
        ...

    async def state(self, job: Job) -> Sequence[RangeState]:
        """All ranges of the attempt, in order."""
        ...

    async def withdraw(self, job: Job, *, keep: bool = False) -> int:
        """Nobody may take or finish a range of the attempt any more. Returns how many living workers still have one.

        Once nobody has, the ranges are forgotten, unless they are kept for the next attempt.
        """
        ...

    async def claim(self, worker_id: str, kinds: Collection[str], limit: int) -> Sequence[Job]:
        """Ranges of other attempts, as jobs of the kind ``RANGE_KIND``, for a worker that can run these kinds."""
        ...

    async def begin(self, job: Job) -> bool:
        """The worker has what it needs and begins to read; from now on the attempt waits for it."""
        ...

    async def report(self, updates: Sequence[tuple[Job, JobProgress]]) -> Collection[str]:
        """Writes how far ranges are; returns the ids of stale ones."""
        ...

    async def finish(self, job: Job, result: JobResult) -> bool:
        """The worker has written the range."""
        ...

    async def release(self, job: Job, *, failed: bool = False) -> bool:
        """Gives the range back; one that failed is left to the attempt itself, which knows what to do about errors."""
        ...

    async def held(self, worker_id: str) -> Sequence[Job]:
        """The ranges that a worker has; one that it is to stop is flagged as a job with a cancellation is."""
        ...
