"""Programs start, fail and stop in the order of their graph."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial

import pytest

from broker.runtime.lifecycle import Node, Program, Stop
from tests.support.journal import Broken, Journal
from tests.support.virtual_time import run


@pytest.fixture
def journal() -> Journal:
    return Journal()


async def stop_soon(
    program: Program, setup: Callable[[Program], Awaitable[None]], after: float = 1.0
) -> None:
    asyncio.get_running_loop().call_later(after, program.stop)
    await program.run(setup)


def test_what_is_needed_outlives_what_needs_it(journal: Journal) -> None:
    async def setup(program: Program) -> None:
        telemetry = await program.enter("telemetry", journal.resource("telemetry"))
        pool = await program.enter("pool", journal.resource("pool"), [telemetry])
        workers = await program.enter("workers", journal.resource("workers"), [telemetry])
        assert (pool.value, workers.value) == ("POOL", "WORKERS")
        program.start("server", journal.routine("server", closing=5.0), [pool, workers])
        program.start("jobs", journal.routine("jobs", closing=1.0), [pool])

    run(stop_soon(Program(), setup))
    assert journal.lines == [
        "telemetry opens",
        "pool opens",
        "workers opens",
        "server begins",
        "jobs begins",
        "server stops",
        "jobs stops",  # together: neither needs the other
        "jobs ends",
        "server ends",
        "pool closes",
        "workers closes",
        "telemetry closes",
    ]


def test_a_program_ends_by_itself_when_its_routines_have(journal: Journal) -> None:
    async def work(stop: Stop) -> None:
        await asyncio.sleep(1.0)
        journal.lines.append(f"work done, stop {stop.requested}")

    async def setup(program: Program) -> None:
        pool = await program.enter("pool", journal.resource("pool"))
        program.start("work", work, [pool])

    run(Program().run(setup))
    assert journal.lines == ["pool opens", "work done, stop False", "pool closes"]


def test_a_program_without_routines_ends_at_once(journal: Journal) -> None:
    async def setup(program: Program) -> None:
        await program.enter("pool", journal.resource("pool"))

    run(Program().run(setup))
    assert journal.lines == ["pool opens", "pool closes"]


def test_a_failure_stops_the_rest_in_order_and_is_raised(
    journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(stop: Stop) -> None:
        await asyncio.sleep(1.0)
        raise ValueError("broken")

    async def setup(program: Program) -> None:
        pool = await program.enter("pool", journal.resource("pool"))
        program.start("server", journal.routine("server"), [pool])
        program.start("intake", fail, [pool])

    with pytest.raises(ValueError, match="broken"):
        run(Program().run(setup))
    assert journal.lines == ["pool opens", "server begins", "server stops", "server ends", "pool closes"]
    assert [record.getMessage() for record in caplog.records] == ["intake failed"]


def test_the_first_failure_wins_and_later_ones_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def first(stop: Stop) -> None:
        raise ValueError("first")

    async def second(stop: Stop) -> None:
        await stop.wait()
        raise ValueError("second")

    async def setup(program: Program) -> None:
        program.start("b", second)
        program.start("a", first)

    with pytest.raises(ValueError, match="first"):
        run(Program().run(setup))
    assert [record.getMessage() for record in caplog.records] == ["a failed", "b failed"]


def test_a_setup_that_fails_closes_what_it_has_opened(journal: Journal) -> None:
    async def setup(program: Program) -> None:
        await program.enter("pool", journal.resource("pool"))
        await program.enter("broken", Broken())

    with pytest.raises(ConnectionError, match="no server"):
        run(Program().run(setup))
    assert journal.lines == ["pool opens", "pool closes"]


def test_a_resource_that_fails_to_open_may_be_done_without(journal: Journal) -> None:
    async def setup(program: Program) -> None:
        with pytest.raises(ConnectionError):
            await program.enter("cache", Broken())
        program.start("server", journal.routine("server"))

    run(stop_soon(Program(), setup))
    assert journal.lines == ["server begins", "server stops", "server ends"]


def test_stopping_while_starting_gives_up_the_start(journal: Journal) -> None:
    async def setup(program: Program) -> None:
        pool = await program.enter("pool", journal.resource("pool"))
        await program.enter("slow", journal.resource("slow", opening=10.0), [pool])
        program.start("server", journal.routine("server"))

    async def main() -> float:
        await stop_soon(Program(), setup)
        return asyncio.get_running_loop().time()

    assert run(main()) == 1.0
    assert journal.lines == ["pool opens", "pool closes"]


def test_aborting_cancels_in_the_same_order(journal: Journal) -> None:
    async def setup(program: Program) -> None:
        pool = await program.enter("pool", journal.resource("pool"))
        inner = program.start("inner", journal.routine("inner", closing=100.0), [pool])
        program.start("outer", journal.routine("outer", closing=100.0), [inner])
        asyncio.get_running_loop().call_later(1.0, program.stop)
        asyncio.get_running_loop().call_later(2.0, program.abort)
        asyncio.get_running_loop().call_later(2.0, program.abort)

    async def main() -> float:
        await Program().run(setup)
        return asyncio.get_running_loop().time()

    assert run(main()) == 2.0
    assert journal.lines[3:] == ["outer stops", "outer is cancelled", "inner is cancelled", "pool closes"]


def test_what_outlasts_the_grace_is_cancelled(journal: Journal) -> None:
    async def setup(program: Program) -> None:
        program.start("quick", journal.routine("quick", closing=1.0))
        program.start("slow", journal.routine("slow", closing=100.0))
        program.stop(grace=5.0)

    async def main() -> float:
        await Program().run(setup)
        return asyncio.get_running_loop().time()

    assert run(main()) == 5.0
    assert journal.lines[-2:] == ["quick ends", "slow is cancelled"]


def test_a_program_whose_own_task_is_cancelled_leaves_nothing_behind(journal: Journal) -> None:
    async def setup(program: Program) -> None:
        pool = await program.enter("pool", journal.resource("pool"))
        program.start("server", journal.routine("server", closing=100.0), [pool])

    async def main() -> None:
        task = asyncio.create_task(Program().run(setup))
        await asyncio.sleep(1.0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())
    assert journal.lines[-2:] == ["server is cancelled", "pool closes"]


def test_a_routine_that_is_cancelled_by_somebody_else_is_a_failure(journal: Journal) -> None:
    async def victim(stop: Stop) -> None:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().call_soon(task.cancel)
        await stop.wait()

    async def setup(program: Program) -> None:
        program.start("server", journal.routine("server"))
        program.start("victim", victim)

    async def main() -> None:
        with pytest.raises(asyncio.CancelledError, match="victim was cancelled"):
            await Program().run(setup)

    run(main())
    assert journal.lines[-1] == "server ends"


def test_routines_may_be_started_while_the_program_runs(journal: Journal) -> None:
    async def main() -> None:
        program = Program()

        async def parent(stop: Stop) -> None:
            program.start("child", journal.routine("child"))
            await stop.wait()

        async def setup(program: Program) -> None:
            program.start("parent", parent)

        await stop_soon(program, setup)
        assert program.stopping

    run(main())
    assert journal.lines == ["child begins", "child stops", "child ends"]


@pytest.mark.parametrize("seed", range(20))
def test_any_graph_stops_from_its_leaves(seed: int) -> None:
    rng = random.Random(seed)
    needs: dict[str, Sequence[str]] = {}
    ended: list[str] = []

    def resource(name: str) -> AbstractAsyncContextManager[None]:
        @asynccontextmanager
        async def manager() -> AsyncIterator[None]:
            yield
            await asyncio.sleep(rng.random())
            ended.append(name)

        return manager()

    async def serve(name: str, stop: Stop) -> None:
        await stop.wait()
        await asyncio.sleep(rng.random())
        ended.append(name)

    async def setup(program: Program) -> None:
        nodes: dict[str, Node] = {}
        for i in range(20):
            name = str(i)
            needs[name] = rng.sample(sorted(nodes), min(len(nodes), rng.randrange(4)))
            wanted = [nodes[other] for other in needs[name]]
            if rng.random() < 0.5:
                nodes[name] = await program.enter(name, resource(name), wanted)
            else:
                nodes[name] = program.start(name, partial(serve, name), wanted)

    run(stop_soon(Program(), setup))
    assert sorted(ended) == sorted(needs)
    for name, others in needs.items():
        for other in others:
            assert ended.index(name) < ended.index(other)
