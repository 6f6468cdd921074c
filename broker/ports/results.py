"""Where the files of jobs' results are kept.

Every method raises BrokerError STORE_UNAVAILABLE when the store cannot be used.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

PREFIXES = 10_000
"""Prefixes that a result store tells of at once."""
OWNER = "deployment"
"""Name of the file that says whose a store is."""


class ResultStore(Protocol):
    """Files of results. A file is visible under its key only once it is complete and durable."""

    def stage(self, prefix: str) -> AbstractAsyncContextManager[Staging]:
        """A local directory to write files in; leaving the context deletes it with all that was not published."""
        ...

    def read(self, key: str, offset: int, chunk: int) -> AsyncGenerator[bytes, None]:
        """The bytes of a file from ``offset`` in pieces of at most ``chunk`` bytes; raises FileNotFoundError."""
        ...

    async def copy(self, key: str, prefix: str) -> str:
        """Makes a published file visible below another prefix too, of the same name; returns its key there.

        Whoever deletes the one leaves the other. Raises FileNotFoundError; OSError where it cannot be copied.
        """
        ...

    async def owner(self, deployment: str) -> str:
        """Whose the store is: that of the deployment which asked first. Its owner alone may sweep it."""
        ...

    async def prefixes(self, after: str = "", most: int = PREFIXES) -> Sequence[str]:
        """The first prefixes after one, in order, under which something is stored or staged."""
        ...

    async def delete(self, prefix: str) -> None:
        """Deletes everything under a prefix, staged or published; missing ones are ignored."""
        ...


class Staging(Protocol):
    """Files of one attempt on their way into the result store."""

    @property
    def directory(self) -> str:
        """Path of the directory."""
        ...

    async def publish(self, name: str) -> str:
        """Makes a finished and synced file of the directory durable and visible; returns its key."""
