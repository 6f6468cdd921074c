"""What workers do for rollups all the time: what has changed or is missing is built, what nobody needs is deleted.

Any number of workers may do it: a partition is built by whoever has its lease. One turn works on one rollup, in one
seat, on a few partitions at most, so that the first build of a large rollup does not keep the others waiting.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random

from broker.domain.deadline import Deadline
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.model import Dataset
from broker.domain.rollup import Rollup, Storage
from broker.ports.clock import Clock
from broker.ports.rollups import RollupStore
from broker.rollups.gauges import RollupGauges
from broker.rollups.refresh import Refresher, Refreshing
from broker.telemetry.instruments import Telemetry

_QUIET = frozenset(
    {ErrorReason.ROLLUP_STATE, ErrorReason.OVERLOADED, ErrorReason.QUEUE_TIMEOUT, ErrorReason.TENANT_QUOTA}
)
"""What somebody else has to change, and that callers come first."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class UpkeepTerms:
    """Times in seconds. Replaced versions are kept for ``keep``; a turn takes ``partitions`` at most, and ``turn``.

    After each partition there is a pause of ``rest`` times as long as it took. A rollup that cannot be refreshed is
    tried again after ``retry``; a dataset is swept every ``sweep``. A partition is written at ``write_rate`` bytes per
    second at most, on average.
    """

    keep: float = 600.0
    partitions: int = 4
    turn: float = 3600.0
    rest: float = 0.25
    retry: float = 30.0
    sweep: float = 60.0
    write_rate: float = 256 * 1024


@dataclass(slots=True)
class _Plan:
    """When something is due, on the monotonic clock, and what was wrong the last time."""

    due: float
    trouble: object = None


@dataclass(slots=True)
class _State:
    rollups: dict[tuple[str, str], _Plan] = field(default_factory=dict)
    sweeps: dict[str, _Plan] = field(default_factory=dict)


class RollupUpkeep:
    """Keeps up all rollups of the datasets that the broker stores itself."""

    def __init__(
        self,
        datasets: Mapping[str, Dataset],
        refresher: Refresher,
        store: RollupStore,
        clock: Clock,
        rng: Random,
        telemetry: Telemetry,
        terms: UpkeepTerms | None = None,
    ) -> None:
        self._datasets, self._refresher, self._store = datasets, refresher, store
        self._clock, self._rng, self._telemetry = clock, rng, telemetry
        self._terms = terms or UpkeepTerms()
        self._state = _State()
        self._gauges: RollupGauges | None = None
        now = clock.monotonic()
        for dataset in datasets.values():
            stored = [r for r in dataset.rollups.values() if r.storage is not Storage.EXTERNAL]
            for rollup in stored:
                first = rng.uniform(0.0, min(self._terms.retry, rollup.refresh_every))
                self._state.rollups[dataset.name, rollup.name] = _Plan(now + first)
            if stored:
                self._state.sweeps[dataset.name] = _Plan(now + self._later(self._terms.sweep))

    @property
    def idle(self) -> bool:
        """Whether there is nothing to keep up."""
        return not self._state.rollups

    async def run(self) -> None:
        """Goes on until it is cancelled; no error ends it."""
        self._gauges = RollupGauges(self._clock, self._telemetry)
        try:
            while not self.idle:
                pause = await self.turn()
                await asyncio.sleep(pause)
        finally:
            self._gauges.close()

    async def turn(self) -> float:
        """Does what is due first, if it is; the seconds until the next thing is due."""
        plans = self._state.rollups
        name = min(plans, key=lambda key: plans[key].due, default=None)
        if name is not None and plans[name].due <= self._clock.monotonic():
            await self._refresh(self._datasets[name[0]], self._datasets[name[0]].rollups[name[1]])
        for dataset, plan in self._state.sweeps.items():
            if plan.due <= self._clock.monotonic():
                await self._sweep(self._datasets[dataset], plan)
        first = min((p.due for p in [*plans.values(), *self._state.sweeps.values()]), default=math.inf)
        return max(0.0, first - self._clock.monotonic())

    async def _refresh(self, dataset: Dataset, rollup: Rollup) -> None:
        terms, name = self._terms, f"the rollup {dataset.name}.{rollup.name}"
        plan = self._state.rollups[dataset.name, rollup.name]
        deadline = Deadline.after(terms.turn, self._clock.monotonic())
        asked = Refreshing(limit=terms.partitions, rest=terms.rest, write_rate=terms.write_rate)
        pause = self._later(rollup.refresh_every)
        try:
            made = await self._refresher.refresh(dataset, rollup, deadline, asked)
        except Exception as error:  # noqa: BLE001 - whatever it is, the other rollups are kept up
            pause = self._later(max(terms.retry, rollup.refresh_every))
            self._failed(name, plan, error)
        else:
            self._worked(name, plan)
            if self._gauges is not None:
                self._gauges.see([made.status])
            if made.left > made.progress.busy:
                pause = 0.0
        plan.due = self._clock.monotonic() + pause

    async def _sweep(self, dataset: Dataset, plan: _Plan) -> None:
        name = f"sweeping the rollups of {dataset.name}"
        try:
            await self._store.sweep(dataset, self._terms.keep)
        except Exception as error:  # noqa: BLE001 - it is tried again
            self._failed(name, plan, error)
        else:
            self._worked(name, plan)
        plan.due = self._clock.monotonic() + self._later(self._terms.sweep)

    def _failed(self, name: str, plan: _Plan, error: Exception) -> None:
        """Logs an error when it begins, not at every turn."""
        kind: object = error.reason if isinstance(error, BrokerError) else type(error)
        if kind != plan.trouble:
            if not isinstance(error, BrokerError):
                logger.error("%s failed and will be tried again", name, exc_info=error)
            elif error.reason in _QUIET:
                logger.info("%s waits: %s", name, error)
            else:
                logger.warning("%s will be tried again: %s", name, error)
        plan.trouble = kind

    def _worked(self, name: str, plan: _Plan) -> None:
        if plan.trouble is not None:
            logger.info("%s works again", name)
        plan.trouble = None

    def _later(self, seconds: float) -> float:
        """Varied by a quarter, so that workers do not march in step."""
        return self._rng.uniform(0.75, 1.25) * seconds
