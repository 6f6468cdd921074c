"""A database that is asked about itself, for proposing and verifying a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from broker.domain.relations import DatabaseCatalog, Described, FunctionFacts


class Introspector(Protocol):
    """Answers from one connection; calls must not overlap. Methods raise BrokerError STORE_UNAVAILABLE."""

    async def catalog(self) -> DatabaseCatalog:
        """Every table and view outside the system's and the broker's own schemas, from one snapshot."""
        ...

    async def functions(self, names: Sequence[str]) -> tuple[FunctionFacts, ...]:
        """The functions among the names that exist."""
        ...

    async def describe(self, statements: Sequence[str]) -> tuple[Described, ...]:
        """Types of the columns of each statement. Nothing is run."""
        ...

    async def exists(self, statement: str) -> bool | None:
        """Whether a statement returns a row; None when that takes too long to find out."""
        ...
