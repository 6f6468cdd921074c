"""Child processes: messages both ways, back-pressure, limits, and death in every direction."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator

import psutil
import pytest

from broker.jobs.children import ChildLostError, Children
from tests.support.processes import ended

HERE = "tests.support.job_children"


@pytest.fixture(scope="module")
def children() -> Iterator[Children]:
    made = Children(512 << 20)
    yield made
    assert made.count == 0
    made.close()


async def test_messages_of_any_size_go_both_ways(children: Children) -> None:
    async with children.child(f"{HERE}:echo", {"given": 1}) as child:
        assert await child.receive() == {"given": 1}
        for message in (b"x" * 5_000_000, "text", (1, None, 2.5)):
            sending = asyncio.create_task(child.send(message))
            assert await child.receive() == message
            await sending
        pid = child.pid
    assert not psutil.pid_exists(pid)


async def test_a_busy_child_holds_the_sender_back(children: Children) -> None:
    async with children.child(f"{HERE}:sit", None) as child:
        assert await child.receive() == "here"
        for _ in range(100):  # 10 MB; a few hundred kilobytes fit into the socket
            sending = asyncio.create_task(child.send(b"x" * 100_000))
            done, _ = await asyncio.wait({sending}, timeout=0.5)
            if not done:
                break
        else:
            pytest.fail("nothing held the sender back")
        sending.cancel()


async def test_a_child_that_dies_is_told_with_its_exit_code(children: Children) -> None:
    async with children.child(f"{HERE}:die", None) as child:
        await child.send("now")
        with pytest.raises(ChildLostError) as caught:
            await child.receive()
        assert caught.value.metadata["exit_code"] == str(-signal.SIGKILL)
        with pytest.raises(ChildLostError):
            await child.send(b"x" * 1_000_000)


async def test_leaving_kills_the_child_and_what_it_started(children: Children) -> None:
    async with children.child(f"{HERE}:spin", None) as child:
        pids = await child.receive()
    assert isinstance(pids, tuple)
    for pid in pids:
        await ended(pid)


async def test_all_children_can_be_killed_from_another_thread(children: Children) -> None:
    async with children.child(f"{HERE}:spin", None) as one, children.child(f"{HERE}:sit", None) as two:
        await one.receive()
        await two.receive()
        assert children.count == 2
        await asyncio.to_thread(children.kill_all)
        for child in (one, two):
            with pytest.raises(ChildLostError):
                await child.receive()


async def test_memory_is_limited(children: Children) -> None:
    async with children.child(f"{HERE}:hoard", None) as child:
        taken = await child.receive()
    assert isinstance(taken, int)
    assert 128 <= taken < 512


async def test_a_cancelled_start_leaves_no_process(children: Children) -> None:
    async def start() -> None:
        async with children.child(f"{HERE}:sit", None):
            pytest.fail("was to be cancelled before")

    before = len(psutil.Process().children(recursive=True))
    for _ in range(5):
        task = asyncio.create_task(start())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert children.count == 0
    assert len(psutil.Process().children(recursive=True)) <= before


async def test_children_end_with_their_worker_however_it_ends() -> None:
    program = (
        "import asyncio, sys\n"
        "from broker.jobs.children import Children\n"
        "async def main():\n"
        f"    async with Children(1 << 30).child('{HERE}:spin', None) as child:\n"
        "        print(*(await child.receive()), flush=True)\n"
        "        await asyncio.Event().wait()\n"
        "if __name__ == '__main__': asyncio.run(main())\n"
    )
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE
    )
    assert worker.stdout is not None
    spinning, started = (int(pid) for pid in (await worker.stdout.readline()).split())
    worker.kill()
    await ended(spinning)
    os.kill(started, signal.SIGKILL)  # nobody is left who would kill what the orphan had started
    assert await worker.stdout.read() == b"", "whoever holds the pipe has ended, the forkserver too"
    await worker.wait()
