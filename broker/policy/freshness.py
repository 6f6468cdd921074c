"""How fresh an answer is that is held, and what may therefore be said when it is given out.

Two ways lead to fresh. Where changes of the source are tracked, an answer that nothing has changed since equals a live
one at the last look, however old it is. Everywhere else age decides: up to the soft age it is fresh enough by
definition. Past it, up to the hard age, it is a rung of the ladder for when nothing better can be had.

Early refresh is XFetch (Vattani, Chierichetti, Lowenstein: Optimal probabilistic cache stampede prevention, 2015): the
nearer the end of the soft age, and the longer the answer takes to read, the likelier it is read again before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from broker.domain.answer import (
    AnswerKind,
    AnswerPart,
    AnswerStatus,
    DegradationReason,
    Guarantee,
    LadderStep,
    PartSource,
    Rung,
    Verdict,
)
from broker.domain.held import Held
from broker.domain.terms import AnswerPolicy

_EARLY = 1.0
"""How eager early refresh is; the beta of XFetch."""
_LEAST = 1e-12
"""The smallest random number that counts."""
_FOREVER = float("inf")
_READ = frozenset({PartSource.LIVE.value, PartSource.ROLLUP.value})


class Standing(StrEnum):
    """What an answer that is held may be used for, best first."""

    FRESH = "fresh"
    """Instead of a live answer."""
    SOFT = "soft"
    """Instead of a live answer, while a newer one is read behind it."""
    STALE = "stale"
    """Only where nothing better can be had."""
    EXPIRED = "expired"
    """Not at all."""


@dataclass(frozen=True, slots=True)
class Ages:
    """Limits of a dataset, in seconds.

    Up to ``soft`` an answer is fresh enough, up to ``hard`` it may be given out where nothing better can be had.
    ``max_staleness`` is what the dataset allows callers who set none themselves.
    """

    soft: float = 0.0
    hard: float = 86_400.0
    max_staleness: float | None = None

    def within(self, policy: AnswerPolicy) -> tuple[float, float]:
        """Soft and hard age under the caller's terms."""
        most = policy.max_staleness if policy.max_staleness is not None else self.max_staleness
        cap = _FOREVER if most is None else max(0.0, most)
        return min(self.soft, self.hard, cap), min(self.hard, cap)


@dataclass(frozen=True, slots=True)
class Looked:
    """What is known of changes since an answer was read.

    ``unchanged`` is the age in seconds of the look by which nothing had changed; None when something had, or when it
    is not known. ``tracked`` says whether changes would have been seen at all.
    """

    tracked: bool = False
    unchanged: float | None = None


@dataclass(frozen=True, slots=True)
class Freshness:
    """How fresh a held answer is to a caller, and what its status says. Durations are in seconds.

    ``refresh`` asks for a newer one to be read behind it. For ``lasts`` the verdict stands as it is, whatever is drawn,
    unless the source is looked at anew: only the age in it grows, and the bound with it where it is ``growing``.
    """

    standing: Standing
    kind: AnswerKind
    guarantee: Guarantee
    bound: float | None
    as_of: datetime
    staleness: float
    degraded: bool = False
    level: int = 0
    reasons: tuple[DegradationReason, ...] = ()
    refresh: bool = False
    lasts: float = 0.0
    growing: bool = False

    @property
    def rung(self) -> Rung:
        """The rung of the ladder that it stands on."""
        return Rung.CACHE_FRESH if self.kind is AnswerKind.CACHE_FRESH else Rung.CACHE_STALE

    @property
    def usable(self) -> bool:
        """Whether it may be given out instead of a live answer."""
        return self.standing in (Standing.FRESH, Standing.SOFT)


def freshness(
    held: Held, looked: Looked, ages: Ages, policy: AnswerPolicy, now: datetime, draw: float
) -> Freshness:
    """How fresh a held answer is at ``now``; ``draw`` is random, from 0 to 1.

    Never FRESH, SOFT or STALE when the answer is older than the caller, or else the dataset, allows.
    """
    soft, hard = ages.within(policy)
    lag = lag_of(held.status)
    age = max(0.0, (now - held.as_of).total_seconds()) + lag
    seen = looked.unchanged if looked.tracked and not lag else None
    if hard <= 0.0 or age > ages.hard:
        return _aged(Standing.EXPIRED, held, age, None)
    if seen is not None and seen <= hard:
        as_of = max(min(held.as_of, now), now - timedelta(seconds=seen))
        guarantee, bound = _promise(held, seen, tracked=True)
        staleness = min(seen, (now - as_of).total_seconds())  # instants are rounded, and the promise is not
        return Freshness(
            Standing.FRESH,
            AnswerKind.CACHE_FRESH,
            guarantee,
            bound,
            as_of,
            staleness,
            lasts=min(hard - seen, ages.hard - age),
            growing=guarantee is Guarantee.BOUNDED_STALENESS,
        )
    if age <= soft:
        if looked.tracked and seen is None:
            return _aged(Standing.SOFT, held, age, soft)
        early = early_refresh(age, soft, held.seconds, draw)
        guarantee, bound = _promise(held, soft)
        return Freshness(
            Standing.FRESH,
            AnswerKind.CACHE_FRESH,
            guarantee,
            bound,
            held.as_of,
            age,
            refresh=early,
            lasts=max(0.0, soft - age + _EARLY * held.seconds * math.log(_LEAST)),
        )
    return _aged(Standing.STALE, held, age, hard) if age <= hard else _aged(Standing.EXPIRED, held, age, None)


def early_refresh(age: float, soft: float, seconds: float, draw: float) -> bool:
    """Whether an answer of this age, which takes so many seconds to read, is read again before its soft age ends."""
    chance = min(1.0, max(draw, _LEAST))
    return age - _EARLY * seconds * math.log(chance) >= soft


def given(held: Held, fresh: Freshness) -> AnswerStatus:
    """The status of a held answer that is given out; the caller adds what led here, and the request."""
    return replace(
        held.status,
        kind=fresh.kind,
        as_of=fresh.as_of,
        staleness=fresh.staleness,
        guarantee=fresh.guarantee,
        guarantee_bound=fresh.bound,
        degraded=fresh.degraded,
        degradation_level=fresh.level,
        reasons=fresh.reasons,
        ladder=(LadderStep(fresh.rung, Verdict.ANSWERED),),
    )


def kept(status: AnswerStatus) -> AnswerStatus:
    """The status of an answer as it is held: without what belonged to the one call that it was read for.

    Its parts are of the cache from now on. They keep the instant that they were read at; their names tell where.
    """
    return replace(
        status,
        staleness=0.0,
        parts=tuple(_held_part(part, status.answer_version) for part in status.parts),
        ladder=(),
        limiting_factor="",
        queue_duration=0.0,
        pool="",
        predicted=None,
        actual=None,
        refresh_expected=None,
        retry_after=None,
        job="",
        request_id="",
    )


def as_read(status: AnswerStatus) -> AnswerStatus | None:
    """The parts of a held answer as they were read; None where it was made from another held one."""
    parts = []
    for part in status.parts:
        source, _, name = part.source_name.partition(":")
        if source not in _READ:
            return None
        parts.append(replace(part, source=PartSource(source), source_name=name, source_version=""))
    return replace(status, parts=tuple(parts))


def lag_of(status: AnswerStatus) -> float:
    """Seconds by which the replica that an answer was read from was behind."""
    return max((part.replica_lag or 0.0 for part in status.parts), default=0.0)


def _held_part(part: AnswerPart, version: str) -> AnswerPart:
    if part.source is PartSource.CACHE:
        return part
    name = f"{part.source.value}:{part.source_name}"
    return replace(part, source=PartSource.CACHE, source_name=name, source_version=version)


def _aged(standing: Standing, held: Held, age: float, bound: float | None) -> Freshness:
    """An answer that a live one may differ from."""
    stale = standing is not Standing.SOFT
    guarantee, bound = (Guarantee.NONE, None) if bound is None else _promise(held, bound)
    return Freshness(
        standing,
        AnswerKind.CACHE_STALE,
        guarantee,
        bound,
        held.as_of,
        age,
        degraded=stale,
        level=2 if stale else 1,
        reasons=() if stale else (DegradationReason.REVALIDATING,),
        refresh=standing in (Standing.SOFT, Standing.STALE),
    )


def _promise(held: Held, bound: float, *, tracked: bool = False) -> tuple[Guarantee, float | None]:
    """No older than the bound, unless less was promised when it was read: rows that came late may be missing."""
    first = held.status.guarantee
    if first in (Guarantee.SNAPSHOT, Guarantee.BOUNDED_STALENESS):
        return Guarantee.BOUNDED_STALENESS, bound
    if first is Guarantee.LATENESS_BOUND and tracked:
        return first, held.status.guarantee_bound
    return Guarantee.NONE, None
