"""Exit codes of the command line. They are part of its interface: scripts may rely on them."""

from __future__ import annotations

from enum import IntEnum
from typing import NoReturn


class Exit(IntEnum):
    """How a command ended."""

    OK = 0
    """Done as asked."""
    FAILED = 1
    """A bug, here or in the broker, or something that has no code of its own."""
    USAGE = 2
    """The command line or the question cannot be read; nothing was sent."""
    CONFIG = 3
    """The configuration cannot be used, or it does not fit the database."""
    REFUSED = 4
    """The broker refuses this request for good: change it."""
    DENIED = 5
    """The caller is not known to the broker, or may not do this."""
    UNAVAILABLE = 6
    """The broker cannot be reached, or cannot answer now: try again later."""
    DEADLINE = 7
    """The work did not fit into the deadline."""
    JOB = 8
    """The job that was waited for failed or was cancelled."""
    INTERRUPTED = 130
    """Stopped by Ctrl-C; work at the broker was cancelled."""


class CommandError(Exception):
    """Ends a command with a text for the person and an exit code."""

    def __init__(self, text: str, code: Exit = Exit.FAILED) -> None:
        self.code = code
        super().__init__(text)


class EndedError(Exception):
    """Ends a command whose problem has been printed already."""

    def __init__(self, code: Exit) -> None:
        self.code = code
        super().__init__(code.name)


def fail(text: str, code: Exit = Exit.FAILED) -> NoReturn:
    """Raise a `CommandError`."""
    raise CommandError(text, code)
