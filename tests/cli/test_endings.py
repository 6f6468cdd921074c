"""How commands end before their work is done: a deadline, Ctrl-C, a reader that has seen enough."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import subprocess
import sys

import asyncpg

from tests.support.cli import Demo, environment, run_broker
from tests.support.server import ROOT

# SIGINT is ignored by what a shell starts in the background, and such may be the ancestor of this process.
INTERRUPTIBLE = """
import signal, sys
from broker.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(main())
"""
BLOCKED = (
    "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%first_tailnum%'"
)
"""Of all that waits for the lock, this question: rollups and samples of the table wait too."""


def test_a_broker_that_says_nothing_is_waited_for_until_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # connections are made, and nobody takes them
        host, port = silent.getsockname()
        asked = ("query", "flights", "-m", "flights", "--address", f"{host}:{port}")
        result = run_broker(*asked, "--deadline", "200ms")
    assert (result.returncode, "no answer came in time" in result.stderr) == (7, True), result.stderr


def test_a_job_is_watched_until_the_deadline_and_goes_on() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host, port = silent.getsockname()
        result = run_broker("watch", "some", "--address", f"{host}:{port}", "--deadline", "200ms")
    assert result.returncode == 7, result.stderr
    assert "The deadline has passed. The job is not stopped by this: `broker watch" in result.stderr


async def test_a_deadline_that_passes_while_work_goes_on_ends_it(demo: Demo) -> None:
    holder = await asyncpg.connect(demo.dsn)
    try:
        async with holder.transaction():
            await holder.execute("LOCK TABLE flights IN ACCESS EXCLUSIVE MODE")
            asked = ("query", "flights", "-m", "first_tailnum", "--policy", "cache_mode=bypass")
            result = await asyncio.to_thread(demo.broker, *asked, "--deadline", "1s")
            # The client's clock and the broker's race; whichever is first says what to do.
            said = re.search("Allow more (with --deadline|time)", result.stderr)
            assert (result.returncode, said is not None) == (7, True), result.stderr
            while await holder.fetchval(BLOCKED):
                pass
    finally:
        await holder.close()


def test_a_reader_that_has_seen_enough_ends_the_command_without_noise(demo: Demo) -> None:
    command = [sys.executable, "-m", "broker", "explore", "flights", "-m", "flights", "-b", "tailnum,dest"]
    with subprocess.Popen(
        [*command, "--format", "csv"],
        env=environment(QUERYBROKER_ADDRESS=demo.address),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""


async def interruptible(demo: Demo, *arguments: str) -> asyncio.subprocess.Process:
    """A command that Ctrl-C ends."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", INTERRUPTIBLE, *arguments),
        env=environment(QUERYBROKER_ADDRESS=demo.address),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def test_ctrl_c_leaves_a_job_alone_and_says_so(demo: Demo) -> None:
    process = await interruptible(demo, "submit", "flights", "-m", "flights", "-b", "tailnum", "--wait")
    assert process.stdout is not None
    name = (await process.stdout.readline()).decode().strip()
    process.send_signal(signal.SIGINT)
    _, said = await process.communicate()
    assert process.returncode == 130
    assert f"The job is not stopped by this: `broker watch {name}` follows it" in said.decode()
    assert demo.broker("watch", name).returncode == 0


async def test_ctrl_c_leaves_the_jobs_that_build_rollups_alone_and_says_so(demo: Demo) -> None:
    process = await interruptible(demo, "rollup", "build", "flights")
    assert process.stderr is not None
    names = [(await process.stderr.readline()).decode().split()[-1] for _ in range(3)]
    process.send_signal(signal.SIGINT)
    _, said = await process.communicate()
    assert process.returncode == 130
    assert "The jobs are not stopped by this: `broker watch NAME` follows one" in said.decode()
    for name in names:
        assert demo.broker("watch", name).returncode == 0


async def test_ctrl_c_cancels_the_query_in_the_database(demo: Demo) -> None:
    holder, watcher = await asyncpg.connect(demo.dsn), await asyncpg.connect(demo.dsn)
    try:
        async with holder.transaction():
            await holder.execute("LOCK TABLE flights IN ACCESS EXCLUSIVE MODE")
            # Another test may have asked the same.
            asked = ("query", "flights", "-m", "first_tailnum", "--policy", "cache_mode=bypass")
            process = await interruptible(demo, *asked)
            while not await watcher.fetchval(BLOCKED):
                assert process.returncode is None
            process.send_signal(signal.SIGINT)
            _, said = await process.communicate()
            assert (process.returncode, b"Stopped." in said) == (130, True)
            while await watcher.fetchval(BLOCKED):  # it ends although the lock is still held
                pass
    finally:
        await holder.close()
        await watcher.close()
