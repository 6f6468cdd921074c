"""What an answer is worth: the status, from where its pieces were read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from broker.domain.answer import (
    AnswerKind,
    AnswerPart,
    AnswerStatus,
    Cost,
    Exactness,
    Guarantee,
    Interval,
    LadderStep,
    PartSource,
    Rung,
    Verdict,
)
from broker.domain.fingerprint import fingerprint
from broker.domain.plan import Plan
from broker.domain.rollup import ALWAYS, Cover, Coverage, Piece, Span, instant
from broker.pipeline.bounds import error_bounds, exactness
from broker.pipeline.stage import Question
from broker.policy.rollups.reasons import nearest

MOST_PARTS = 32
"""Parts of one source beyond this are told as one, with the interval that holds them."""
MOST_REJECTED = 16
"""Rollups that were passed over, in the status of an answer; an explanation has them all."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where an answer was read: one snapshot, and a cover for each scan; no covers when all of it was live.

    ``lag`` is that of a replica, in seconds; ``coverage`` has the rollups that were looked at, by name. The tables may
    lack rows of the ``sealed`` spans, which they had to give.
    """

    as_of: datetime
    lag: float | None = None
    covers: tuple[Cover, ...] = ()
    coverage: Mapping[str, Coverage] = field(default_factory=dict)
    sealed: tuple[Span, ...] = ()
    used: tuple[str, ...] = field(init=False)
    """The rollups that were read, by name."""
    live: bool = field(init=False)
    """Whether some of it was read from the tables, although there are covers."""

    def __post_init__(self) -> None:
        used, live = dict[str, None](), False
        for cover in self.covers:
            for piece in cover.pieces:
                if piece.rollup:
                    used[piece.rollup] = None
                elif piece.spans:
                    live = True
        object.__setattr__(self, "used", (*used,))
        object.__setattr__(self, "live", live)

    @property
    def kind(self) -> AnswerKind:
        """LIVE, ROLLUP, or HYBRID where both were read."""
        if not self.used:
            return AnswerKind.LIVE
        return AnswerKind.HYBRID if self.live else AnswerKind.ROLLUP

    @property
    def live_share(self) -> float:
        """Which part of the time range was read live, from 0 to 1; beyond where anything else begins counts nothing."""
        live = [span for cover in self.covers for span in _finite(cover.pieces, live=True)]
        every = [span for cover in self.covers for span in _finite(cover.pieces)]
        return _length(live) / total if (total := _length(every)) else 0.0

    @property
    def lateness(self) -> float | None:
        """Seconds within which late rows may be missing; None for none."""
        most: float | None = None
        for name in self.used:
            bound = self.coverage[name].lateness
            if bound is not None and (most is None or bound > most):
                most = bound
        return most


def status_of(question: Question, sources: Sources, now: datetime, actual: Cost | None) -> AnswerStatus:
    """The status of an answer that was read at ``sources``."""
    lag, lateness, plan = sources.lag, sources.lateness, question.plan
    seconds = actual.duration_p50 if actual is not None else 0.0
    guarantee, decided = _guarantee(lateness), question.classified.classification
    return AnswerStatus(
        kind=sources.kind,
        exactness=exactness_of(plan, sources),
        as_of=sources.as_of,
        staleness=max(0.0, (now - sources.as_of).total_seconds()) + (lag or 0.0),
        guarantee=guarantee,
        guarantee_bound=lateness if guarantee is Guarantee.LATENESS_BOUND else None,
        parts=parts_of(question, sources, actual.row_count if actual is not None else 0),
        sealed_intervals=tuple([Interval(instant(span.lo), instant(span.hi)) for span in sources.sealed]),
        effective_range=snapped_range(plan) if plan.snapped else None,
        bounds=error_bounds(plan),
        ladder=(*question.ladder, *steps_of(sources, seconds)),
        pool=str(decided.pool),
        predicted=question.classified.predicted,
        actual=actual,
        cost_class=decided.cost_class,
        answer_version=fingerprint(plan.fingerprint, sources.as_of),
    )


def exactness_of(plan: Plan, sources: Sources) -> Exactness:
    """PARTIAL where rows may be gone, SNAPPED where edges were moved, else by the measures."""
    if sources.sealed:
        return Exactness.PARTIAL
    return Exactness.SNAPPED if plan.snapped and snapped_range(plan) is not None else exactness(plan)


def snapped_range(plan: Plan) -> Interval | None:
    """The range that was read, where it is not the one that was asked for."""
    bounds = plan.main.bounds
    return Interval(bounds.start, bounds.end) if plan.snapped and bounds is not None else None


def parts_of(question: Question, sources: Sources, rows: int = 0) -> tuple[AnswerPart, ...]:
    """The pieces that were read; their share is that of the time that they cover, where it has ends."""
    if not sources.used:
        bounds = question.plan.main.bounds
        interval = Interval(bounds.start, bounds.end) if bounds is not None else None
        live = AnswerPart(
            PartSource.LIVE, _server(sources), sources.as_of, interval, "", rows, 1.0, sources.lag
        )
        return (live,)
    return tuple([part for cover in sources.covers for part in _parts(cover, sources)])


def steps_of(sources: Sources, seconds: float = 0.0) -> tuple[LadderStep, ...]:
    """The rungs that were looked at: rollups that answered or were passed over, and the live one where it was read."""
    if not sources.covers:
        return (LadderStep(Rung.LIVE, Verdict.ANSWERED, _server(sources), duration=seconds),)
    steps = [LadderStep(Rung.ROLLUP, Verdict.ANSWERED, name, duration=seconds) for name in sources.used]
    steps += passed_over(sources.covers, MOST_REJECTED)
    if not sources.used or sources.live:
        steps.append(LadderStep(Rung.LIVE, Verdict.ANSWERED, _server(sources), duration=seconds))
    return tuple(steps)


def passed_over(covers: Sequence[Cover], most: int | None = None) -> list[LadderStep]:
    """One step for each rollup that was passed over, nearest misses first; so many of them, or all."""
    return [
        LadderStep(
            Rung.ROLLUP,
            Verdict.NOT_APPLICABLE,
            each.rollup,
            tuple(rule.value for rule in each.rules),
            detail=each.detail,
        )
        for each in nearest([cover.rejected for cover in covers], most)
    ]


def _parts(cover: Cover, sources: Sources) -> list[AnswerPart]:
    first, last = _ends(cover.pieces)
    parts, total = list[AnswerPart](), 0
    for piece in cover.pieces:
        for lo, hi in piece.spans:
            total += max(0, min(hi, last) - max(lo, first))
    for piece in cover.pieces:
        found = PartSource.ROLLUP if piece.rollup else PartSource.LIVE
        name = piece.rollup or _server(sources)
        for lo, hi in piece.spans if len(piece.spans) <= MOST_PARTS else _joined(piece.spans):
            share = max(0, min(hi, last) - max(lo, first)) / total if total else 0.0
            interval = Interval(instant(lo), instant(hi))
            parts.append(AnswerPart(found, name, sources.as_of, interval, "", 0, share, sources.lag))
    return parts


def _finite(pieces: Sequence[Piece], *, live: bool = False) -> list[Span]:
    """The spans of all pieces, or of the live ones, without what has no end."""
    ends = _ends(pieces)
    return [_clipped(span, ends) for piece in pieces if not (live and piece.rollup) for span in piece.spans]


def _ends(pieces: Sequence[Piece]) -> Span:
    """The first and the last instant that any piece names."""
    named = [at for piece in pieces for span in piece.spans for at in span if at not in ALWAYS]
    return Span(min(named), max(named)) if named else Span(0, 0)


def _clipped(span: Span, ends: Span) -> Span:
    return Span(max(span.lo, ends.lo), min(span.hi, ends.hi))


def _length(spans: Sequence[Span]) -> int:
    return sum(max(0, span.hi - span.lo) for span in spans)


def _joined(spans: tuple[Span, ...]) -> tuple[Span, ...]:
    return (Span(spans[0].lo, spans[-1].hi),)


def _server(sources: Sources) -> str:
    return "primary" if sources.lag is None else "replica"


def _guarantee(lateness: float | None) -> Guarantee:
    if lateness is None:
        return Guarantee.SNAPSHOT
    return Guarantee.LATENESS_BOUND if lateness < float("inf") else Guarantee.NONE
