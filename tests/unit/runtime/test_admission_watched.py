"""What admission leaves behind after a storm of cancels, and what it tells telemetry."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from broker.domain.errors import BrokerError
from broker.policy.admission.values import AdmissionRequest, Decision, Killed, Outcome
from broker.telemetry.instruments import Telemetry
from tests.support.metrics import read
from tests.support.seats import POOL, Recording, ask, hold, shell
from tests.support.virtual_time import run

ARRIVALS = 20_000


class Stopping(Recording):
    """The real core; kills somebody now and then, who may have ended in the same moment."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__(seats=7, queue=60)
        self._rng = rng
        self._running: list[str] = []

    def offer(self, request: AdmissionRequest, now: float) -> tuple[Decision, ...]:
        decisions = super().offer(request, now)
        self._running = [*self._running[-20:], request.id]
        return decisions

    def finish(self, id: str, outcome: Outcome, seconds: float, now: float) -> tuple[Decision, ...]:
        decisions = super().finish(id, outcome, seconds, now)
        self.finished.clear()
        if self._rng.random() < 0.2:
            victims = [name for name in self._rng.choices(self._running, k=2) if name != id]
            return (*decisions, *(Killed(name, POOL, 0.0, 1.0) for name in victims))
        return decisions


@pytest.mark.parametrize("seed", range(5))
def test_random_ends_leave_everything_as_before(seed: int) -> None:
    async def main() -> None:
        rng = random.Random(seed)
        core = Stopping(rng)
        admission = shell(core)
        ended: dict[str, int] = dict.fromkeys(("done", "refused", "cancelled", "failed", "killed"), 0)

        async def client(name: str) -> None:
            tenant = f"t{rng.randrange(5)}"
            deadline = asyncio.get_running_loop().time() + rng.choice([0.5, 2.0, 20.0])
            try:
                async with admission.permit(ask(name, deadline, tenant)):
                    await asyncio.sleep(rng.choice([0.0, 0.1, 0.5, 3.0]))
                    if rng.random() < 0.1:
                        raise LookupError
                ended["done"] += 1
            except LookupError:
                ended["failed"] += 1
            except BrokerError as error:
                ended["killed" if error.metadata["limiting_factor"] == "hopeless" else "refused"] += 1
            except asyncio.CancelledError:
                ended["cancelled"] += 1
                raise

        tasks: list[asyncio.Task[None]] = []
        for i in range(ARRIVALS):
            tasks.append(asyncio.create_task(client(str(i))))
            for _ in range(rng.randrange(3)):
                await asyncio.sleep(rng.choice([0, 0, 0.01, 0.1]))
            if rng.random() < 0.6:
                rng.choice(tasks[-40:]).cancel()
            load = admission.loads()[0]
            assert load.seats_used <= load.seat_limit
            tasks = tasks[-200:]
        admission.drain()
        await asyncio.gather(*tasks, return_exceptions=True)
        await admission.idle()
        assert min(ended.values()) > 100, "the mix reaches every end"
        await admission.idle()
        (state,) = admission.state()
        assert (state.seats_used, state.queue_length) == (0, 0)
        assert admission.refusal(POOL, "t1") is not None, "it drains"
        admission.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(main())


def test_decisions_are_told_as_metrics_and_spans() -> None:
    reader, spans = InMemoryMetricReader(), InMemorySpanExporter()
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    meters = MeterProvider([reader], shutdown_on_exit=False)

    async def main() -> None:
        admission = shell(Recording(seats=1, queue=1), Telemetry(tracers, meters))
        async with admission.permit(ask("1")):
            waiter = asyncio.create_task(hold(admission, ask("2"), 0.0))
            await asyncio.sleep(1.0)
            with pytest.raises(BrokerError):
                await hold(admission, ask("3"), 0.0)
            values = read(reader)
            assert values["querybroker.pool.seat.usage"] == {("dashboard",): 1}
            assert values["querybroker.pool.seat.limit"] == {("dashboard",): 1}
            assert values["querybroker.queue.length"] == {("dashboard",): 1}
            waiter.cancel()
            with suppress(asyncio.CancelledError):
                await waiter
        admission.close()

    run(main())
    values = read(reader)
    assert values["querybroker.admission.requests"] == {
        ("critical", "dashboard", "", "admitted"): 1,
        ("critical", "dashboard", "OVERLOADED", "refused"): 1,
        ("critical", "dashboard", "", "cancelled"): 1,
    }
    assert values["querybroker.pool.seat.duration"] == {("success", "dashboard"): 1.0}
    assert values["querybroker.deadline.remaining"] == {("dashboard",): 100.0}
    assert "querybroker.queue.length" not in values, "a closed admission reports no gauges"
    named = {
        span.attributes["querybroker.verdict"]: span for span in spans.get_finished_spans() if span.attributes
    }
    assert set(named) == {"admitted", "refused", "cancelled"}
    assert {span.name for span in named.values()} == {"querybroker.queue"}
    assert named["refused"].attributes is not None
    assert named["refused"].attributes["error.type"] == "OVERLOADED"
    assert named["cancelled"].status.is_unset
    tracers.shutdown()
    meters.shutdown()
