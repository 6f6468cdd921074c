"""The caller's terms: what a request sets, what a panel overrides, and what the server's defaults fill in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from broker.domain.answer import AnswerKind
from broker.domain.errors import Violation
from broker.domain.terms import (
    ORDINARY_KINDS,
    AnswerPolicy,
    CacheMode,
    Consistency,
    DeadlineAction,
    EdgeMode,
    FallbackMode,
    PartialMode,
    RollupMode,
)
from broker.transport.decode_values import Found, at, required_choice, seconds
from broker.transport.enums import (
    ANSWER_KIND,
    CACHE,
    CONSISTENCY,
    DEADLINE_ACTION,
    EDGE,
    FALLBACK,
    PARTIAL,
    ROLLUP,
    E,
    EnumPair,
    V,
)
from querybroker.v1 import policy_pb2


@dataclass(frozen=True, slots=True)
class PolicyPatch:
    """The fields that one message sets; None is not set."""

    max_staleness: float | None = None
    accepted_kinds: frozenset[AnswerKind] | None = None
    fallback: FallbackMode | None = None
    rollup: RollupMode | None = None
    cache: CacheMode | None = None
    edge: EdgeMode | None = None
    consistency: Consistency | None = None
    partial: PartialMode | None = None
    on_deadline: DeadlineAction | None = None
    max_relative_error: float | None = None


NO_PATCH = PolicyPatch()


def decode_policy(message: policy_pb2.AnswerPolicy, path: str, found: Found) -> PolicyPatch:
    """What the message sets, with every violation of its shape."""
    return PolicyPatch(
        max_staleness=seconds(message.max_staleness, at(path, "max_staleness"), found)
        if message.HasField("max_staleness")
        else None,
        accepted_kinds=_kinds(message.accepted_kinds, at(path, "accepted_kinds"), found)
        if message.accepted_kinds
        else None,
        fallback=_mode(FALLBACK, message.fallback_mode, at(path, "fallback_mode"), found),
        rollup=_mode(ROLLUP, message.rollup_mode, at(path, "rollup_mode"), found),
        cache=_mode(CACHE, message.cache_mode, at(path, "cache_mode"), found),
        edge=_mode(EDGE, message.edge_mode, at(path, "edge_mode"), found),
        consistency=_mode(CONSISTENCY, message.consistency, at(path, "consistency"), found),
        partial=_mode(PARTIAL, message.partial_mode, at(path, "partial_mode"), found),
        on_deadline=_mode(DEADLINE_ACTION, message.on_deadline, at(path, "on_deadline"), found),
        max_relative_error=_error(message.max_relative_error, at(path, "max_relative_error"), found)
        if message.HasField("max_relative_error")
        else None,
    )


def merge_policy(request: PolicyPatch, panel: PolicyPatch, defaults: AnswerPolicy) -> AnswerPolicy:
    """Field by field: the panel's value, else the request's, else the default."""
    return AnswerPolicy(
        max_staleness=_first(panel.max_staleness, request.max_staleness, defaults.max_staleness),
        accepted_kinds=panel.accepted_kinds or request.accepted_kinds or defaults.accepted_kinds,
        fallback=panel.fallback or request.fallback or defaults.fallback,
        rollup=panel.rollup or request.rollup or defaults.rollup,
        cache=panel.cache or request.cache or defaults.cache,
        edge=panel.edge or request.edge or defaults.edge,
        consistency=request.consistency or defaults.consistency,
        partial=panel.partial or request.partial or defaults.partial,
        on_deadline=panel.on_deadline or request.on_deadline or defaults.on_deadline,
        max_relative_error=_first(
            panel.max_relative_error, request.max_relative_error, defaults.max_relative_error
        ),
    )


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)


def _mode(pair: EnumPair[E, V], number: int, path: str, found: Found) -> E | None:
    if number == 0:
        return None
    return required_choice(pair, number, path, found, next(iter(pair.to_domain.values())))


def _kinds(numbers: Sequence[int], path: str, found: Found) -> frozenset[AnswerKind]:
    kinds = frozenset(
        required_choice(ANSWER_KIND, number, f"{path}[{i}]", found, AnswerKind.LIVE)
        for i, number in enumerate(numbers[:64])  # there are far fewer kinds; more is repetition
    )
    return kinds or ORDINARY_KINDS


def _error(value: float, path: str, found: Found) -> float:
    if math.isnan(value) or not 0 <= value < 1:
        text = f"must be at least 0 and below 1, such as 0.02, and is {value:g}"
        found.append(Violation(path, text, "OUT_OF_RANGE"))
        return 0.0
    return value
