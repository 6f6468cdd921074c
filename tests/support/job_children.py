"""What the child processes of tests do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

from broker.jobs.child import Channel


def echo(channel: Channel, argument: object) -> None:
    """Sends the argument, then every message back, until there are no more."""
    channel.send(argument)
    while (message := channel.receive()) is not None:
        channel.send(message)


def die(channel: Channel, argument: object) -> None:
    """Ends by a signal, as when the kernel is out of memory."""
    channel.receive()
    os.kill(os.getpid(), signal.SIGKILL)


def give_up(channel: Channel, argument: object) -> None:
    """Aborts, as native code does that is refused memory."""
    channel.receive()
    os.abort()


def spin(channel: Channel, argument: object) -> None:
    """Starts a process of its own, says both ids, and computes for ever."""
    other = subprocess.Popen([sys.executable, "-c", "import threading; threading.Event().wait()"])
    channel.send((os.getpid(), other.pid))
    while True:
        sum(range(10_000))


def hoard(channel: Channel, argument: object) -> None:
    """Takes memory until there is none, and says so."""
    taken = []
    try:
        while True:
            taken.append(bytearray(16 << 20))
    except MemoryError:
        count = len(taken)
        taken.clear()
        channel.send(count * 16)


def sit(channel: Channel, argument: object) -> None:
    """Never reads its channel."""
    channel.send("here")
    threading.Event().wait()
