"""What is told to the admission once a second."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.trace import NoOpTracerProvider

from broker.policy.admission.values import Pressure
from broker.runtime.pressure import PressureWatch
from broker.telemetry.instruments import Telemetry
from tests.support.metrics import read
from tests.support.virtual_time import run


class Scripted:
    """A backend that tells one thing after the other."""

    def __init__(self, *news: Pressure | None) -> None:
        self.news = list(news)

    async def read(self) -> Pressure | None:
        return self.news.pop(0) if len(self.news) > 1 else self.news[0]


class Watched:
    """A watch, what it told, and the metrics."""

    def __init__(self, **gauges: Scripted) -> None:
        self.told: list[tuple[str, Pressure]] = []
        self.reader = InMemoryMetricReader()
        telemetry = Telemetry(NoOpTracerProvider(), MeterProvider([self.reader]))
        self.watch = PressureWatch(
            gauges, lambda: 0.5, lambda: 0.25, lambda *news: self.told.append(news), telemetry
        )


def test_what_a_backend_says_is_told_together_with_the_machine() -> None:
    async def main() -> None:
        watched = Watched(primary=Scripted(Pressure(9, 2, 1)), copy=Scripted(None))
        await watched.watch.once()
        assert watched.told == [
            ("primary", Pressure(9, 2, 1, 0.5, 0.25)),
            ("copy", Pressure(cpu=0.5, memory=0.25)),
        ]
        found = read(watched.reader)["querybroker.backend.sessions"]
        assert found == {("primary", "active"): 9, ("primary", "lock"): 2, ("primary", "io"): 1}

    run(main())


def test_it_is_told_every_second_until_it_ends() -> None:
    async def main() -> None:
        watched = Watched(primary=Scripted(Pressure(1), None, Pressure(3)))
        task = asyncio.create_task(watched.watch.run())
        await asyncio.sleep(2.5)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert [news.active for _, news in watched.told] == [1, None, 3]
        await asyncio.sleep(5.0)
        assert len(watched.told) == 3
        assert "querybroker.backend.sessions" not in read(watched.reader)

    run(main())
