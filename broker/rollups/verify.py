"""Rollups check themselves: in idle seats some answers are computed again, from rollups and from the source.

Both are read in one snapshot, so they must be equal. The first difference takes the rollups that had a part in the
answer out of service: answers go live from the next snapshot on, until somebody has looked and lets them answer again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from random import Random
from typing import Protocol

from broker.domain.deadline import Deadline
from broker.domain.errors import BrokerError
from broker.domain.pool import PoolName
from broker.domain.rollup import Rollup, instant
from broker.pipeline.stage import Question
from broker.policy.admission.values import PoolLoad
from broker.ports.clock import Clock
from broker.ports.rollups import BothWays
from broker.telemetry.instruments import Telemetry

logger = logging.getLogger(__name__)

Both = Callable[[Question, Deadline], Awaitable[BothWays | None]]
"""Answers a question from rollups and from the source in one snapshot, at the lowest criticality; None when rollups
would not answer it any more."""


class Verdicts(Protocol):
    """Where the outcome is kept; a RollupStore is one."""

    async def quarantine(self, rollup: Rollup, reason: str) -> None:
        """Lets the rollup answer no more."""
        ...

    async def verified(self, rollup: Rollup) -> None:
        """Notes that the rollup was compared with its source and agreed."""
        ...


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """``share`` of the answers is compared, while at most ``waiting`` of them are kept for idle seats.

    ``timeout`` bounds a comparison, ``look`` is the mean time between two looks for idle seats, and ``note`` the least
    time between two notes in the database that a rollup agreed; all in seconds.
    """

    share: float = 0.01
    waiting: int = 64
    timeout: float = 60.0
    look: float = 0.5
    note: float = 60.0


def idle(loads: Iterable[PoolLoad], pool: PoolName) -> bool:
    """Whether nobody waits for a seat, and the pool has one that is free."""
    found = tuple(loads)
    free = any(load.pool is pool and load.seats_used < load.seat_limit for load in found)
    return free and not any(load.queue_length for load in found)


class SelfVerification:
    """The loop over answers that were offered. ``seats_idle`` says whether now is a good time."""

    def __init__(
        self,
        both: Both,
        store: Verdicts,
        seats_idle: Callable[[], bool],
        options: VerifyOptions,
        clock: Clock,
        rng: Random,
        telemetry: Telemetry,
    ) -> None:
        self._both, self._store, self._seats_idle = both, store, seats_idle
        self._options, self._clock, self._rng, self._telemetry = options, clock, rng, telemetry
        self._waiting: deque[Question] = deque()
        self._arrived = asyncio.Event()
        self._noted: dict[tuple[str, str], float] = {}

    def offer(self, question: Question) -> None:
        """A question was answered from rollups. A share of them is kept; when too many wait, this one is dropped."""
        if self._rng.random() >= self._options.share:
            return
        if len(self._waiting) >= self._options.waiting:
            self._telemetry.rollup_verification(question.plan.query.dataset, "dropped")
            return
        self._waiting.append(question)
        self._arrived.set()

    async def run(self) -> None:
        """Compares what waits, one at a time and only in idle seats, until it is cancelled."""
        while True:
            await self._arrived.wait()
            while not self._seats_idle():
                await self._pause()
            question = self._waiting.popleft()
            if not self._waiting:
                self._arrived.clear()
            try:
                await self.check(question)
            except Exception:
                # A bug of one comparison must not end all others: nobody else would find wrong rollups.
                logger.exception("an answer of %s could not be compared", question.plan.query.dataset)
                self._telemetry.rollup_verification(question.plan.query.dataset, "failed")

    async def check(self, question: Question) -> bool | None:
        """Whether both answers were equal; None when nothing could be compared. Rollups that differ are quarantined."""
        dataset, found = question.plan.query.dataset, None
        deadline = Deadline.after(self._options.timeout, self._clock.monotonic())
        try:
            found = await self._both(question, deadline)
        except BrokerError as error:
            logger.info("an answer of %s could not be compared with its source: %s", dataset, error)
            self._telemetry.rollup_verification(dataset, "failed")
            return None
        if found is None or not found.exact or not found.rollups:
            self._telemetry.rollup_verification(dataset, "skipped")
            return None
        if found.comparison.differing:
            self._telemetry.rollup_verification(dataset, "different")
            await self._quarantine(question, found)
            return False
        self._telemetry.rollup_verification(dataset, "equal")
        await self._note(found.rollups)
        return True

    async def _quarantine(self, question: Question, found: BothWays) -> None:
        """Does not end before all are out of service, since nothing else matters as much."""
        differing, rows = found.comparison.differing, found.comparison.rows
        reason = (
            f"{differing} of {rows} groups of an answer differed from the source in "
            f"{', '.join(found.comparison.columns) or 'which groups there are'}: {found.comparison.example}"
        )
        logger.error(
            "answers of rollups differ from the source; quarantined %s: %s",
            ", ".join(rollup.name for rollup in found.rollups),
            reason,
            extra={
                "dataset": question.plan.query.dataset,
                "fingerprint": question.plan.fingerprint,
                "spans": [[_shown(span.lo), _shown(span.hi)] for span in found.spans],
            },
        )
        for rollup in found.rollups:
            while not await self._quarantined(rollup, reason):
                await self._pause()
            self._telemetry.rollup_quarantine(rollup.dataset, rollup.name)

    async def _quarantined(self, rollup: Rollup, reason: str) -> bool:
        try:
            await self._store.quarantine(rollup, reason)
        except BrokerError as error:
            logger.error("%s differs from its source but cannot be quarantined: %s", rollup.name, error)  # noqa: TRY400 - its stack says nothing
            return False
        return True

    async def _note(self, rollups: Iterable[Rollup]) -> None:
        now = self._clock.monotonic()
        for rollup in rollups:
            key = rollup.dataset, rollup.name
            if now < self._noted.get(key, now):
                continue
            self._noted[key] = now + self._options.note
            try:
                await self._store.verified(rollup)
            except BrokerError as error:
                logger.info("it is not noted that %s was verified: %s", rollup.name, error)

    async def _pause(self) -> None:
        await asyncio.sleep(self._options.look * self._rng.uniform(0.5, 1.5))


def _shown(at: int) -> str:
    when = instant(at)
    return when.isoformat() if when is not None else "unbounded"
