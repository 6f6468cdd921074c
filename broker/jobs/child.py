"""The inside of a child process: its channel to the worker, its limits, and its end.

A child lives for one attempt. It leads a process group of its own, so that it can be killed with everything that it
started; it may use a bounded amount of memory; and it ends when the other end of its channel is closed, even in the
middle of a computation, so that no child outlives its worker.
"""

from __future__ import annotations

import importlib
import os
import pickle
import resource
import select
import signal
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path

HEADER = struct.Struct("!Q")
ORPHANED = 3
"""Exit code of a child that was left alone."""


class Channel:
    """Messages to and from the worker: any values that can be pickled, each sent whole."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def send(self, message: object) -> None:
        """Sends a message; waits while the worker is not reading."""
        data = pickle.dumps(message, protocol=5)
        self._connection.sendall(HEADER.pack(len(data)))
        self._connection.sendall(data)

    def receive(self) -> object:
        """The next message; raises EOFError when the worker has closed the channel."""
        (size,) = HEADER.unpack(self._read(HEADER.size))
        return pickle.loads(self._read(size))  # noqa: S301 - from our own worker over a private socket

    def _read(self, size: int) -> bytearray:
        data = bytearray(size)
        view = memoryview(data)
        while view:
            count = self._connection.recv_into(view)
            if count == 0:
                raise EOFError
            view = view[count:]
        return data


Main = Callable[[Channel, object], None]
"""What a child does, with the argument that it was started with."""


def enter(connection: socket.socket, memory_bytes: int, main: str, argument: object) -> None:
    """Where a child begins; ``main`` names a :data:`Main` as ``module:function``, so that only the child imports it."""
    os.setsid()
    for ignored in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ignored, signal.SIG_IGN)  # the worker decides when a child ends
    # Counts what is allocated, not address space, of which thread pools reserve far more than they use.
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    _prefer_as_victim()
    threading.Thread(target=_watch, args=(connection,), daemon=True, name="watch").start()
    module, _, function = main.partition(":")
    run: Main = getattr(importlib.import_module(module), function)
    try:
        run(Channel(connection), argument)
    except EOFError:
        os._exit(ORPHANED)


def _watch(connection: socket.socket) -> None:
    poller = select.poll()
    poller.register(connection, getattr(select, "POLLRDHUP", 0))  # hang-up and error are always reported
    poller.poll()
    os._exit(ORPHANED)


def _prefer_as_victim() -> None:
    """When memory runs out, the kernel is to take the child, which is one attempt, not the worker."""
    adjustment = Path("/proc/self/oom_score_adj")
    if adjustment.exists():
        adjustment.write_text("800")
