"""The application's side of AdminService: the process and its cache, as operators see them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from broker.app.member import Member
from broker.domain.answer import Interval
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.held import Selection
from broker.domain.model import Dataset
from broker.domain.state import BrokerState
from broker.policy.conditions import nearest
from broker.ports.cache import AnswerCache
from broker.rollups.service import span_of
from broker.runtime.lifecycle import Program
from broker.runtime.state import StateReader


@dataclass(slots=True)
class Admin:
    """The application's side of AdminService."""

    reader: StateReader
    program: Program
    member: Member
    grace: float | None = None

    async def state(self) -> BrokerState:
        """What the process is doing now."""
        return await self.reader.read()

    async def drain(self, grace: float | None) -> None:
        """Begins to drain."""
        self.grace = grace
        self.program.stop()
        self.member.drained(grace)


@dataclass(frozen=True, slots=True)
class CacheService:
    """Removes answers about the datasets of a model."""

    answers: AnswerCache
    datasets: Mapping[str, Dataset]

    async def invalidate(self, dataset: str, rollup: str, interval: Interval | None) -> int:
        """Removes answers of a dataset (empty: all), or of one of its rollups, that touch an interval; their number.

        Raises:
            BrokerError: DATASET_NOT_FOUND, ROLLUP_NOT_FOUND.
        """
        if dataset and dataset not in self.datasets:
            text = f"There is no dataset {dataset!r}{nearest(dataset, list(self.datasets))}"
            raise BrokerError(ErrorReason.DATASET_NOT_FOUND, text, resource=f"datasets/{dataset}")
        if rollup and rollup not in (known := self.datasets[dataset].rollups):
            text = f"{dataset!r} has no rollup {rollup!r}{nearest(rollup, list(known))}"
            resource = f"datasets/{dataset}/rollups/{rollup}"
            metadata = {"rollup": resource}
            raise BrokerError(ErrorReason.ROLLUP_NOT_FOUND, text, metadata=metadata, resource=resource)
        span = None if interval is None else span_of(interval)
        return await self.answers.remove(Selection(dataset, rollup, span))
