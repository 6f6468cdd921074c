"""Which of the rollups that pass the rules are looked at closely: those of which something may be used, of many the few
that seem cheapest. There may be hundreds of them, so that little is done for each.
"""  # noqa: D205 - one sentence

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import isinf

from broker.domain.query import Grain
from broker.domain.rollup import Coverage, Rollup, Rule, Span
from broker.policy.rollups.costs import Costs
from broker.policy.rollups.stored import Memory, Places
from broker.policy.rollups.ways import Ways

MAX_COMBINED = 6
"""Rollups that may take part, of those that hold something: the ones that beside the tables alone cost least."""
Usable = list[tuple[Rollup, Coverage]]
Passed = dict[str, tuple[Rule, str]]
"""Why rollups are passed over, and what there is to say about it."""
_Share = tuple[Grain | None, int, int, float, float]
"""The grain that is read, from which segment to which, how much of them, and the seconds of the tables for the rest."""


def usable(
    candidates: Sequence[Rollup],
    coverage: Mapping[str, Coverage],
    lateness_allowed: float | None,
    passed: Passed,
) -> Usable:
    """The candidates that may take part by what is known of the whole rollup."""
    found: Usable = []
    for rollup in candidates:
        known = coverage.get(rollup.name)
        if known is None:
            passed[rollup.name] = Rule.COVER, ""
        elif known.unusable is not None:
            passed[rollup.name] = known.unusable, known.message
        elif not known.segments:
            passed[rollup.name] = Rule.COVER, ""
        elif known.lateness is None or lateness_allowed is None or known.lateness <= lateness_allowed:
            found.append((rollup, known))
        else:
            passed[rollup.name] = Rule.NOTRIG if isinf(known.lateness) else Rule.STALE, ""
    return found


def shortlist(
    usable: Usable,
    span: Span,
    ways: Ways,
    memory: Memory,
    costs: Costs,
    row: Callable[[Rollup], float],
    live: Callable[[int], float],
) -> list[Rollup]:
    """The few that cost least with the tables for the rest: ``live`` gives the seconds for what a rollup holds not.

    ``row`` gives the seconds for a stored row.
    """
    if len(usable) <= MAX_COMBINED:
        return [rollup for rollup, _ in usable]
    shares: dict[tuple[Places, tuple[Grain, ...], str], _Share] = {}
    found: list[tuple[float, str, Rollup]] = []
    for rollup, coverage in usable:
        stored = memory.of(coverage)
        key = stored.places, rollup.grains, rollup.zone
        share = shares.get(key)
        if share is None:
            first, last, part, covered = stored.places.share(span)
            coarser = ways.usable(rollup, span)
            share = shares[key] = coarser[0][0] if coarser else None, first, last, part, live(covered)
        grain, first, last, part, rest = share
        rows = stored.between(grain, first, last) * part
        found.append((costs.fixed(rollup) + rows * row(rollup) + rest, rollup.name, rollup))
    found.sort()
    return [rollup for _, _, rollup in found[:MAX_COMBINED]]
