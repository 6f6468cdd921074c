"""Who asks, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum


class Criticality(IntEnum):
    """How much a request matters, from the authenticated identity; a caller may lower it, never raise it."""

    SHEDDABLE = 0
    SHEDDABLE_PLUS = 1
    CRITICAL = 2
    CRITICAL_PLUS = 3


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated caller.

    ``grants`` are names such as ``dataset:flights``, ``sql``, ``explain.statements``, ``jobs.read_all``, ``admin``;
    ``*`` stands for all. ``attributes`` feed row policies.
    """

    name: str
    tenant: str
    grants: frozenset[str] = frozenset()
    criticality: Criticality = Criticality.CRITICAL
    attributes: Mapping[str, str] = field(default_factory=dict)

    def has(self, grant: str) -> bool:
        """Whether the principal holds the grant."""
        return grant in self.grants or "*" in self.grants

    def has_any(self, grants: tuple[str, ...]) -> bool:
        """Whether the principal holds one of the grants; no grants asks for nothing."""
        return not grants or any(self.has(g) for g in grants)
