"""A child process that says when it serves and stops when its parent is gone, seen from the parent.

Two pipes tie them together. On one the child writes a line of JSON when it serves, and another when somebody asks it
to drain; on the other the parent may write how long running calls have, and the kernel closes it when the parent ends,
however it ends. A child leads a session of its own, so that Ctrl-C in a terminal reaches the parent alone. It is always
a program that is started anew, never a fork: gRPC and telemetry have threads, which a fork does not have.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress

Said = Mapping[str, object]
"""What a child says of itself."""


class Child:
    """A child that runs. ``ended`` gives its exit code, negative after a signal."""

    def __init__(self, process: asyncio.subprocess.Process, said: asyncio.StreamReader, order: int) -> None:
        self._process = process
        self._said = said
        self._order = order
        self.ended: asyncio.Task[int] = asyncio.create_task(process.wait())
        self.ended.add_done_callback(self._close)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def says(self) -> Said | None:
        """The next thing it says; None when it says nothing more, because it has ended or soon will."""
        line = await self._said.readline()
        said: Said | None = json.loads(line) if line.endswith(b"\n") else None
        return said

    def drain(self, grace: float | None) -> None:
        """Has it stop in order; running calls get ``grace`` seconds, None for what its settings say."""
        if grace is None:
            self.signal(signal.SIGTERM)
        elif self._order >= 0:
            with suppress(BrokenPipeError, BlockingIOError):
                os.write(self._order, f"{grace}\n".encode())

    def signal(self, number: signal.Signals) -> None:
        """Sends it a signal, unless it has ended."""
        with suppress(ProcessLookupError):
            self._process.send_signal(number)

    def _close(self, _: object) -> None:
        os.close(self._order)
        self._order = -1


async def start(command: Sequence[str]) -> Child:
    """Starts ``COMMAND --ready-fd FD --owner-fd FD``.

    Raises:
        OSError: It cannot be started.
    """
    said, saying = os.pipe()
    watched, order = os.pipe()
    os.set_blocking(order, False)
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            *("--ready-fd", str(saying), "--owner-fd", str(watched)),
            stdin=asyncio.subprocess.DEVNULL,
            pass_fds=(saying, watched),
            start_new_session=True,
        )
    except BaseException:
        os.close(said)
        os.close(order)
        raise
    finally:
        os.close(saying)
        os.close(watched)
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(said, "rb", 0))
    return Child(process, reader, order)
