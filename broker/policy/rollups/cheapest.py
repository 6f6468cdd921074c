"""The cheapest sequence of sources over intervals, by dynamic programming.

What is minimised, over all assignments of one source to each interval, in order:

- every interval costs what its source asks for it;
- whenever the source changes to the tables, and at the first interval, ``live_first`` if nothing was read live before,
  else ``live_again``;
- whenever the source changes to a rollup, and at the first interval, ``again`` if that was also the last rollup before
  (only live intervals lie between), else ``enter`` of that rollup.

A rollup gives whole buckets only, so the source may change to it or from it only at cuts where one of its buckets
begins. At most ``max_live`` spans are read live. Costs are integers, so that sums are exact whatever their order; ties
are part of them (see :mod:`broker.policy.rollups.intervals`). An interval that a source cannot give costs ``NEVER``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

NEVER = 1 << 200
LIVE = -1
"""The source that stands for the tables."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Costs of intervals by source: ``stored[r][i]`` for rollups, ``live[i]``; and what it costs to change.

    ``opens[r][i]`` says whether a bucket of the rollup begins at the cut before interval ``i``, or at the end of all.
    """

    stored: Sequence[Sequence[int]]
    live: Sequence[int]
    opens: Sequence[Sequence[bool]]
    enter: Sequence[int]
    again: int
    live_first: int
    live_again: int


def cheapest(problem: Problem, max_live: int | None) -> tuple[int, list[int]] | None:
    """The least cost and the source of every interval; None when no assignment is possible.

    The limit is only looked at when the cheapest assignment without it breaks it.
    """
    found = _unlimited(problem)
    if found is None or max_live is None or live_spans(found[1]) <= max_live:
        return found
    if len(problem.stored) == 1 and max_live:
        spans = _spans(found[1])
        if all(any(problem.stored[0][i] >= NEVER for i in range(a, b)) for a, b in spans):
            return _filled(problem, found, spans, max_live)
    return _limited(problem, max_live)


def _unlimited(problem: Problem) -> tuple[int, list[int]] | None:
    """However many spans are read live, only the first of them costs more: it is added to the cheapest assignment in
    which it does not, unless to read nothing live is cheaper still.
    """  # noqa: D205 - one sentence
    found = _free(problem)
    if found is None or LIVE not in found[1]:
        return found
    found = found[0] + problem.live_first - problem.live_again, found[1]
    if all(min(costs) < NEVER for costs in zip(*problem.stored, strict=True)):
        alone = _limited(problem, 0)
        if alone is not None and alone[0] <= found[0]:
            return alone
    return found


def _free(problem: Problem) -> tuple[int, list[int]] | None:
    """For any number of live spans, none of which costs more for being the first one.

    The states are those of :class:`_Step` at one level. They are written out here, since nearly every choice is made by
    this loop alone.
    """
    k, again, change, enter = len(problem.stored), problem.again, problem.live_again, problem.enter
    half = k + 1
    cost, none = [NEVER] * k + [0] + [NEVER] * half, [NEVER] * (2 * half)
    parents: list[list[int]] = []
    for i, live in enumerate(problem.live):
        left = _left(problem, cost, i)
        best = min(left)
        first = left.index(best)
        following, parent = none[:], none[:]
        for r, (stored, opens) in enumerate(zip(problem.stored, problem.opens, strict=True)):
            if (own := stored[i]) >= NEVER:
                continue
            value, source = cost[r], r
            if opens[i]:
                back, begun = left[half + r] + again, best + enter[r]
                if back < value:
                    value, source = back, half + r
                if begun < value:
                    value, source = begun, first
            following[r], parent[r] = value + own, source
        if live < NEVER:
            for r in range(half):
                on, changed = cost[half + r], left[r] + change
                parent[half + r] = r if changed < on else half + r
                following[half + r] = min(on, changed) + live
        cost = following
        parents.append(parent)
    cost = _left(problem, cost, len(problem.live))
    total = min(cost)
    if total >= NEVER:
        return None
    return total, _traced(cost.index(total), parents, 2 * half)


def live_spans(sources: Sequence[int]) -> int:
    """How many spans are read live."""
    return len(_spans(sources))


def _spans(sources: Sequence[int]) -> list[tuple[int, int]]:
    """The spans that are read live: the first interval, and the one after the last."""
    edges = [i for i, (a, b) in enumerate(pairwise([0, *sources, 0])) if (a == LIVE) is not (b == LIVE)]
    return list(zip(edges[::2], edges[1::2], strict=True))


def _filled(
    problem: Problem, found: tuple[int, list[int]], spans: list[tuple[int, int]], max_live: int
) -> tuple[int, list[int]] | None:
    """The best of one rollup whose live spans all hold something that it lacks: then spans are only saved by reading
    live what lies between two of them as well, which costs the same whatever is done elsewhere; or everything.
    """  # noqa: D205 - one sentence
    total, sources = found
    (own,), saved = problem.stored, problem.again + problem.live_again
    prices = sorted(
        (sum(problem.live[i] - own[i] for i in range(a, b)) - saved, a, b)
        for (_, a), (b, _) in pairwise(spans)
    )
    for price, a, b in prices[: len(spans) - max_live]:
        total += price
        sources[a:b] = [LIVE] * (b - a)
    alone = sum(problem.live) + problem.live_first
    if alone <= total:  # what is left of the rollup is not worth to begin with it
        total, sources = alone, [LIVE] * len(sources)
    return (total, sources) if total < NEVER else None


def _limited(problem: Problem, levels: int) -> tuple[int, list[int]] | None:
    """For at most so many live spans."""
    k = len(problem.stored)
    width = 2 * (k + 1)
    cost = [NEVER] * (width * (levels + 1))
    cost[k] = 0
    parents: list[list[int]] = []
    for i, live in enumerate(problem.live):
        here = [(r, own[i]) for r, own in enumerate(problem.stored) if own[i] < NEVER]
        step = _Step(problem, cost, _left(problem, cost, i), width, i)
        for level in range(levels + 1):
            step.read_stored(level, here)
            if live < NEVER and level:
                step.read_live(level, live, problem.live_first if level == 1 else problem.live_again)
        cost = step.following
        parents.append(step.parent)
    cost = _left(problem, cost, len(problem.live))
    total = min(cost)
    if total >= NEVER:
        return None
    return total, _traced(cost.index(total), parents, width)


def _left(problem: Problem, cost: list[int], cut: int) -> list[int]:
    """The costs of the states that may be left at a cut: a rollup is not left inside one of its buckets."""
    shut = [r for r, opens in enumerate(problem.opens) if not opens[cut]]
    if not shut:
        return cost
    left, width = cost[:], 2 * (len(problem.stored) + 1)
    for low in range(0, len(cost), width):
        for r in shut:
            left[low + r] = NEVER
    return left


class _Step:
    """One interval: from the costs of all states, and of those that may be ``left``, to those after it.

    A state is a level, the last rollup (place ``k`` stands for none), and what is being read: that rollup, at
    ``level * width + rollup``, or the tables, ``k + 1`` places further.
    """

    __slots__ = ("_again", "_cost", "_cut", "_enter", "_left", "_opens", "_width", "following", "parent")

    def __init__(self, problem: Problem, cost: list[int], left: list[int], width: int, cut: int) -> None:
        self._again, self._enter, self._opens = problem.again, problem.enter, problem.opens
        self._cost, self._left, self._width, self._cut = cost, left, width, cut
        self.following = [NEVER] * len(cost)
        self.parent = [0] * len(cost)

    def read_stored(self, level: int, here: Sequence[tuple[int, int]]) -> None:
        """Reads the interval from each rollup that holds it: goes on with it, comes back to it, or begins it."""
        low, half = level * self._width, self._width // 2
        block = self._cost[low : low + self._width]
        left = self._left[low : low + self._width]
        best = min(left)
        cheapest_from = left.index(best)
        for r, own in here:
            value, source = block[r], r
            if self._opens[r][self._cut]:
                back = left[half + r] + self._again
                if back < value:
                    value, source = back, half + r
                begun = best + self._enter[r]
                if begun < value:
                    value, source = begun, cheapest_from
            if value < NEVER:
                self.following[low + r] = value + own
                self.parent[low + r] = low + source

    def read_live(self, level: int, own: int, change: int) -> None:
        """Reads the interval live: goes on so, or changes to it from a rollup at the level before."""
        low, half, other = level * self._width, self._width // 2, (level - 1) * self._width
        for place, (on, changed) in enumerate(
            zip(
                self._cost[low + half : low + self._width], self._left[other : other + half], strict=True
            ),
            low + half,
        ):  # fmt: skip
            value, source = on, place
            if changed + change < value:
                value, source = changed + change, other + place - low - half
            if value + own < self.following[place]:
                self.following[place] = value + own
                self.parent[place] = source


def _traced(state: int, parents: Sequence[Sequence[int]], width: int) -> list[int]:
    """The sources that led to a state."""
    sources = []
    for parent in reversed(parents):
        place = state % width
        sources.append(place if place < width // 2 else LIVE)
        state = parent[state]
    return sources[::-1]
