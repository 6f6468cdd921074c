"""What is told of decisions: events with everything that led to them, and the metrics that sum them up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from broker.domain.errors import BrokerError
from broker.domain.pool import BackendLimits, PoolLimits, PoolName
from broker.policy.admission.backend import BackendSpec
from broker.policy.admission.limit import StaticLimit
from broker.policy.admission.scheduler import Scheduler
from broker.policy.admission.values import AdmissionRequest, PoolLoad, Quantiles
from broker.runtime.admission import Admission
from broker.runtime.told import DECISION_LOGGER, lent
from broker.telemetry.instruments import Telemetry
from tests.support.metrics import read
from tests.support.seats import POOL, shell
from tests.support.virtual_time import run

KNOWN = Quantiles(0.5, 1.0, 2.0)


class Watched:
    """Telemetry that can be read."""

    def __init__(self) -> None:
        self.reader, self.spans = InMemoryMetricReader(), InMemorySpanExporter()
        self.tracers = TracerProvider(shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self.spans))
        self.meters = MeterProvider([self.reader], shutdown_on_exit=False)
        self.telemetry = Telemetry(self.tracers, self.meters)


@pytest.fixture
def watched() -> Iterator[Watched]:
    made = Watched()
    yield made
    made.tracers.shutdown()
    made.meters.shutdown()


def shared(watched: Watched, seats: int = 1) -> Admission:
    """One database with so many seats."""
    spec = BackendSpec("primary", (POOL,), BackendLimits(seats), StaticLimit(seats))
    return shell(Scheduler({POOL: PoolLimits(10, 10, 1, 1)}, 1, [spec]), watched.telemetry)


def ask(id: str, deadline: float, tenant: str = "a", predicted: Quantiles = KNOWN) -> AdmissionRequest:
    return AdmissionRequest(id, tenant, POOL, deadline, predicted=predicted)


async def work(admission: Admission, request: AdmissionRequest, seconds: float = 1.0) -> None:
    async with admission.permit(request):
        await asyncio.sleep(seconds)


def test_every_decision_is_an_event_with_all_that_led_to_it(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        admission = shared(watched)
        with caplog.at_level(logging.DEBUG, DECISION_LOGGER):
            first = asyncio.create_task(work(admission, ask("1", 100.0)))
            await asyncio.sleep(0)
            with pytest.raises(BrokerError) as caught:
                await work(admission, ask("2", 2.5, "b"))
            await first
        admission.close()
        assert caught.value.metadata["tenant"] == "b"
        assert caught.value.metadata["tenant_share"] == "0.000"
        assert caught.value.metadata["backend"] == "primary"
        assert caught.value.metadata["backend_limit"] == caught.value.metadata["backend_seats_used"] == "1"

    run(main())
    said = [record.getMessage() for record in caplog.records]
    assert said == ["dashboard admitted", "dashboard refused"]
    refused = vars(caplog.records[1])
    expected = {
        "decision": "refused", "reason": "OVERLOADED", "stage": "arrival", "limiting_factor": "wait_budget",
        "limit": 1, "waited": 0.0, "pool": "dashboard", "tenant": "b", "criticality": "critical", "attempt": 0,
        "seats": 1.0, "predicted_p10": 0.5, "predicted_p50": 1.0, "predicted_p90": 2.0, "time_left": 2.5,
        "tenant_share": 0.0, "backend_limit": 1, "backend_seats_used": 1, "progress": 1.0,
    }  # fmt: skip
    assert {key: refused[key] for key in expected} == expected
    assert refused["expected_wait"] > refused["allowed_wait"] > 0.0
    events = [event for span in watched.spans.get_finished_spans() for event in span.events]
    told = [event.attributes for event in events if event.name == "querybroker.decision"]
    assert len(told) == 2
    assert told[1] is not None
    assert {key: told[1][f"querybroker.decision.{key}"] for key in expected} == expected


def test_waits_are_compared_with_what_was_expected(watched: Watched) -> None:
    async def main() -> None:
        admission = shared(watched)
        await asyncio.gather(*(work(admission, ask(str(i), 100.0)) for i in range(3)))
        admission.close()

    run(main())
    ((labels, ratio),) = read(watched.reader)["querybroker.queue.wait_ratio"].items()
    assert labels == ("dashboard",)
    assert ratio == pytest.approx(2 * 1.0, rel=0.5), "the sum of two ratios of about 1"


def test_work_without_an_answer_is_counted_as_waste(watched: Watched) -> None:
    async def main() -> None:
        admission = shared(watched)
        left = asyncio.create_task(work(admission, ask("1", 100.0), 90.0))
        await asyncio.sleep(3.0)
        left.cancel()
        await asyncio.wait([left])
        hopeless = ask("2", 8.0, predicted=Quantiles(4.5, 20.0, 60.0))
        killed = asyncio.create_task(work(admission, hopeless, 90.0))
        await asyncio.sleep(0)
        await work(admission, ask("3", 60.0))
        with pytest.raises(BrokerError, match="others wait"):
            await killed
        admission.close()

    run(main())
    wasted = read(watched.reader)["querybroker.pool.seat.wasted"]
    assert wasted == {("dropped", "dashboard"): 3.0, ("killed", "dashboard"): pytest.approx(4.7, abs=0.3)}
    counted = read(watched.reader)["querybroker.admission.requests"]
    assert counted[("critical", "dashboard", "DEADLINE_EXCEEDED", "killed")] == 1


def test_gauges_tell_of_backends_and_of_fairness(watched: Watched) -> None:
    async def main() -> None:
        admission = shared(watched, seats=2)
        async with admission.permit(ask("1", 100.0)):
            values = read(watched.reader)
        admission.close()
        for name, value in (("usage", 1), ("limit", 2), ("wished", 2)):
            assert values[f"querybroker.backend.seat.{name}"] == {("primary",): value}
        assert values["querybroker.backend.progress"] == {("primary",): 1.0}
        assert values["querybroker.pool.fairness"] == {("dashboard",): 1.0}
        assert values["querybroker.pool.seat.lent"] == {("dashboard",): 0}
        assert "querybroker.backend.seat.usage" not in read(watched.reader)

    run(main())


def test_what_is_borrowed_is_lent_by_whoever_has_most_to_spare() -> None:
    loads = [
        PoolLoad(PoolName.DASHBOARD, 6, 1, 0),
        PoolLoad(PoolName.EXPLORATION, 3, 9, 4),
        PoolLoad(PoolName.JOB, 2, 0, 0),
    ]
    assert dict(lent(loads)) == {PoolName.DASHBOARD: 5, PoolName.JOB: 1, PoolName.EXPLORATION: 0}
    assert {seats for _, seats in lent([PoolLoad(POOL, 6, 6, 0)])} == {0}
