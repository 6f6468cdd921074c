"""New versions are noticed and fetched ahead, whatever some rollups do; what has changed is told as metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace
from random import Random

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.trace import NoOpTracerProvider

from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.model import Dataset
from broker.domain.rollup import Rollup, Span
from broker.ports.rollups import RollupStatus
from broker.rollups.mirror_follow import Follower
from broker.rollups.mirror_hydrate import Progress
from broker.telemetry.instruments import Telemetry
from tests.support.datasets import flights
from tests.support.metrics import read
from tests.support.segments import BY_CARRIER, FakeSegments, HandClock, status_of

OTHER = replace(BY_CARRIER, name="other")


class Statuses:
    """The states of rollups by name; an error is raised."""

    def __init__(self) -> None:
        self.found: dict[str, RollupStatus | BrokerError] = {}

    async def status(self, dataset: Dataset, rollup: Rollup) -> RollupStatus:
        found = self.found[rollup.name]
        if isinstance(found, BrokerError):
            raise found
        return found


class Hydrations:
    """Takes the place of a mirror; tells when it was asked to hydrate."""

    def __init__(self) -> None:
        self.asked: asyncio.Queue[list[str]] = asyncio.Queue()

    async def hydrate(
        self, statuses: Iterable[RollupStatus], progress: Callable[[Progress], None] | None = None
    ) -> Progress:
        self.asked.put_nowait([status.rollup.name for status in statuses])
        return Progress(1, 1, 10, 10)


@pytest.fixture
def reader() -> InMemoryMetricReader:
    return InMemoryMetricReader()


@pytest.fixture
def follower(reader: InMemoryMetricReader, clock: HandClock) -> tuple[Follower, Statuses, Hydrations]:
    statuses, hydrations = Statuses(), Hydrations()
    telemetry = Telemetry(NoOpTracerProvider(), MeterProvider([reader], shutdown_on_exit=False))
    pairs = [(flights(), BY_CARRIER), (flights(), OTHER)]
    made = Follower(hydrations, statuses, lambda: pairs, clock, Random(1), telemetry, every=3600)
    return made, statuses, hydrations


async def test_it_looks_at_once_and_again_when_it_is_hinted(
    follower: tuple[Follower, Statuses, Hydrations],
    store: FakeSegments,
    clock: HandClock,
    reader: InMemoryMetricReader,
) -> None:
    following, statuses, hydrations = follower
    statuses.found = {"by_carrier": status_of(), "other": status_of(rollup=OTHER)}
    running = asyncio.create_task(following.run())
    assert await hydrations.asked.get() == ["by_carrier", "other"]
    segment = store.segment(1)
    part = replace(status_of(segment).partitions[0], dirty=(Span(0, 1), Span(2, 3)))
    statuses.found["by_carrier"] = replace(status_of(segment), partitions=(part,))
    following.hint()
    await hydrations.asked.get()
    clock.seconds = 61.0
    found = read(reader)
    assert found["querybroker.rollup.dirty"] == {("flights", "by_carrier"): 2, ("flights", "other"): 0}
    assert found["querybroker.rollup.refresh.lag"] == {("flights", "by_carrier"): 60, ("flights", "other"): 0}
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert "querybroker.rollup.dirty" not in read(reader)


async def test_a_rollup_that_cannot_be_seen_is_told_once_and_leaves_the_others_alone(
    follower: tuple[Follower, Statuses, Hydrations], caplog: pytest.LogCaptureFixture
) -> None:
    following, statuses, hydrations = follower
    away = BrokerError(ErrorReason.STORE_UNAVAILABLE, "the database is away")
    statuses.found = {"by_carrier": away, "other": status_of(rollup=OTHER)}
    for _ in range(2):
        await following.look()
        assert await hydrations.asked.get() == ["other"]
    assert [record.levelname for record in caplog.records if "away" in record.getMessage()] == ["WARNING"]
