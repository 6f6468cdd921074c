"""Processes that are kept running: restarts with growing pauses, ends in order, failures to start. Virtual time."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

import pytest

from broker.runtime.child import Said
from broker.runtime.supervisor import LONGEST_PAUSE, STEADY, Supervisor
from tests.support.virtual_time import VirtualClock, virtual

KILL, TERM = signal.SIGKILL, signal.SIGTERM


class FakeChild:
    """A child whose test decides what it says and when it ends."""

    def __init__(self, index: int, began: float) -> None:
        self.index, self.began = index, began
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.told: list[object] = []
        self._lines: asyncio.Queue[Said | None] = asyncio.Queue()

    def say(self, **said: object) -> None:
        self._lines.put_nowait(said)

    def end(self, code: int) -> None:
        self._lines.put_nowait(None)
        self.ended.set_result(code)

    async def says(self) -> Said | None:
        return await self._lines.get()

    def drain(self, grace: float | None) -> None:
        self.told.append(("drain", grace))

    def signal(self, number: signal.Signals) -> None:
        self.told.append(number)


class Stage:
    """A supervisor over fake children; ``born`` has all that it ever started."""

    def __init__(self, count: int = 2, broken: Callable[[int], bool] = lambda _: False) -> None:
        self.born: list[FakeChild] = []
        self.ready: list[list[Said]] = []
        self.clock = VirtualClock()
        self.broken = broken
        self.supervisor = Supervisor(
            self._start, count, self.clock, lambda infos: self.ready.append(list(infos))
        )
        self.running = asyncio.create_task(self.supervisor.run())

    async def _start(self, index: int) -> FakeChild:
        if self.broken(len(self.born)):
            raise OSError("out of processes")
        self.born.append(FakeChild(index, self.clock.monotonic()))
        return self.born[-1]

    async def serving(self) -> list[FakeChild]:
        await settle()
        for child in self.born:
            child.say(pid=child.index)
        await settle()
        return list(self.born)


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@virtual
async def test_it_is_ready_when_all_serve_and_ends_when_all_have_drained() -> None:
    stage = Stage()
    await settle()
    one, two = stage.born
    two.say(pid=1)
    await settle()
    assert stage.ready == []
    one.say(pid=0)
    await settle()
    assert stage.ready == [[{"pid": 0}, {"pid": 1}]]
    stage.supervisor.stop()
    assert one.told == two.told == [("drain", None)]
    one.end(0)
    two.end(0)
    assert await stage.running == 0


@virtual
async def test_one_that_dies_is_started_again_and_the_others_are_left_alone() -> None:
    stage = Stage()
    one, two = await stage.serving()
    one.end(-KILL)
    await asyncio.sleep(0.1)
    await settle()
    again = stage.born[2]
    assert (again.index, again.began, two.told) == (0, 0.1, [])
    again.say(pid=7)
    await settle()
    assert len(stage.ready) == 1
    stage.supervisor.stop()
    assert (again.told, one.told) == ([("drain", None)], [])
    again.end(0)
    two.end(0)
    assert await stage.running == 0


@virtual
async def test_pauses_grow_while_it_goes_on_dying_and_begin_anew_after_a_steady_time() -> None:
    stage = Stage(count=1)
    (child,) = await stage.serving()
    pauses = []
    for _ in range(9):
        died = stage.clock.monotonic()
        child.end(1)
        count = len(stage.born)
        while len(stage.born) == count:  # noqa: ASYNC110 - it is the time until then that is asked for
            await asyncio.sleep(0.01)
        child = stage.born[-1]
        pauses.append(round(child.began - died, 6))
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, LONGEST_PAUSE, LONGEST_PAUSE]
    child.say(pid=0)
    await asyncio.sleep(STEADY)
    died = stage.clock.monotonic()
    child.end(1)
    await asyncio.sleep(0.1)
    await settle()
    assert round(stage.born[-1].began - died, 6) == 0.1
    stage.supervisor.stop()
    stage.born[-1].end(0)
    assert await stage.running == 0


@virtual
async def test_a_child_that_waits_to_be_started_again_does_not_delay_the_end() -> None:
    stage = Stage()
    one, two = await stage.serving()
    one.end(1)
    await settle()
    stage.supervisor.stop()
    two.end(0)
    assert await stage.running == 0
    assert len(stage.born) == 2


@virtual
async def test_a_child_that_is_being_started_at_the_end_is_told_too() -> None:
    stage = Stage(count=1)
    stage.supervisor.stop()
    await settle()
    assert stage.born[0].told == [("drain", None)]
    stage.born[0].end(0)
    assert await stage.running == 0


@virtual
async def test_one_that_cannot_start_ends_all_with_its_code() -> None:
    stage = Stage()
    await settle()
    one, two = stage.born
    one.say(pid=0)
    two.end(3)
    await settle()
    assert one.told == [("drain", None)]
    one.end(0)
    assert await stage.running == 3
    assert stage.ready == []


@virtual
async def test_the_machine_may_be_out_of_processes_for_a_while() -> None:
    stage = Stage(broken=lambda count: count == 2 and stage.clock.monotonic() < 0.5)
    one, two = await stage.serving()
    two.end(-KILL)
    await asyncio.sleep(1.0)
    await settle()
    assert stage.born[2].index == 1
    stage.supervisor.stop()
    for child in (one, stage.born[2]):
        child.end(0)
    assert await stage.running == 0


@virtual
async def test_one_that_an_operator_drains_takes_the_others_along_with_the_same_grace() -> None:
    stage = Stage()
    one, two = await stage.serving()
    one.say(draining=12.5)
    await settle()
    assert (one.told, two.told) == ([], [("drain", 12.5)])
    one.end(0)
    two.end(0)
    assert await stage.running == 0


@virtual
async def test_one_that_ends_in_order_by_itself_ends_all() -> None:
    stage = Stage()
    one, two = await stage.serving()
    one.end(0)
    await settle()
    assert two.told == [("drain", None)]
    two.end(0)
    assert await stage.running == 0


@virtual
async def test_further_orders_end_at_once_and_then_kill() -> None:
    stage = Stage(count=1)
    (child,) = await stage.serving()
    for _ in range(3):
        stage.supervisor.stop()
    assert child.told == [("drain", None), TERM, KILL]
    child.end(-KILL)
    assert await stage.running == 128 + KILL


@virtual
async def test_nothing_is_left_when_the_parent_itself_fails() -> None:
    stage = Stage()
    children = await stage.serving()
    stage.running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stage.running
    assert [child.told for child in children] == [[KILL], [KILL]]
