"""Dashboards that are asked again and again: what was judged once is given again for as long as the verdict stands.

Judging an answer takes several times longer than finding it, and comes to the same until its age nears a limit or its
source is looked at again. So the verdict is kept with the time for which it stands, and a repetition only makes sure of
what may have changed without notice: that the source was not looked at, that the same answers are held, and that the
caller may have as many. Each is the use of an answer, and counts as a lookup of it, like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from broker.domain.held import Held
from broker.domain.pool import PoolName
from broker.pipeline.cached import Asked, Cached
from broker.pipeline.service import Metered
from broker.policy.freshness import Freshness

_SAME_LOOK = 1e-3
"""Seconds by which the instant of one look may seem to differ, because two clocks are read one after the other."""


class Repeat:
    """The held answers to the panels of a dashboard, and how fresh they were at the monotonic instant ``judged``.

    That is taken before they are judged: told ages count from it, and a pause in between may make them longer only.
    """

    __slots__ = ("_asked", "_cached", "_looks", "_meter", "_until", "found", "judged")

    def __init__(
        self,
        asked: Sequence[Asked],
        found: Sequence[tuple[Held, Freshness]],
        judged: float,
        cached: Cached,
        meter: Metered,
    ) -> None:
        self._asked, self._cached, self._meter = asked, cached, meter
        self.found = found
        self.judged = judged
        self._until = self.judged + min(fresh.lasts for _, fresh in found)
        looks = (
            cached.changes.unchanged(held.reach, held.moment) if held.moment else None for held, _ in found
        )
        self._looks = [None if seen is None else cached.clock.monotonic() - seen for seen in looks]

    def stands(self, now: float) -> bool:
        """Whether the same may be said of the same answers now."""
        if now >= self._until:
            return False
        for (held, _), at in zip(self.found, self._looks, strict=True):
            if held.moment:
                seen = self._cached.changes.unchanged(held.reach, held.moment)
                if seen is None or at is None or abs(now - seen - at) > _SAME_LOOK:
                    return False
        near = self._cached.answers.near
        return all(near(held.key) is held for held, _ in self.found)

    def allowed(self) -> bool:
        """Counts a call against what the caller may have; whether it may have this one."""
        return self._meter(PoolName.DASHBOARD, self._asked[0].plan.main.principal) is None


@dataclass(frozen=True, slots=True)
class Repeating:
    """Finds the answers that panels were given before, by the application's tokens for them."""

    cached: Cached
    meter: Metered

    def __call__(self, tokens: Sequence[object]) -> Repeat | None:
        """The answers, if all are still held and fresh; they are not counted against the caller yet."""
        asked = [token for token in tokens if isinstance(token, Asked)]
        if not asked or len(asked) != len(tokens):
            return None
        judged = self.cached.clock.monotonic()
        found = self.cached.again(asked)
        return None if found is None else Repeat(asked, found, judged, self.cached, self.meter)
