"""What the tables may no longer have: rows whose partitions were sealed before retention dropped them.

An answer that needs such rows from the tables would be short. It is refused, or, for callers who accept incomplete
answers, says which intervals it may miss. What is
sealed is read in the snapshot, or known from a look that is still good (:mod:`broker.pipeline.known_seals`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.plan import Plan, Scan
from broker.domain.rollup import Cover, Coverage, Piece, Rule, Span, instant
from broker.domain.terms import AnswerPolicy, PartialMode
from broker.pipeline.routes import Route
from broker.policy.rollups.seals import Seals

_MOST_TOLD = 3


def covers_of(
    route: Route, policy: AnswerPolicy, coverage: Mapping[str, Coverage], seals: Seals
) -> tuple[Cover, ...]:
    """How a question is answered: one cover for each scan, without pieces where nothing answers it.

    Who accepts incomplete answers gets what the tables still have, where rollups and tables together are not enough.
    """
    covers = route.cover(coverage, seals)
    if route.require or policy.partial is PartialMode.FORBID:
        return covers
    scans = [each.scan for each in route.scans]
    return tuple(
        cover if cover.pieces else Cover((Piece("", (scan.span,)),), 0.0, cover.rejected)
        for scan, cover in zip(scans, covers, strict=True)
    )


def gone(plan: Plan, policy: AnswerPolicy, seals: Seals, covers: Sequence[Cover] = ()) -> tuple[Span, ...]:
    """The sealed spans whose rows the tables would have to give; without covers they give everything.

    Raises:
        BrokerError: POLICY_UNSATISFIABLE when there are some and the caller accepts no incomplete answers.
    """
    found = missing(plan, seals, covers)
    if (refused := refusal_of(policy, found)) is not None:
        raise refused
    return found


def missing(plan: Plan, seals: Seals, covers: Sequence[Cover] = ()) -> tuple[Span, ...]:
    """The same, whatever the caller accepts."""
    if not seals:
        return ()
    live = [cover.live for cover in covers] or [(scan.span,) for scan in plan.scans]
    found = {
        span
        for scan, spans in zip(plan.scans, live, strict=True)
        for span in _overlapping(scan, spans, seals)
    }
    return tuple(sorted(found))


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
