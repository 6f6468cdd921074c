"""Turns between processes: who answers a question that several are asked at once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from broker.ports.cache import Turn


class OwnTurn:
    """The turn of a process that asks nobody."""

    @property
    def mine(self) -> bool:
        """See :class:`broker.ports.cache.Turn`."""
        return True

    async def over(self, seconds: float) -> None:
        """See :class:`broker.ports.cache.Turn`."""


class OwnTurns:
    """A :class:`broker.ports.cache.Turns` where no tier is shared: every process answers what it is asked."""

    @asynccontextmanager
    async def turn(self, key: str) -> AsyncIterator[Turn]:  # noqa: ARG002 - all are alike
        """See :class:`broker.ports.cache.Turns`."""
        yield OwnTurn()
