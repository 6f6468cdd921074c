"""The broker and its worker as child processes of the demonstration.

Two pipes tie a child to its owner: on one it says that it serves, the other it watches, and drains when the owner's
end is closed, which the kernel does even for an owner that was killed. A child leads a session of its own, so that
Ctrl-C in the terminal reaches the owner only, which then stops its children in order.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

_LINES_SHOWN: Final = 15
_PATIENCE_S: Final = 45.0
"""More than the time that a broker gives running calls to end."""


class ChildError(Exception):
    """A child did not start, or ended by itself; the text holds the end of its log."""


class Child:
    """A running ``python -m broker``. ``ended`` is done once it has ended, for whatever reason."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, said: int, log: Path) -> None:
        self.name = name
        self.ended = asyncio.create_task(process.wait(), name=f"end of {name}")
        self._said = asyncio.create_task(asyncio.to_thread(_read_line, said), name=f"readiness of {name}")
        self._process = process
        self._log = log

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def ready(self) -> Mapping[str, str]:
        """Waits until it serves; returns what it says of itself. Raises `ChildError` when it ends before that."""
        line = await asyncio.shield(self._said)  # without a line when the child has ended
        if not line:
            await asyncio.shield(self.ended)
            raise self.failure()
        info: dict[str, str] = json.loads(line)
        return info

    def failure(self) -> ChildError:
        """What to say of a child that has ended by itself."""
        code = self._process.returncode or 0
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        lines = self._log.read_text(errors="replace").splitlines()[-_LINES_SHOWN:]
        return ChildError(f"The {self.name} {how}. The end of {self._log}:\n  " + "\n  ".join(lines))

    async def stop(self) -> None:
        """Lets it drain; kills it when that takes too long, or when nobody waits for it any more."""
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(asyncio.shield(self.ended), _PATIENCE_S)
        finally:
            if self._process.returncode is None:
                self._process.kill()
            await asyncio.wait({self.ended, self._said})


@asynccontextmanager
async def child(
    name: str, arguments: Sequence[str], environment: Mapping[str, str], log: Path
) -> AsyncIterator[Child]:
    """Starts ``python -m broker ARGUMENTS`` with its output in ``log``, and stops it on leaving."""
    said, saying = os.pipe()
    watched, owner = os.pipe()
    try:
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "broker", *arguments),
                *("--ready-fd", str(saying), "--owner-fd", str(watched)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                pass_fds=(saying, watched),
                start_new_session=True,
            )
    except BaseException:
        os.close(said)
        os.close(owner)
        raise
    finally:
        os.close(saying)
        os.close(watched)
    started = Child(name, process, said, log)
    try:
        yield started
    finally:
        try:
            await started.stop()
        finally:
            os.close(owner)


def _read_line(pipe: int) -> str:
    with os.fdopen(pipe, encoding="utf-8") as file:
        return file.readline()
