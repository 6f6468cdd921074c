"""What operators ask of rollups: where they stand, whether they are right, that they answer again or go away."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from broker.domain.answer import Interval
from broker.domain.deadline import Deadline
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.model import Dataset
from broker.domain.rollup import ALWAYS, FAR_FUTURE, FAR_PAST, Rollup, Span, micros
from broker.ports.rollups import Examined, RollupStatus, RollupStore

Examine = Callable[[Dataset, Rollup, Span, Deadline], Awaitable[Examined]]
"""Compares what a rollup claims to hold of a span with its source."""
Position = tuple[str, str]
"""Names of a dataset and of a rollup, by which rollups are ordered."""


@dataclass(frozen=True, slots=True)
class RollupService:
    """Operates the rollups of a model. ``answers`` counts those that a rollup gave since the start of the process."""

    datasets: Mapping[str, Dataset]
    store: RollupStore
    examine: Examine
    answers: Callable[[Rollup], int] = lambda _: 0

    async def rollups(self, dataset: str, after: Position | None, limit: int) -> Sequence[RollupStatus]:
        """At most ``limit`` rollups by name, of one dataset or of all (empty), after a position.

        Raises:
            BrokerError: DATASET_NOT_FOUND; STORE_UNAVAILABLE.
        """
        if dataset and dataset not in self.datasets:
            text = f"There is no dataset {dataset!r}. ListDatasets names them all."
            raise BrokerError(ErrorReason.DATASET_NOT_FOUND, text, resource=f"datasets/{dataset}")
        listed = [name for name in self._names() if not dataset or name[0] == dataset]
        chosen = [name for name in listed if after is None or name > after][:limit]
        return [await self.status(*name) for name in chosen]

    async def status(self, dataset: str, rollup: str) -> RollupStatus:
        """Where a rollup stands; raises ROLLUP_NOT_FOUND."""
        return await self.store.status(*self._find(dataset, rollup))

    def answer_count(self, rollup: Rollup) -> int:
        """Answers that the rollup gave since the start of this process."""
        return self.answers(rollup)

    async def verify(
        self, dataset: str, rollup: str, interval: Interval | None, deadline: Deadline
    ) -> tuple[Examined, RollupStatus]:
        """Compares a rollup with its source; one that differs from it is quarantined.

        A rollup that promises less than equality may differ, so it is not.

        Raises:
            BrokerError: ROLLUP_NOT_FOUND, ROLLUP_STATE when nothing can be compared, what the store raises.
        """
        own, found = self._find(dataset, rollup)
        examined = await self.examine(own, found, span_of(interval), deadline)
        if examined.mismatched and examined.exact:
            buckets = "1 bucket" if examined.mismatched == 1 else f"{examined.mismatched} buckets"
            reason = f"{buckets} of {examined.buckets} differed from the source: {examined.example}"
            await self.store.quarantine(found, reason)
        elif not examined.mismatched and examined.buckets:
            await self.store.verified(found)
        return examined, await self.store.status(own, found)

    async def release(self, dataset: str, rollup: str) -> RollupStatus:
        """Lets a quarantined rollup answer again; raises ROLLUP_NOT_FOUND, or ROLLUP_STATE when it is not."""
        own, found = self._find(dataset, rollup)
        status = await self.store.status(own, found)
        if status.state != "quarantined":
            text = f"The rollup {rollup!r} is {status.state}, not quarantined; there is nothing to release."
            metadata = {"rollup": _resource(dataset, rollup), "state": status.state}
            raise BrokerError(ErrorReason.ROLLUP_STATE, text, metadata=metadata)
        await self.store.quarantine(found, "")
        return await self.store.status(own, found)

    async def drop(self, dataset: str, rollup: str, *, keep_triggers: bool) -> None:
        """Deletes a rollup's data and, unless others need them or they are to be kept, its triggers."""
        own, found = self._find(dataset, rollup)
        await self.store.drop(own, found, keep_triggers=keep_triggers)

    def _names(self) -> Iterator[Position]:
        for name in sorted(self.datasets):
            for rollup in sorted(self.datasets[name].rollups):
                yield name, rollup

    def _find(self, dataset: str, rollup: str) -> tuple[Dataset, Rollup]:
        own = self.datasets.get(dataset)
        if own is None or rollup not in own.rollups:
            resource = _resource(dataset, rollup)
            text = f"There is no rollup {resource!r}. ListRollups names them all."
            raise BrokerError(
                ErrorReason.ROLLUP_NOT_FOUND, text, metadata={"rollup": resource}, resource=resource
            )
        return own, own.rollups[rollup]


def span_of(interval: Interval | None) -> Span:
    """An interval whose ends may be open, None for all of time."""
    if interval is None:
        return ALWAYS
    lo = FAR_PAST if interval.start is None else micros(interval.start)
    return Span(lo, FAR_FUTURE if interval.end is None else micros(interval.end))


def _resource(dataset: str, rollup: str) -> str:
    return f"datasets/{dataset}/rollups/{rollup}"
