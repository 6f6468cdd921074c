"""Running work that is told to stop: how its caller learns of it, and what happens when other ends come at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass

import pytest

from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.pool import PoolLimits
from broker.policy.admission.scheduler import Scheduler
from broker.policy.admission.values import AdmissionRequest, Decision, Killed, Outcome, Quantiles
from broker.runtime.admission import Admission
from tests.support.seats import POOL, Recording, ask, hold, shell
from tests.support.virtual_time import run


class Killing(Recording):
    """The real core; its next tick kills whom the test names."""

    def __init__(self, seats: int = 1) -> None:
        super().__init__(seats)
        self.victims: list[str] = []

    def tick(self, now: float) -> tuple[Decision, ...]:
        victims, self.victims = self.victims, []
        return (*super().tick(now), *(Killed(name, POOL, 0.012, 2.5) for name in victims))

    def next_wakeup(self) -> float | None:
        return 1.0 if self.victims else super().next_wakeup()


@dataclass
class Scene:
    """A shell whose core kills the request ``1`` at the instant 1.0."""

    core: Killing
    admission: Admission

    @classmethod
    def make(cls) -> Scene:
        core = Killing()
        core.victims.append("1")
        return cls(core, shell(core))

    def check(self, *outcomes: Outcome) -> None:
        """Every seat is free, and the work was reported once."""
        assert [outcome for _, outcome, _ in self.core.finished] == list(outcomes)
        assert self.admission.loads()[0].seats_used == 0
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0


async def forever() -> None:
    await asyncio.Event().wait()


async def in_a_child() -> None:
    await asyncio.create_task(forever())


async def in_a_group() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(forever())


async def in_a_timeout() -> None:
    async with asyncio.timeout(100.0):
        await forever()


@pytest.mark.parametrize("work", [forever, in_a_child, in_a_group, in_a_timeout])
def test_killed_work_ends_with_an_error_that_says_why(work: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        scene = Scene.make()
        with pytest.raises(BrokerError, match=r"after 1\.0 s: 2\.5 s before .* was 1\.2%, .* job") as caught:
            async with scene.admission.permit(ask("1")) as permit:
                await work()
        assert permit.killed
        assert caught.value.reason is ErrorReason.DEADLINE_EXCEEDED
        assert caught.value.retry_after is None
        assert caught.value.metadata == {
            "pool": "dashboard",
            "stage": "running",
            "limiting_factor": "hopeless",
            "chance": "0.0120",
            "ran_seconds": "1.000",
            "remaining_seconds": "2.500",
        }
        scene.check(Outcome.DROPPED)
        await asyncio.sleep(5.0)  # nothing of the cancel is left

    run(main())


def test_a_permit_in_a_child_task_leaves_its_parent_alone() -> None:
    async def main() -> None:
        scene = Scene.make()

        async def child() -> None:
            async with scene.admission.permit(ask("1")):
                await forever()

        (error,) = await asyncio.gather(child(), return_exceptions=True)
        assert isinstance(error, BrokerError)
        scene.check(Outcome.DROPPED)

    run(main())


@pytest.mark.parametrize("reads", [True, False], ids=["waiting for rows", "slow reader"])
def test_a_stream_is_killed_wherever_it_stands(reads: bool) -> None:
    async def main() -> None:
        scene = Scene.make()

        async def inner() -> AsyncGenerator[int, None]:
            async with scene.admission.permit(ask("1")):
                yield 1
                await forever()

        async def outer() -> AsyncGenerator[int, None]:
            async with aclosing(inner()) as rows:
                async for row in rows:
                    yield row

        async def read() -> None:
            async with aclosing(outer()) as rows:
                async for _ in rows:
                    if not reads:
                        await forever()

        with pytest.raises(BrokerError) as caught:
            await read()
        assert caught.value.metadata["limiting_factor"] == "hopeless"
        scene.check(Outcome.DROPPED)

    run(main())


def test_a_stream_whose_seat_was_given_back_is_not_killed() -> None:
    async def main() -> None:
        scene = Scene.make()
        async with scene.admission.permit(ask("1")) as permit:
            permit.close(Outcome.SUCCESS)
            await asyncio.sleep(3.0)
        assert not permit.killed
        scene.check(Outcome.SUCCESS)

    run(main())


@pytest.mark.parametrize("first", ["cancel", "kill"])
def test_a_cancel_by_the_caller_in_the_same_moment_wins(first: str) -> None:
    async def main() -> None:
        scene = Scene.make()

        async def work() -> None:
            async with scene.admission.permit(ask("1")):
                await forever()

        task = asyncio.create_task(work())
        if first == "cancel":
            asyncio.get_running_loop().call_at(1.0, task.cancel)
            await asyncio.sleep(0)
        else:
            await asyncio.sleep(0)
            asyncio.get_running_loop().call_at(1.0, task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()
        scene.check(Outcome.DROPPED)

    run(main())


def test_a_deadline_outside_in_the_same_moment_wins() -> None:
    async def main() -> None:
        scene = Scene.make()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0), scene.admission.permit(ask("1")):
                await forever()
        scene.check(Outcome.DROPPED)

    run(main())


@pytest.mark.parametrize("after", [0.999, 1.0, 1.001])
def test_work_that_ends_about_then_ends_once(after: float) -> None:
    async def main() -> None:
        scene = Scene.make()
        waiter = asyncio.create_task(hold(scene.admission, ask("2"), 0.0))
        try:
            await hold(scene.admission, ask("1"), after)
            ended = Outcome.SUCCESS
        except BrokerError:
            ended = Outcome.DROPPED
        await waiter
        scene.check(ended, Outcome.SUCCESS)
        assert ended is (Outcome.SUCCESS if after < 1.0 else Outcome.DROPPED) or after == 1.0

    run(main())


def test_an_error_of_the_work_itself_is_kept() -> None:
    async def main() -> None:
        scene = Scene.make()

        async def work() -> None:
            async with scene.admission.permit(ask("1")):
                try:
                    await forever()
                except asyncio.CancelledError:
                    raise ZeroDivisionError from None

        with pytest.raises(ZeroDivisionError):
            await work()
        scene.check(Outcome.IGNORED)
        await asyncio.sleep(1.0)

    run(main())


def test_hopeless_work_makes_room_for_those_who_wait() -> None:
    async def main() -> None:
        core = Scheduler({POOL: PoolLimits(1, 100, 1, 1)}, seed=1)
        admission = shell(core)
        request = AdmissionRequest("1", "a", POOL, 5.0, predicted=Quantiles(4.5, 20.0, 60.0))

        async def hopeless() -> float:
            with pytest.raises(BrokerError, match="others wait"):
                await hold(admission, request, 100.0)
            return asyncio.get_running_loop().time()

        ended, waited = await asyncio.gather(hopeless(), hold(admission, ask("2", 60.0), 1.0))
        assert waited == ended < 5.0
        admission.close()

    run(main())
