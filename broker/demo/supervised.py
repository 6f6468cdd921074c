"""A program under `broker.demo.supervise`, seen from its owner.

The pipe to the supervisor is close-on-exec, so programs started by the owner do not hold it; a *forked* copy
of the owner would, and keep the program alive for as long as it lives itself.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

from broker.demo import supervise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from broker.demo.install import Account


class Supervised:
    """`command`, running as `account`, printing to `output`; it ends with this object's owner."""

    def __init__(self, command: Sequence[str], account: Account, output: IO[bytes]) -> None:
        script = str(Path(supervise.__file__).resolve())
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", script, str(account.uid), str(account.gid), *command],
            stdin=subprocess.PIPE,
            bufsize=0,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C in the terminal is for the owner, which then stops this in order
            cwd="/",
            # Nothing of the caller's: PGDATA, PGOPTIONS and their like would change what is run.
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
        )

    @property
    def pid(self) -> int:
        """The process id of the supervisor, the parent of the program."""
        return self._process.pid

    def send(self, number: signal.Signals) -> None:
        """Have the supervisor send a signal to the program; without effect if it has ended."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(bytes([number]))

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Return the exit code of the program (128 + n after signal n), None if it is still running by then."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def close(self) -> int:
        """Let go: a program still running is stopped, harder from step to step. Returns its exit code."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        return self._process.wait()
