"""The shell of the admission core on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

import pytest

from broker.domain.errors import BrokerError, ErrorReason
from broker.policy.admission.scheduler import GRACE
from broker.policy.admission.values import AdmissionRequest, Outcome, PoolLoad, Quantiles
from broker.runtime.permits import Permit, outcome_of
from tests.support.seats import POOL, Recording, ask, hold, shell
from tests.support.virtual_time import run


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
        longest = GRACE * 0.25 * 10.0
        text = rf"No seat in the pool 'dashboard' became free in {longest:.1f} s"
        with pytest.raises(BrokerError, match=text) as caught:
            await hold(admission, ask("2", deadline=10.0), 1.0)
        assert caught.value.reason is ErrorReason.QUEUE_TIMEOUT
        assert asyncio.get_running_loop().time() == pytest.approx(longest)
        await holder

    run(main())


def test_the_earliest_budget_ends_first_even_when_it_came_last() -> None:
    async def main() -> None:
        admission = shell(Recording(seats=1))
        holder = asyncio.create_task(hold(admission, ask("1"), 45.0))
        await asyncio.sleep(0)

        async def refused_at(request: AdmissionRequest) -> float:
            with pytest.raises(BrokerError):
                await hold(admission, request, 1.0)
            return asyncio.get_running_loop().time()

        times = await asyncio.gather(refused_at(ask("2", deadline=40.0)), refused_at(ask("3", deadline=8.0)))
        assert times == pytest.approx([GRACE * 0.25 * 40.0, GRACE * 0.25 * 8.0])
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


@pytest.mark.parametrize("end", ["cancel", "deadline", "stream left"])
def test_whatever_ends_the_work_gives_the_seat_on_in_the_same_turn_of_the_loop(end: str) -> None:
    async def main() -> None:
        admission = shell(Recording(seats=1))
        leave = asyncio.Event()

        async def rows() -> AsyncGenerator[int, None]:
            async with admission.permit(ask("1")):
                yield 1

        async def work() -> None:
            if end == "stream left":
                async with aclosing(rows()) as stream:
                    await anext(stream)
                    await leave.wait()
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(5.0), admission.permit(ask("1")):
                    await leave.wait()

        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        waiter = asyncio.create_task(hold(admission, ask("2"), 1.0))
        await asyncio.sleep(1.0)
        assert admission.loads() == (PoolLoad(POOL, 1, 1, 1),)
        if end == "cancel":
            task.cancel()
            await asyncio.sleep(0)
        elif end == "deadline":
            await asyncio.sleep(4.0)
        else:
            leave.set()
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert admission.loads() == (PoolLoad(POOL, 1, 1, 0),), "the waiter has it"
        await asyncio.gather(task, waiter, return_exceptions=True)
        assert admission.loads() == (PoolLoad(POOL, 1, 0, 0),)
        admission.close()

    run(main())
