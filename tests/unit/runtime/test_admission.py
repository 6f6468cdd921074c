"""The shell of the admission core on virtual time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import suppress

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.pool import PoolLimits, PoolName
from broker.policy.admission_values import AdmissionRequest, Decision, Outcome, PoolLoad, Quantiles
from broker.policy.scheduler import Scheduler
from broker.runtime.admission import Admission
from broker.runtime.permits import Permit, outcome_of
from broker.telemetry.instruments import Telemetry
from tests.support.metrics import read
from tests.support.virtual_time import VirtualClock, run

POOL = PoolName.DASHBOARD


class Recording(Scheduler):
    """The real core; remembers how work ended."""

    def __init__(self, seats: int, queue: int = 100) -> None:
        limits = PoolLimits(seats, queue, 1, 1)
        super().__init__({POOL: limits}, seed=1)
        self.finished: list[tuple[str, Outcome, float]] = []

    def finish(self, id: str, outcome: Outcome, seconds: float, now: float) -> tuple[Decision, ...]:
        self.finished.append((id, outcome, seconds))
        return super().finish(id, outcome, seconds, now)


def shell(core: Scheduler, telemetry: Telemetry | None = None) -> Admission:
    return Admission(core, VirtualClock(), telemetry or Telemetry.off())


def ask(id: str, deadline: float = 100.0, tenant: str = "a") -> AdmissionRequest:
    return AdmissionRequest(id, tenant, POOL, deadline)


async def hold(admission: Admission, request: AdmissionRequest, seconds: float) -> float:
    async with admission.permit(request) as permit:
        await asyncio.sleep(seconds)
        return permit.wait


def test_a_waiter_gets_the_seat_when_it_becomes_free() -> None:
    async def main() -> None:
        core = Recording(seats=1)
        admission = shell(core)
        waits = await asyncio.gather(*(hold(admission, ask(name), 2.0) for name in ("1", "2", "3")))
        assert waits == [0.0, 2.0, 4.0]
        assert core.finished == [(name, Outcome.SUCCESS, 2.0) for name in ("1", "2", "3")]
        assert admission.loads() == (PoolLoad(POOL, 1, 0, 0),)

    run(main())


def test_a_wait_ends_with_its_budget() -> None:
    async def main() -> None:
        admission = shell(Recording(seats=1))
        holder = asyncio.create_task(hold(admission, ask("1"), 50.0))
        await asyncio.sleep(0)
        with pytest.raises(
            BrokerError, match=r"No seat in the pool 'dashboard' became free in 2\.5 s"
        ) as caught:
            await hold(admission, ask("2", deadline=10.0), 1.0)
        assert caught.value.reason is ErrorReason.QUEUE_TIMEOUT
        assert asyncio.get_running_loop().time() == pytest.approx(2.5)
        await holder

    run(main())


def test_the_earliest_budget_ends_first_even_when_it_came_last() -> None:
    async def main() -> None:
        admission = shell(Recording(seats=1))
        holder = asyncio.create_task(hold(admission, ask("1"), 40.0))
        await asyncio.sleep(0)

        async def refused_at(request: AdmissionRequest) -> float:
            with pytest.raises(BrokerError):
                await hold(admission, request, 1.0)
            return asyncio.get_running_loop().time()

        times = await asyncio.gather(refused_at(ask("2", deadline=40.0)), refused_at(ask("3", deadline=8.0)))
        assert times == pytest.approx([10.0, 2.0])
        await holder

    run(main())


def test_a_refusal_says_what_to_do_next() -> None:
    async def main() -> None:
        admission = shell(Recording(seats=1, queue=0))
        async with admission.permit(ask("1")):
            with pytest.raises(BrokerError, match=r"is full with 0 requests. Retry after") as caught:
                await hold(admission, ask("2"), 1.0)
        error = caught.value
        assert error.reason is ErrorReason.OVERLOADED
        assert error.retry_after is not None
        assert error.metadata["limiting_factor"] == "queue"
        assert error.metadata["pool"] == "dashboard"

    run(main())


def test_draining_refuses_waiters_and_idle_comes_when_the_last_permit_is_closed() -> None:
    async def main() -> None:
        admission = shell(Recording(seats=1))
        holder = asyncio.create_task(hold(admission, ask("1"), 5.0))
        waiter = asyncio.create_task(hold(admission, ask("2"), 5.0))
        await asyncio.sleep(1.0)
        admission.drain()
        assert admission.draining
        with pytest.raises(BrokerError) as waited:
            await waiter
        with pytest.raises(BrokerError) as came:
            await hold(admission, ask("3"), 1.0)
        assert waited.value.reason is came.value.reason is ErrorReason.DRAINING
        assert waited.value.retry_after == 0.0
        await admission.idle()
        assert holder.done()
        assert asyncio.get_running_loop().time() == 5.0
        admission.close()

    run(main())


def test_a_permit_may_be_closed_before_its_context_ends() -> None:
    async def main() -> None:
        core = Recording(seats=1)
        admission = shell(core)
        async with admission.permit(ask("1")) as permit:
            await asyncio.sleep(3.0)
            permit.close(Outcome.SUCCESS, 0.5)
            assert admission.loads()[0].seats_used == 0
            async with admission.permit(ask("2")) as second:
                assert second.wait == 0.0
                assert second.pool is POOL
        assert core.finished == [("1", Outcome.SUCCESS, 0.5), ("2", Outcome.SUCCESS, 0.0)]

    run(main())


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, Outcome.SUCCESS),
        (asyncio.CancelledError(), Outcome.DROPPED),
        (GeneratorExit(), Outcome.DROPPED),
        (TimeoutError(), Outcome.DROPPED),
        (BrokerError(ErrorReason.DEADLINE_EXCEEDED, ""), Outcome.DROPPED),
        (BrokerError(ErrorReason.RESULT_TOO_LARGE, ""), Outcome.IGNORED),
        (ValueError(), Outcome.IGNORED),
    ],
)
def test_what_ended_the_work_decides_the_outcome(error: BaseException | None, outcome: Outcome) -> None:
    assert outcome_of(error) is outcome

    async def main() -> None:
        core = Recording(seats=1)
        with suppress(BaseException):
            async with shell(core).permit(ask("1")):
                if error is not None:
                    raise error
        assert core.finished == [("1", outcome, 0.0)]

    run(main())


def test_a_stream_that_is_closed_gives_its_seat_back() -> None:
    async def main() -> None:
        core = Recording(seats=1)
        admission = shell(core)

        async def stream() -> AsyncGenerator[int, None]:
            async with admission.permit(ask("1")):
                yield 1
                yield 2

        rows = stream()
        assert await anext(rows) == 1
        await rows.aclose()
        assert core.finished == [("1", Outcome.DROPPED, 0.0)]

    run(main())


def test_a_seat_given_in_the_same_moment_as_the_cancel_is_not_lost() -> None:
    async def main() -> None:
        core = Recording(seats=1)
        admission = shell(core)
        leave = asyncio.Event()

        async def first() -> None:
            async with admission.permit(ask("1")):
                await leave.wait()

        holder = asyncio.create_task(first())
        await asyncio.sleep(0)
        waiter = asyncio.create_task(hold(admission, ask("2"), 1.0))
        await asyncio.sleep(0)
        leave.set()
        await holder  # the seat is now the waiter's, but its task has not run yet
        assert admission.loads()[0].seats_used == 1
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        assert admission.loads() == (PoolLoad(POOL, 1, 0, 0),)

    run(main())


@pytest.mark.parametrize("seed", range(5))
def test_thousands_of_random_cancels_leave_everything_as_before(seed: int) -> None:
    async def main() -> None:
        rng = random.Random(seed)
        core = Recording(seats=7, queue=60)
        admission = shell(core)
        ended: dict[str, int] = dict.fromkeys(("done", "refused", "cancelled"), 0)

        async def client(name: str) -> None:
            tenant = f"t{rng.randrange(5)}"
            deadline = asyncio.get_running_loop().time() + rng.choice([0.5, 2.0, 20.0])
            try:
                await hold(admission, ask(name, deadline, tenant), rng.choice([0.0, 0.1, 0.5, 3.0]))
                ended["done"] += 1
            except BrokerError:
                ended["refused"] += 1
            except asyncio.CancelledError:
                ended["cancelled"] += 1
                raise

        tasks: list[asyncio.Task[None]] = []
        for i in range(2_000):
            tasks.append(asyncio.create_task(client(str(i))))
            for _ in range(rng.randrange(3)):
                await asyncio.sleep(rng.choice([0, 0, 0.01, 0.1]))
            if rng.random() < 0.6:
                rng.choice(tasks[-40:]).cancel()
            load = admission.loads()[0]
            assert load.seats_used <= load.seat_limit
        await asyncio.gather(*tasks, return_exceptions=True)
        assert min(ended.values()) > 100, "the mix reaches every end"
        await admission.idle()
        (state,) = admission.state()
        assert (state.seats_used, state.queue_length, core.next_wakeup()) == (0, 0, None)
        waits = await asyncio.gather(*(hold(admission, ask(f"after {i}", 1e9), 1.0) for i in range(7)))
        assert waits == [0.0] * 7, "every seat is there"
        admission.close()

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


def test_predictions_reach_the_core() -> None:
    async def main() -> None:
        admission = shell(Recording(seats=1))
        request = AdmissionRequest("1", "a", POOL, 1.0, predicted=Quantiles(2.0, 3.0, 4.0))
        with pytest.raises(BrokerError, match="too little for this work") as caught:
            async with admission.permit(request):
                pass
        assert (caught.value.reason, caught.value.retry_after) == (ErrorReason.DEADLINE_TOO_SHORT, None)

    run(main())


def test_a_permit_tells_what_it_holds() -> None:
    async def main() -> None:
        await asyncio.sleep(1.5)
        async with shell(Recording(seats=1)).permit(ask("1")) as permit:
            assert isinstance(permit, Permit)
            assert (permit.since, permit.decision.limit) == (1.5, 1)

    run(main())
