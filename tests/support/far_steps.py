"""CPU steps of jobs that tests send to a cluster."""

from __future__ import annotations

import os
from pathlib import Path

from broker.jobs.custom import PermanentError


def where(argument: object, say: object) -> tuple[int, object]:
    """The process that computes, and what it was given."""
    return os.getpid(), argument


def refuse(argument: object, say: object) -> None:
    """Says that another attempt would be of no use."""
    raise PermanentError(str(argument))


def stuck(path: str, say: object) -> bytes:
    """Waits for a named pipe."""
    return Path(path).read_bytes()
