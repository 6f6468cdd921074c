"""What a process has learned, on its way to the next one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Learned:
    """A saved state: who wrote it, in which version of its form, how many seconds ago, and the bytes."""

    writer: str
    version: int
    age: float
    state: bytes
