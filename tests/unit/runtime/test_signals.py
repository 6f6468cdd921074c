"""Real signals to a real process that runs a program on uvloop."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

SCRIPT = """
import asyncio, sys
from contextlib import asynccontextmanager
from broker.runtime import loop
from broker.runtime.lifecycle import Program
from broker.runtime.signals import handled

def say(text):
    print(text, flush=True)

@asynccontextmanager
async def pool():
    try:
        yield
    finally:
        say("pool closed")

async def server(stop):
    say("ready")
    try:
        await stop.wait()
        say("draining")
        if sys.argv[1] == "quick":
            return
        while True:  # a stubborn one: only "deaf" survives a cancel
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                say("cancelled")
                if sys.argv[1] != "deaf":
                    raise
    finally:
        say("server ended")

async def setup(program):
    needed = await program.enter("pool", pool())
    program.start("server", server, [needed])

async def main():
    program = Program()
    with handled(program):
        await program.run(setup)

loop.run(main())
say("exit")
"""


class Process:
    """The script, and its lines one by one."""

    def __init__(self, mode: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, mode], stdout=subprocess.PIPE, text=True
        )

    def expect(self, *lines: str) -> None:
        assert self.process.stdout is not None
        for line in lines:
            assert self.process.stdout.readline().rstrip() == line

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def status(self) -> int:
        return self.process.wait()


@pytest.fixture
def started(request: pytest.FixtureRequest) -> Iterator[Process]:
    process = Process(request.param)
    process.expect("ready")
    yield process
    process.process.kill()
    process.process.communicate()


@pytest.mark.parametrize("started", ["quick"], indirect=True)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_in_order(started: Process, number: signal.Signals) -> None:
    started.send(number)
    started.expect("draining", "server ended", "pool closed", "exit")
    assert started.status() == 0


@pytest.mark.parametrize("started", ["stubborn"], indirect=True)
def test_a_second_signal_ends_at_once_and_still_closes_everything(started: Process) -> None:
    started.send(signal.SIGTERM)
    started.expect("draining")
    started.send(signal.SIGTERM)
    started.expect("cancelled", "server ended", "pool closed", "exit")
    assert started.status() == 0


@pytest.mark.parametrize("started", ["deaf"], indirect=True)
def test_a_third_signal_kills(started: Process) -> None:
    started.send(signal.SIGTERM)
    started.expect("draining")
    started.send(signal.SIGTERM)
    started.expect("cancelled")
    started.send(signal.SIGTERM)
    assert started.status() == -signal.SIGTERM
