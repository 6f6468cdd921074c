"""How many seats a backend has for a whole fleet: the evidence of all members in one number.

One member alone is its own judge: the fleet has the seats that its limit policy wishes for. Several see only a part of
the work each, and a member that runs little cannot tell whether the backend is slow because of it; so the limit of a
fleet follows what runs everywhere and how fast it goes, pooled, by the rule of the single controller: contended, it
moves a fifth of the way down to what ran at full speed; used up and fast, it grows. Only the member that holds the
probe token lets it grow, after it has tried a few seats more for a while; N members that each try their own 2 % would
overshoot by all of it at once. A fixed limit is one whose bounds are equal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from broker.domain.fleet import Report

SLOW, FAST = 0.85, 0.93
"""Speeds, relative to an idle backend, below which the limit falls and above which it may grow."""
STEP_DOWN = 0.2
SLACK = 1.05
GROWTH = 0.02
USED = 0.9
"""Part of the seats in use above which they count as used up."""


def bounds(reports: Sequence[Report]) -> tuple[int, int]:
    """Lowest and highest limit. Where configurations differ, while they are rolled out say, the smaller high holds."""
    high = min(report.high for report in reports)
    return min(high, max(report.low for report in reports)), high


def pooled(reports: Sequence[Report]) -> tuple[int, float]:
    """The seats that run everywhere, and their mean speed; 1 when nothing runs."""
    running = sum(report.running for report in reports)
    if not running:
        return 0, 1.0
    return running, sum(report.running * report.progress for report in reports) / running


def propose(limit: float, reports: Sequence[Report], *, probing: bool) -> float:
    """The limit that follows from the reports. ``probing`` when the proposer has tried more and may let it grow."""
    low, high = bounds(reports)
    if len(reports) == 1:
        return float(min(high, max(low, reports[0].wished)))
    running, progress = pooled(reports)
    if running and progress < SLOW:
        target = SLACK * running * progress
        limit = min(limit, limit + STEP_DOWN * (target - limit))
    elif probing and _used_up(limit, running) and progress > FAST:
        limit += GROWTH * limit + 0.1
    return min(float(high), max(float(low), limit))


def wants_probe(limit: float, reports: Sequence[Report], own: Report, seats: int) -> bool:
    """Whether a member with so many seats has reason to try more: all are used, all run fast, and more are allowed."""
    running, progress = pooled(reports)
    return (
        len(reports) > 1
        and limit < bounds(reports)[1]
        and _used_up(limit, running)
        and progress > FAST
        and own.running >= USED * seats
    )


def extra(limit: float) -> int:
    """Seats that the holder of the probe token tries beyond its lease."""
    return max(1, math.ceil(GROWTH * limit))


def _used_up(limit: float, running: int) -> bool:
    return running >= USED * math.floor(limit)
