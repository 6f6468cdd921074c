"""What a pilot decides: how many blocks to draw, which groups can be told, or that there is no honest estimate.

The pilot is a small sample of its own. Everything that could make an interval miss more often is decided by it and not
by the sample that is reported: to leave groups or answers out because their own sample looks thin or skewed would keep
the samples that happened to look well, whose intervals are too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from broker.domain.sample import BlockSums, Extent, Figure, GroupSums, Interval, NoEstimate
from broker.policy.estimate_interval import Spread, interval, spread

DEFAULT_LIMIT = 0.25
"""Relative half-width beyond which an estimate is of no use, unless the caller says what is."""
AIM = 0.05
"""Relative half-width that is aimed at where the caller asks for nothing finer and the blocks cost little."""
PILOT = 200
"""Blocks that a pilot draws."""
LEAST = 200
"""Blocks that a sample draws at least."""
MOST = 0.5
"""Fraction of the blocks that a sample draws at most."""
WORTH = 0.5
"""Part of the cost, or of the time, of the exact answer that a sample may take at most."""
SUPPORT = 25
"""Drawn blocks that are to say something about every figure of a group."""
_MARGIN = 0.8
"""What a pilot promises is to be within the limit by so much, since it is a guess itself."""
_STEP = 1.3
_AIMED, _TOLD = 0.9, 0.5
"""Shares of what was seen: so much is to be as narrow as aimed at, and so much to be told at all."""

Key = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Design:
    """The sample to draw: the ``rate``, and the groups that can be told, each with which figures need wider limits."""

    rate: float
    careful: Mapping[Key, tuple[bool, ...]]


@dataclass(frozen=True, slots=True)
class Told:
    """The groups that can be told, each figure with its limits, and how many groups were left out."""

    groups: Mapping[Key, tuple[Interval, ...]]
    suppressed: int


@dataclass(frozen=True, slots=True)
class Pace:
    """What a sample may take: ``seconds`` are left for it, ``live`` is what the exact answer took lately, if known.

    The pilot took ``pilot`` seconds, and had the planner's ``cost``, which is compared where nothing better is known.
    """

    cost: float
    pilot: float
    seconds: float
    live: float | None = None


@dataclass(frozen=True, slots=True)
class _Group:
    key: Key
    weight: float
    spreads: Sequence[Spread]

    def careful(self, drawn: float, fraction: float) -> tuple[bool, ...]:
        return tuple(not each.normal(drawn, fraction) for each in self.spreads)

    def width(self, drawn: float, fraction: float) -> float:
        """The widest relative half-width to be expected; infinite where the blocks would be too few."""
        if any(each.support * drawn < SUPPORT for each in self.spreads):
            return math.inf
        careful = self.careful(drawn, fraction)
        if any(each.below * 3 > drawn**0.5 for each in self.spreads):
            return math.inf  # a denominator that may be anything
        pairs = zip(self.spreads, careful, strict=True)
        return max(each.relative(drawn, fraction, careful=wide) for each, wide in pairs)


def pilot_rate(extent: Extent) -> float | NoEstimate:
    """The rate of the pilot, or that reading everything costs no more."""
    if extent.blocks * MOST < PILOT:
        return NoEstimate.EXACT_CHEAPER
    return PILOT / extent.blocks


def worth_it(extent: Extent, cost: float) -> bool:
    """Whether a sample of this cost leaves a gain over the exact answer."""
    return extent.kept is not None or cost < WORTH * extent.cost


def design(
    figures: Sequence[Figure], pilot: BlockSums, extent: Extent, limit: float, pace: Pace
) -> Design | NoEstimate:
    """The sample to draw after a pilot, or why there is none that would do.

    ``limit`` is the relative half-width up to which an estimate is of use.
    """
    if pilot.drawn < 2:
        return NoEstimate.TOO_THIN
    most, hindrance = _most(pilot, extent, pace)
    if most < LEAST:
        return hindrance
    seen = [_group(figures, each, pilot.drawn) for each in pilot.groups]
    groups = [each for each in seen if each is not None]
    total = sum(float(each.blocks) for each in pilot.groups)
    if not groups or not total:
        return NoEstimate.TOO_THIN
    aim, within = min(AIM, limit * _MARGIN), limit * _MARGIN
    drawn = float(LEAST)
    while drawn < most and _share(groups, drawn, extent, aim) < _AIMED * total:
        drawn = min(most, drawn * _STEP)
    if _share(groups, drawn, extent, within) < _TOLD * total:
        thin = _share(groups, drawn, extent, math.inf) < _TOLD * total
        return NoEstimate.TOO_THIN if thin else hindrance if _cut(most, extent) else NoEstimate.TOO_WIDE
    fraction = drawn / extent.blocks
    told = [each for each in groups if each.width(drawn, fraction) <= within]
    return Design(fraction, {each.key: each.careful(drawn, fraction) for each in told})


def told(figures: Sequence[Figure], sample: BlockSums, drawing: Design, limit: float) -> Told:
    """What the sample says of the groups that the pilot chose."""
    found: dict[Key, tuple[Interval, ...]] = {}
    for group in sample.groups:
        careful = drawing.careful.get(group.key)
        if careful is None:
            continue
        limits = [
            interval(figure, sums, sample.drawn, sample.blocks, careful=wide)
            for figure, sums, wide in zip(figures, group.sums, careful, strict=True)
        ]
        known = [each for each in limits if each is not None and each.relative <= limit]
        if len(known) == len(figures):
            found[group.key] = tuple(known)
    seen = {group.key for group in sample.groups} | set(drawing.careful)
    return Told(found, len(seen) - len(found))


def _most(pilot: BlockSums, extent: Extent, pace: Pace) -> tuple[float, NoEstimate]:
    """How many blocks may be drawn, and what bounds them."""
    each = pace.pilot / pilot.drawn
    bounds = [(pace.seconds / each if each else math.inf, NoEstimate.TIME)]
    if extent.kept is not None:
        bounds.append((float(extent.kept), NoEstimate.TOO_WIDE))
    else:
        bounds.append((MOST * extent.blocks, NoEstimate.EXACT_CHEAPER))
        if pace.live is not None and each:
            bounds.append((WORTH * pace.live / each, NoEstimate.EXACT_CHEAPER))
        elif pace.cost:
            bounds.append((PILOT * WORTH * extent.cost / pace.cost, NoEstimate.EXACT_CHEAPER))
    return min(bounds, key=lambda bound: bound[0])


def _cut(most: float, extent: Extent) -> bool:
    """Whether something else than the table's size bounds the sample."""
    return most < MOST * extent.blocks


def _share(groups: Iterable[_Group], drawn: float, extent: Extent, width: float) -> float:
    """How much of what was seen is in groups that become as narrow as this."""
    fraction = drawn / extent.blocks
    wide = width if width != math.inf else 1e300
    return sum(each.weight for each in groups if each.width(drawn, fraction) <= wide)


def _group(figures: Sequence[Figure], group: GroupSums, drawn: int) -> _Group | None:
    """What the pilot says of a group; None where it says nothing of one of the figures."""
    pairs = zip(figures, group.sums, strict=True)
    found = [spread(figure, sums, drawn) for figure, sums in pairs]
    known = [each for each in found if each is not None]
    return _Group(group.key, float(group.blocks), known) if len(known) == len(figures) else None
