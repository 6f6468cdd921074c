"""A store of rollups in memory, in which tests say where the rollups stand."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta

from broker.domain.deadline import Deadline
from broker.domain.model import Dataset
from broker.domain.query import Grain
from broker.domain.rollup import Rollup, Segment, SegmentFile, Span, Storage, Tracking
from broker.ports.rollups import BuildLease, Built, Examined, PartitionStatus, RollupStatus
from tests.rpc.fakes import DATASET, NOON

DAY = 86_400_000_000
JANUARY, FEBRUARY = Span(0, 31 * DAY), Span(31 * DAY, 59 * DAY)


def segment(span: Span, *, sealed: bool = False) -> Segment:
    """A segment of 10 rows."""
    return Segment(1, span, 3, NOON, 10, 1_000, sealed)


def declared(dataset: str, name: str) -> Rollup:
    """A rollup by days."""
    return Rollup(name, dataset, "day", ("carrier",), ("flights",), (Grain.DAY, Grain.MONTH))


@dataclass
class FakeRollups:
    """A RollupStore with two rollups of the flights and one of the planes, and what they are examined to be."""

    examined: Examined = field(default_factory=lambda: Examined(buckets=59))
    statuses: dict[tuple[str, str], RollupStatus] = field(default_factory=dict)
    dropped: list[tuple[str, bool]] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Every rollup is active, with two months."""
        partitions = (
            PartitionStatus(JANUARY, segment(JANUARY), (Span(0, DAY), Span(5 * DAY, 7 * DAY - 1))),
            PartitionStatus(FEBRUARY, None),
        )
        for dataset, name in (("flights", "daily"), ("flights", "by_day"), ("planes", "all")):
            rollup = declared(dataset, name)
            self.statuses[dataset, name] = RollupStatus(rollup, "active", "", partitions, "d" * 32, NOON)
        table = replace(declared("flights", "by_day"), storage=Storage.TABLE, tracking=Tracking.APPEND_ONLY)
        sealed = (PartitionStatus(JANUARY, segment(JANUARY, sealed=True)),)
        self.statuses["flights", "by_day"] = RollupStatus(table, "quarantined", "It differed.", sealed)

    @property
    def datasets(self) -> dict[str, Dataset]:
        """The datasets with their rollups."""
        return {
            name: replace(
                DATASET,
                name=name,
                rollups={r: s.rollup for (d, r), s in self.statuses.items() if d == name},
            )
            for name in ("planes", "flights", "weather")
        }

    async def examine(self, dataset: Dataset, rollup: Rollup, span: Span, deadline: Deadline) -> Examined:
        """What the test says."""
        self.spans.append(span)
        return self.examined

    async def status(self, dataset: Dataset, rollup: Rollup) -> RollupStatus:
        return self.statuses[dataset.name, rollup.name]

    async def quarantine(self, rollup: Rollup, reason: str) -> None:
        self._change(rollup, state="quarantined" if reason else "active", message=reason)

    async def verified(self, rollup: Rollup) -> None:
        self._change(rollup, verify_time=NOON + timedelta(days=1))

    async def drop(self, dataset: Dataset, rollup: Rollup, *, keep_triggers: bool = False) -> None:
        self.dropped.append((rollup.name, keep_triggers))

    def _change(self, rollup: Rollup, **changes: object) -> None:
        key = rollup.dataset, rollup.name
        self.statuses[key] = replace(self.statuses[key], **changes)  # type: ignore[arg-type] # fields by name

    # What operators do not ask for.

    def ddl(self, dataset: Dataset) -> tuple[str, ...]:
        raise AssertionError

    async def install(self, dataset: Dataset, *, dry_run: bool = False) -> tuple[str, ...]:
        raise AssertionError

    async def lease(self, rollup: Rollup, span: Span, holder: str, seconds: float) -> BuildLease | None:
        raise AssertionError

    async def renew(self, lease: BuildLease, seconds: float) -> None:
        raise AssertionError

    async def release(self, lease: BuildLease) -> None:
        raise AssertionError

    async def publish(self, lease: BuildLease, rollup: Rollup, built: Built) -> Segment:
        raise AssertionError

    async def seal(self, rollup: Rollup, span: Span) -> tuple[Span, ...]:
        raise AssertionError

    async def fetch(self, segment: Segment, file: SegmentFile) -> bytes:
        raise AssertionError

    async def sweep(self, dataset: Dataset, keep: float) -> None:
        raise AssertionError
