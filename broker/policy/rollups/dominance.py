"""Leaves out rollups that another one makes superfluous: to replace one by the other never makes a cover dearer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import ge, le

from broker.domain.query import Grain
from broker.policy.rollups.intervals import Held


@dataclass(frozen=True, slots=True)
class Weight:
    """What a rollup costs beside the rows that it stores: by row and fixed, and how late it may be.

    ``shape`` has the grains that are read, base first, and the zone.
    """

    shape: tuple[tuple[Grain, ...], str]
    row: float
    fixed: float
    late: float


@dataclass(frozen=True, slots=True)
class Entry:
    """A rollup with what it costs to begin with it, and every interval; and at which cuts it may begin."""

    enter: int
    stored: list[int]
    opens: list[bool]
    held: Held


def undominated(entries: list[Entry]) -> list[Entry]:
    """Those that no other one beats or equals everywhere, in the order of names."""
    entries.sort(key=lambda entry: (sum(entry.stored), entry.enter, entry.held.rollup.name))
    kept: list[Entry] = []
    for entry in entries:
        if not any(
            each.enter <= entry.enter
            and all(map(le, each.stored, entry.stored))
            and all(map(ge, each.opens, entry.opens))
            for each in kept
        ):
            kept.append(entry)
    return sorted(kept, key=lambda entry: entry.held.rollup.name)


def not_outdone(own: Sequence[Held], weight: Callable[[Held], Weight]) -> list[Held]:
    """Those beside which no other one holds the same runs of the same segments with no more rows in any of them.

    A cheap first look, by segments; :func:`undominated` takes a second one, by intervals.
    """
    weighed = sorted(((weight(each), each) for each in own), key=_order)
    kept: list[tuple[Weight, Held]] = []
    for mine, held in weighed:
        if not any(_outdoes(other, rival, mine, held) for other, rival in kept):
            kept.append((mine, held))
    return [held for _, held in kept]


def _order(weighed: tuple[Weight, Held]) -> tuple[float, float, float, int, str]:
    weight, held = weighed
    first, last = held.runs[0][1], held.runs[-1][1] + 1
    sums = held.stored.sums(None)
    rows = sums[last] - sums[first]
    return weight.late, weight.fixed, weight.row, rows, held.rollup.name


def _outdoes(other: Weight, rival: Held, mine: Weight, held: Held) -> bool:
    if other.shape != mine.shape or rival.stored.places is not held.stored.places or rival.runs != held.runs:
        return False
    if other.late > mine.late or other.fixed > mine.fixed or other.row > mine.row:
        return False
    first, last = held.runs[0][1], held.runs[-1][1] + 1
    return all(
        all(map(le, rival.stored.counts(grain)[first:last], held.stored.counts(grain)[first:last]))
        for grain in (None, *mine.shape[0][1:])
    )
