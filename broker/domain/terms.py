"""The caller's terms: the contract's ``AnswerPolicy`` with every field decided."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from broker.domain.answer import AnswerKind


class FallbackMode(StrEnum):
    """Degrade or fail."""

    ALLOW = "allow"
    FAIL = "fail"


class RollupMode(StrEnum):
    """Use of rollups."""

    AUTO = "auto"
    REQUIRE = "require"
    FORBID = "forbid"


class CacheMode(StrEnum):
    """Use of the cache."""

    DEFAULT = "default"
    REVALIDATE = "revalidate"
    BYPASS = "bypass"
    ONLY = "only"


class EdgeMode(StrEnum):
    """Treatment of unaligned range edges."""

    EXACT = "exact"
    SNAP = "snap"


class Consistency(StrEnum):
    """Agreement between the panels of a dashboard."""

    SNAPSHOT = "snapshot"
    BOUNDED = "bounded"
    ANY = "any"


class PartialMode(StrEnum):
    """Acceptance of incomplete answers."""

    FORBID = "forbid"
    ALLOW = "allow"


class DeadlineAction(StrEnum):
    """What becomes of work that outlives the deadline."""

    CANCEL = "cancel"
    JOB = "job"


ORDINARY_KINDS = frozenset(AnswerKind) - {AnswerKind.ESTIMATE}


@dataclass(frozen=True, slots=True)
class AnswerPolicy:
    """What the caller accepts. ``max_staleness`` is in seconds; None leaves it to the dataset's limits."""

    max_staleness: float | None = None
    accepted_kinds: frozenset[AnswerKind] = ORDINARY_KINDS
    fallback: FallbackMode = FallbackMode.ALLOW
    rollup: RollupMode = RollupMode.AUTO
    cache: CacheMode = CacheMode.DEFAULT
    edge: EdgeMode = EdgeMode.EXACT
    consistency: Consistency = Consistency.BOUNDED
    partial: PartialMode = PartialMode.FORBID
    on_deadline: DeadlineAction = DeadlineAction.CANCEL
    max_relative_error: float | None = None
