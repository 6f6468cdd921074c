"""Keeps what the classifier has learned over restarts: read at the start, saved every minute and at the end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from broker.adapters.pg_learned import PgLearned, scope_of
from broker.app.behind import behind
from broker.app.process import Process
from broker.config.settings import Settings
from broker.domain.errors import BrokerError
from broker.policy.classify import Classifier
from broker.policy.learned import VERSION, CorruptStateError, absorb, pieces
from broker.ports.clock import Clock
from broker.ports.learned import LearnedStore
from broker.telemetry import catalog
from broker.telemetry import names as n
from broker.telemetry.meters import Reading

SAVE_SECONDS = 60.0
LAST_SECONDS = 5.0
"""Time that the last save gets, when the process ends."""
_LOG = logging.getLogger(__name__)


class Keeper:
    """Reads and writes the state of one process, called ``writer``. Troubles are told in the log and nothing else."""

    def __init__(self, classifier: Classifier, store: LearnedStore, clock: Clock, writer: str) -> None:
        self._classifier, self._store, self._clock, self._writer = classifier, store, clock, writer
        self._absorbed: tuple[str, ...] = ()
        self._well = True

    async def load(self) -> None:
        """Adds up the states that other processes, and earlier ones, have left."""
        try:
            found = await self._store.load(VERSION)
        except BrokerError as error:
            self._trouble("read", error)
            return
        good: list[str] = []
        for state in reversed(found):  # the newest last, so that it is forgotten last
            try:
                absorb(self._classifier, state.state, state.age, self._clock.monotonic())
                good.append(state.writer)
            except CorruptStateError as error:
                _LOG.warning("the learned state of %s is left aside: %s", state.writer, error)
        self._absorbed = tuple(good)
        _LOG.info("learned state of %d processes, %d questions", len(good), len(self._classifier.histories))

    async def save(self) -> None:
        """Writes the state; the loop gets its turn between the pieces."""
        packed: list[bytes] = []
        for piece in pieces(self._classifier, self._clock.monotonic()):
            packed.append(piece)
            await asyncio.sleep(0)
        try:
            await self._store.save(self._writer, VERSION, b"".join(packed), self._absorbed)
        except BrokerError as error:
            self._trouble("saved", error)
        else:
            self._well = True

    def _trouble(self, what: str, error: BrokerError) -> None:
        level = logging.WARNING if self._well else logging.DEBUG  # once for each outage
        _LOG.log(level, "learned state is not %s: %s", what, error.message)
        self._well = False


@asynccontextmanager
async def kept(keeper: Keeper, every: float = SAVE_SECONDS) -> AsyncIterator[None]:
    """Loads, saves every so many seconds, and once more at the end."""
    await keeper.load()

    async def saving() -> None:
        while True:
            await asyncio.sleep(every)
            await keeper.save()

    try:
        async with behind({"learned": saving()}):
            yield
    finally:
        try:
            async with asyncio.timeout(LAST_SECONDS):
                await keeper.save()
        except TimeoutError:
            _LOG.warning(
                "learned state is not saved: the job database did not answer within %g s", LAST_SECONDS
            )


@asynccontextmanager
async def learned(classifier: Classifier, settings: Settings, own: Process) -> AsyncIterator[None]:
    """Keeps the classifier of a process in the job database, which may be away, and tells how well it predicts."""

    def read() -> list[Reading]:
        return [(error, {n.BASIS: basis.value}) for basis, error in classifier.calibration_errors]

    forget = own.telemetry.observe(catalog.CALIBRATION_ERROR, read)
    store = PgLearned(settings.jobs.dsn, scope_of(settings.database.dsn))
    try:
        async with kept(Keeper(classifier, store, own.clock, own.identity.instance_id)):
            yield
    finally:
        forget()
