"""Terms under which answers are asked for, and what they forbid an answer to be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from querybroker.v1 import answer_pb2, policy_pb2

P, A = policy_pb2, answer_pb2
STALENESS = 4.0
CACHED = {A.ANSWER_KIND_CACHE_FRESH, A.ANSWER_KIND_CACHE_STALE}
STALE = {A.ANSWER_KIND_CACHE_STALE, A.ANSWER_KIND_ROLLUP_STALE, A.ANSWER_KIND_ESTIMATE}
ROLLED = {A.ANSWER_KIND_ROLLUP, A.ANSWER_KIND_HYBRID, A.ANSWER_KIND_ROLLUP_STALE}
SLACK = 0.05
"""Seconds between clocks of processes of this machine, and what becomes of them when they are rounded."""
Status = answer_pb2.AnswerStatus


@dataclass(frozen=True, slots=True)
class Terms:
    """A policy, and what is wrong with an answer that was given under it, empty when nothing is."""

    policy: policy_pb2.AnswerPolicy
    breach: Callable[[Status, float], str] = lambda status, age: ""
    partial: bool = False


def _young(status: Status, age: float) -> str:
    told = status.staleness.ToTimedelta().total_seconds()
    return f"older than allowed: {max(age, told):.3f} s" if max(age, told) > STALENESS + SLACK else ""


def _exact(status: Status, _: float) -> str:
    return "degraded in spite of FAIL" if status.degraded else ""


def _held(status: Status, _: float) -> str:
    return "" if status.kind in CACHED else "not from the cache in spite of ONLY"


def _now(status: Status, _: float) -> str:
    return "from the cache in spite of no staleness" if status.kind in CACHED | STALE else ""


def _tables(status: Status, _: float) -> str:
    rolled = status.kind in ROLLED or any(p.source == A.PART_SOURCE_ROLLUP for p in status.parts)
    return "from a rollup in spite of FORBID" if rolled else ""


def _read(status: Status, _: float) -> str:
    return "from the cache in spite of BYPASS" if status.kind == A.ANSWER_KIND_CACHE_FRESH else ""


def _policy(seconds: float) -> policy_pb2.AnswerPolicy:
    policy = P.AnswerPolicy()
    policy.max_staleness.FromTimedelta(timedelta(seconds=seconds))
    return policy


TERMS: Mapping[str, Terms] = {
    "default": Terms(P.AnswerPolicy()),
    "max staleness": Terms(_policy(STALENESS), _young),
    "no staleness": Terms(_policy(0.0), _now),
    "fail": Terms(P.AnswerPolicy(fallback_mode=P.FALLBACK_MODE_FAIL), _exact),
    "cache only": Terms(P.AnswerPolicy(cache_mode=P.CACHE_MODE_ONLY), _held),
    "bypass": Terms(P.AnswerPolicy(cache_mode=P.CACHE_MODE_BYPASS), _read),
    "revalidate": Terms(P.AnswerPolicy(cache_mode=P.CACHE_MODE_REVALIDATE)),
    "partial": Terms(P.AnswerPolicy(partial_mode=P.PARTIAL_MODE_ALLOW), partial=True),
    "no rollups": Terms(P.AnswerPolicy(rollup_mode=P.ROLLUP_MODE_FORBID), _tables),
}
