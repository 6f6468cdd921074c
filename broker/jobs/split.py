"""A large export in ranges, out of one snapshot: written by its attempt, and by every worker that has a slot to spare.

The attempt takes the snapshot, lends it out and holds it until all ranges are done: it lives and dies with the attempt.
It writes ranges itself, one after the other, so that it needs nobody; what is read by others is read at the same time.
What an attempt that died has finished is taken over where it is proven to be the same (:mod:`broker.jobs.inherited`).
However the attempt ends, nobody goes on: it withdraws what is left and waits for those who are still at it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.job import ExportFormat, ResultPart, part_prefix
from broker.domain.plan import Plan
from broker.domain.pool import PoolName
from broker.domain.ranges import KeyRange, Legacy, RangeClaim, RangeState, range_id
from broker.domain.terms import AnswerPolicy
from broker.jobs.inherited import Heir, offers
from broker.jobs.kind import JobContext
from broker.jobs.range_files import RangeFiles, file_name
from broker.jobs.ranges import LeadingKey, interval_of, within
from broker.jobs.sources import Reading, reading_of
from broker.jobs.transfer import Progress
from broker.ports.ranges import JobRanges
from broker.ports.store import QueryStore, Snapshot

LOOK_SECONDS = 0.25
"""How often an attempt looks how far its ranges are."""
RETRY_SECONDS = 0.5
LETTING_GO_SECONDS = 1.5
"""How long an attempt that ends waits for its helpers: less than a worker has to let go when its lease is over."""

T = TypeVar("T")
logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Counts:
    """What the attempt itself has written of the range that it is at."""

    rows: int = 0
    size: int = 0

    def wrote(self, rows: int, size: int) -> None:
        """So much."""
        self.rows, self.size = rows, size


@dataclass(frozen=True, slots=True)
class Split:
    """One export that is cut into ``ranges`` along ``key``."""

    plan: Plan
    key: LeadingKey
    ranges: Sequence[KeyRange]
    shared: JobRanges
    legacy: Legacy
    encoding: ExportFormat
    policy: AnswerPolicy
    store: QueryStore
    files: RangeFiles
    context: JobContext
    progress: Progress
    _counts: _Counts = field(default_factory=_Counts)

    async def run(self) -> tuple[Reading, tuple[ResultPart, ...], Mapping[datetime, int]]:
        """Writes all ranges; when the rows were read, the files in the order of the answer, and what was taken over.

        That is how many rows were read by an attempt that died, by when it read them.
        """
        job = self.context.job
        async with self.store.snapshot(PoolName.JOB, self.context.deadline) as snapshot:
            when = await reading_of(snapshot, [self.plan], self.policy)
            own = await offers(self.store, snapshot, self.plan, self.key, self.ranges)
            own = await Heir(job, self.context.results).claimed(own, self.legacy)
            if any(each.proofs for each in own):
                self.context.leaves.set()
            name, legacy = await snapshot.share(), self.legacy.job_fence
            try:
                opened = await _patiently(
                    lambda: self.shared.open(
                        job, name, self.plan.fingerprint, own, read_time=when.as_of, legacy=legacy
                    )
                )
                if not opened:
                    raise _stale()
                states = await self._until_done(snapshot)
            except BaseException:
                await self._withdraw(keep=True)
                raise
            await self._withdraw(keep=False)
        return when, await self._chosen(states), _inherited(states)

    async def _until_done(self, snapshot: Snapshot) -> Sequence[RangeState]:
        """Writes ranges while there are any to be had, then waits for those of others."""
        job = self.context.job
        own: asyncio.Task[None] | None = None
        try:
            while True:
                if own is not None and own.done():
                    own.result()  # raises what went wrong
                    own = None
                if own is None:
                    claim = await _patiently(lambda: self.shared.claim_own(job))
                    if claim is not None:
                        own = asyncio.create_task(self._write(claim, snapshot), name="range of an export")
                states = await _patiently(lambda: self.shared.state(job))
                self._tell(states)
                if not states:
                    raise _stale()
                if all(state.parts is not None for state in states):
                    return states
                if own is None:
                    await snapshot.touch()
                    await asyncio.sleep(LOOK_SECONDS)
                else:
                    await asyncio.wait({own}, timeout=LOOK_SECONDS)
        finally:
            if own is not None:
                own.cancel()
                await asyncio.wait({own})

    async def _write(self, claim: RangeClaim, snapshot: Snapshot) -> None:
        job = self.context.job
        prefix = part_prefix(job.tenant, range_id(job.id, job.fence, claim.index), claim.fence)
        part = within(self.plan, self.key, claim.within)
        own = self._counts
        result = await self.files.write(part, self.encoding, prefix, snapshot, own.wrote)
        if not await _patiently(lambda: self.shared.finish_own(job, claim, result)):
            raise _stale()
        own.wrote(0, 0)  # it counts among those that are done from now on

    def _tell(self, states: Sequence[RangeState]) -> None:
        """Reports how far all are together, and what they are at."""
        busy = [state for state in states if state.busy]
        done = sum(state.parts is not None for state in states)
        inherited = sum(state.inherited is not None for state in states)
        of_those = f", {inherited} of them by an attempt that died" if inherited else ""
        rows = self._counts.rows + sum(state.row_count for state in states)
        size = self._counts.size + sum(state.byte_count for state in states)
        self.progress.at(
            interval_of(self.plan, self.key, [state.within for state in busy]),
            f"{done} of {len(states)} ranges are written{of_those}, {len(busy)} under way",
        )
        # A range that was lost begins anew; what has been seen is not taken back.
        self.progress.wrote(max(rows, self.progress.row_count), max(size, self.progress.byte_count))

    async def _withdraw(self, *, keep: bool) -> None:
        """Ends all claims, and waits until those who had one have let go; what is left may be kept for the next."""
        job = self.context.job
        try:
            async with asyncio.timeout(LETTING_GO_SECONDS):
                while await self.shared.withdraw(job, keep=keep):  # noqa: ASYNC110 - who has one is in another process
                    await asyncio.sleep(LOOK_SECONDS / 5)
        except (BrokerError, TimeoutError) as error:
            if isinstance(error, BrokerError) and error.reason is not ErrorReason.STORE_UNAVAILABLE:
                raise
            # Whoever still has a range finds out when it can look again; that a job is cancelled is not said before.
            logger.info("ranges of %s are left to their workers: %s", job.name, error)

    async def _chosen(self, states: Sequence[RangeState]) -> tuple[ResultPart, ...]:
        """The files of all ranges as those of one result, without empty ones; what lost claims left is deleted."""
        job = self.context.job
        found = [part for state in states for part in state.parts or ()]
        kept = [part for part in found if part.row_count] or found[:1]
        for state in states:
            place = range_id(job.id, job.fence, state.index)
            whole = not any(part in kept for part in state.parts or ())
            for fence in range(state.fence + whole):  # the first is that of files which were not taken over
                await self.context.results.delete(part_prefix(job.tenant, place, fence))
        stem = self.plan.main.dataset.name
        return tuple(
            replace(part, index=i, file_name=file_name(stem, i, len(kept), Path(part.file_name).suffix))
            for i, part in enumerate(kept)
        )


def _inherited(states: Sequence[RangeState]) -> Mapping[datetime, int]:
    found: dict[datetime, int] = {}
    for state in states:
        if state.inherited is not None:
            found[state.inherited] = found.get(state.inherited, 0) + state.row_count
    return found


def _stale() -> BrokerError:
    text = "Another attempt has the job. This one ends."
    return BrokerError(ErrorReason.WORKER_LOST, text)


async def _patiently(call: Callable[[], Awaitable[T]]) -> T:
    """What the call gives, as soon as the job database answers; how long that may take, the lease decides."""
    while True:
        try:
            return await call()
        except BrokerError as error:
            if error.reason is not ErrorReason.STORE_UNAVAILABLE:
                raise
        await asyncio.sleep(RETRY_SECONDS)
