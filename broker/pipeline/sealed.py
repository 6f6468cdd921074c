"""What the tables may no longer have: rows whose partitions were sealed before retention dropped them.

An answer that needs such rows from the tables would be short. It is refused, or, for callers who accept incomplete
answers, says which intervals it may miss. A seal is known a moment after it was set, and rows are dropped after that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.plan import Scan
from broker.domain.rollup import Cover, Rule, Span, instant
from broker.domain.terms import AnswerPolicy, PartialMode
from broker.pipeline.stage import Question
from broker.pipeline.status import span_of

Seals = Mapping[str, Sequence[Span]]
"""Sealed spans by time dimension, ascending."""
_MOST_TOLD = 3


def gone(question: Question, covers: Sequence[Cover]) -> tuple[Span, ...]:
    """The sealed spans whose rows the tables would have to give; without covers they give everything.

    Raises:
        BrokerError: POLICY_UNSATISFIABLE when there are some and the caller accepts no incomplete answers.
    """
    found = missing(question, covers)
    if (refused := refusal_of(question.policy, found)) is not None:
        raise refused
    return found


def missing(question: Question, covers: Sequence[Cover]) -> tuple[Span, ...]:
    """The same, whatever the caller accepts."""
    if not question.seals:
        return ()
    live = [cover.live for cover in covers] or [(span_of(scan),) for scan in question.plan.scans]
    found = sorted(
        {
            span
            for scan, spans in zip(question.plan.scans, live, strict=True)
            for span in _overlapping(scan, spans, question.seals)
        }
    )
    return tuple(found)


def _overlapping(scan: Scan, live: Sequence[Span], seals: Seals) -> Iterator[Span]:
    """The sealed spans that may concern what is read; along another time dimension nobody knows."""
    for time, spans in seals.items():
        along = scan.time is not None and scan.time.name == time
        for sealed in spans:
            if not live:
                continue
            if not along or any(span.lo < sealed.hi and sealed.lo < span.hi for span in live):
                yield sealed


def refusal_of(policy: AnswerPolicy, found: Sequence[Span]) -> BrokerError | None:
    """Why an answer that may miss these spans is none to the caller, or None when it is."""
    if not found or policy.partial is not PartialMode.FORBID:
        return None
    told = ", ".join(f"{instant(span.lo)} to {instant(span.hi)}" for span in found[:_MOST_TOLD])
    text = (
        f"The rows of {told} may be gone: their partitions were sealed, and no rollup that holds them can answer this. "
        "Ask for what a sealed rollup stores, narrow the range, snap its edges (edge_mode SNAP), or accept an "
        "incomplete answer (partial_mode ALLOW)."
    )
    return BrokerError(
        ErrorReason.POLICY_UNSATISFIABLE, text, metadata={"rule": Rule.SEAL.value, "sealed": told}
    )
