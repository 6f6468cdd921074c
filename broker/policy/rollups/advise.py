"""Which rollups would have answered the questions of the past: a greedy cover by time saved per byte.

Candidates are the sets of dimensions that questions used and their unions, over every base grain that makes sense.
Which of them may answer a question is decided by the rules that route questions, and what an answer takes by the same
figures. Each step takes the best gain per byte beyond what was chosen before; whatever a later choice makes superfluous
is taken back. That is no optimum, but it is easy to follow, and the prediction does not depend on how it was chosen.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from broker.domain.measures import SKETCHES, UNMERGEABLE
from broker.domain.model import Dataset
from broker.domain.plan import Plan, Scan
from broker.domain.query import Grain, conditions
from broker.domain.rollup import Rollup, Storage, Tracking, micros
from broker.domain.values import DataType
from broker.policy.rollups.advised import Advice, Proposal, predicted
from broker.policy.rollups.candidates import Candidates
from broker.policy.rollups.costs import Costs
from broker.policy.rollups.sizing import WIDTHS, Size, SourceFacts, size_of

MAX_SETS = 300
"""Sets of dimensions that are looked at: those of the questions that take longest, then unions of two."""
EACH = 64 << 20
"""Bytes that every rollup counts besides its own: many small ones are more to keep up than one that does it all."""
LEAST_GAIN = 0.01
"""Of the whole live time: a rollup that saves less is not proposed."""
LARGEST_SHARE = 0.5
"""Of the source's rows: a larger rollup saves nothing."""


@dataclass(frozen=True, slots=True)
class Logged:
    """A question of the past: its plan, how often it was asked, and the seconds that it took live in all."""

    plan: Plan
    count: int
    live_seconds: float


@dataclass(frozen=True, slots=True)
class _Need:
    """What a rollup must hold to answer a question."""

    time: str
    dimensions: frozenset[str]
    measures: frozenset[str]
    zone: str
    asked: Logged


def advise(
    dataset: Dataset, logged: Sequence[Logged], facts: SourceFacts, most: int = 5, byte_limit: float = 2**31
) -> Advice:
    """At most so many rollups beside those that the dataset has, of at most so many bytes together."""
    needs = [need for each in logged if (need := _need(dataset, each)) is not None]
    candidates = _candidates(dataset, needs, facts)
    chosen = _choose(dataset, candidates, logged, facts, most, byte_limit)
    named = _named(dataset, [rollup for rollup, _ in chosen])
    sizes = {rollup.name: size for rollup, (_, size) in zip(named, chosen, strict=True)}
    together = replace(dataset, rollups={**dataset.rollups, **{rollup.name: rollup for rollup in named}})
    found = predicted(together, [(each.plan, each.count, each.live_seconds) for each in logged], facts)
    proposals = tuple(
        Proposal(
            rollup,
            sizes[rollup.name],
            found.hits.get(rollup.name, 0),
            found.saved.get(rollup.name, 0.0),
        )
        for rollup in named
    )
    total = sum(each.count for each in logged)
    return Advice(
        dataset, proposals, total, found.answered, sum(each.live_seconds for each in logged), found.left
    )


def _need(dataset: Dataset, asked: Logged) -> _Need | None:
    """What the question needs; None when no rollup can have it."""
    main = asked.plan.main
    time = main.time.name if main.time is not None else dataset.default_time
    measures = {measure for scan in asked.plan.scans for measure in scan.leaves}
    if time not in dataset.dimensions or any(measure.kind in UNMERGEABLE for measure in measures):
        return None
    dimensions = {dimension.name for dimension in main.dimensions}
    dimensions |= {condition.member for _, condition in conditions(main.filter)}
    for policy in main.policies:
        if policy.terms is None:
            return None
        dimensions |= {name for name, _ in policy.terms}
    zone = main.grid.zone if main.grid is not None and main.grid.grain.calendar else ""
    return _Need(time, frozenset(dimensions - {time}), frozenset(m.name for m in measures), zone, asked)


def _candidates(dataset: Dataset, needs: Sequence[_Need], facts: SourceFacts) -> list[tuple[Rollup, Size]]:
    weights: dict[tuple[str, frozenset[str]], float] = defaultdict(float)
    for need in needs:
        weights[need.time, need.dimensions] += need.asked.live_seconds
    sets = sorted(weights, key=lambda key: (-weights[key], key[0], sorted(key[1])))[:MAX_SETS]
    unions = ((a[0], a[1] | b[1]) for a, b in combinations(sets, 2) if a[0] == b[0])
    everything = [
        (time, frozenset[str]().union(*(names for other, names in sets if other == time)))
        for time in {time for time, _ in sets}
    ]
    found = list(dict.fromkeys([*sets, *everything, *unions]))[:MAX_SETS]
    made: list[tuple[Rollup, Size]] = []
    for time, names in found:
        served = [need for need in needs if need.time == time and need.dimensions <= names]
        for rollup in _variants(dataset, time, names, served):
            size = size_of(dataset, rollup, facts)
            if size.base_rows <= LARGEST_SHARE * facts.rows:
                made.append((replace(rollup, name=f"candidate_{len(made)}"), size))
    return made


def _variants(
    dataset: Dataset, time: str, names: frozenset[str], served: Sequence[_Need]
) -> Iterable[Rollup]:
    """The rollup over every base grain that makes sense; with sketches, which are large, and without."""
    zones = Counter[str]()
    for need in served:
        if need.zone:
            zones[need.zone] += need.asked.count
    dated = dataset.dimensions[time].type is DataType.DATE
    zone = "UTC" if dated or not zones else min(zones, key=lambda name: (-zones[name], name))
    measures = frozenset[str]().union(*(need.measures for need in served))
    plain = frozenset(name for name in measures if dataset.measures[name].kind not in SKETCHES)
    for held in dict.fromkeys(filter(None, (measures, plain))):
        yield from _grained(dataset, time, names, held, zone, dated=dated)


def _grained(
    dataset: Dataset, time: str, names: frozenset[str], measures: frozenset[str], zone: str, *, dated: bool
) -> Iterable[Rollup]:
    base = Rollup(
        "",
        dataset.name,
        time,
        tuple(name for name in dataset.dimensions if name in names),
        tuple(name for name in dataset.measures if name in measures),
        grains=(Grain.DAY, Grain.MONTH),
        zone=zone,
        storage=Storage.SEGMENTS,
        tracking=Tracking.TRIGGERS,
    )
    if not dated:
        yield replace(base, grains=(Grain.FIFTEEN_MINUTES, Grain.DAY, Grain.MONTH))
        if zone == "UTC":
            yield replace(base, grains=(Grain.HOUR, Grain.DAY, Grain.MONTH))
    yield base


def _choose(
    dataset: Dataset,
    candidates: Sequence[tuple[Rollup, Size]],
    logged: Sequence[Logged],
    facts: SourceFacts,
    most: int,
    byte_limit: float,
) -> list[tuple[Rollup, Size]]:
    gains = _gains(dataset, candidates, logged, facts)
    had = _had(dataset, logged, facts)
    least = LEAST_GAIN * sum(each.live_seconds for each in logged)
    chosen: list[tuple[Rollup, Size]] = []
    left = byte_limit
    while len(chosen) < most:
        best, best_gain, best_ratio = None, 0.0, 0.0
        for rollup, size in candidates:
            if size.byte_count > left:
                continue
            gain = sum(max(0.0, gained - had[i]) for i, gained in gains.get(rollup.name, {}).items())
            ratio = gain / (size.byte_count + EACH)
            if gain >= least and gain > 0.0 and ratio > best_ratio:
                best, best_gain, best_ratio = (rollup, size), gain, ratio
        if best is None or best_gain <= 0.0:
            break
        chosen.append(best)
        left -= best[1].byte_count
        for i, gained in gains[best[0].name].items():
            had[i] = max(had[i], gained)
    return _without_superfluous(chosen, gains, _had(dataset, logged, facts), least)


def _without_superfluous(
    chosen: list[tuple[Rollup, Size]],
    gains: Mapping[str, Mapping[int, float]],
    had: Sequence[float],
    least: float,
) -> list[tuple[Rollup, Size]]:
    """Later choices may do all that an earlier one does."""
    kept = list(chosen)
    for one in chosen:
        others = [other for other in kept if other is not one]
        lost = 0.0
        for i, gained in gains[one[0].name].items():
            without = max((gains[other[0].name].get(i, 0.0) for other in others), default=0.0)
            lost += max(0.0, gained - max(without, had[i]))
        if lost < least:
            kept = others
    return kept


def _gains(
    dataset: Dataset,
    candidates: Sequence[tuple[Rollup, Size]],
    logged: Sequence[Logged],
    facts: SourceFacts,
) -> dict[str, dict[int, float]]:
    """Seconds that each candidate saves on each question that the rules let it answer."""
    rollups = {rollup.name: rollup for rollup, _ in candidates}
    index = Candidates(replace(dataset, rollups=rollups))
    sizes = {rollup.name: size for rollup, size in candidates}
    found: dict[str, dict[int, float]] = defaultdict(dict)
    for i, each in enumerate(logged):
        accepted = [{rollup.name for rollup in index.check(scan).accepted} for scan in each.plan.scans]
        for rollup in (rollups[name] for name in accepted[0].intersection(*accepted[1:])):
            seconds = sum(_seconds(rollup, sizes[rollup.name], scan, facts) for scan in each.plan.scans)
            saved = each.live_seconds - each.count * seconds
            if saved > 0.0:
                found[rollup.name][i] = saved
    return found


def _had(dataset: Dataset, logged: Sequence[Logged], facts: SourceFacts) -> list[float]:
    """Seconds that the rollups which the dataset has already save."""
    present = [(rollup, size_of(dataset, rollup, facts)) for rollup in dataset.rollups.values()]
    gains = _gains(dataset, present, logged, facts) if present else {}
    return [max((each.get(i, 0.0) for each in gains.values()), default=0.0) for i in range(len(logged))]


def _seconds(rollup: Rollup, size: Size, scan: Scan, facts: SourceFacts) -> float:
    """What the rollup takes for a scan, from the coarsest grain that fits the buckets asked for."""
    costs, extent = Costs(0.0), facts.extent
    length, share = float(extent.hi - extent.lo), 1.0
    if scan.bounds is not None:
        length = float(
            max(0, min(micros(scan.bounds.end), extent.hi) - max(micros(scan.bounds.start), extent.lo))
        )
        share = min(1.0, length / max(1, extent.hi - extent.lo))
    widest = WIDTHS[scan.grid.grain] if scan.grid is not None else length / 4
    usable = [grain for grain in rollup.grains if WIDTHS[grain] <= widest] or [rollup.base]
    sketches = sum(measure.kind in SKETCHES for measure in scan.leaves)
    row = costs.segment_row + costs.sketch_row * sketches
    return costs.segments + costs.piece + size.rows[usable[-1]] * share * row


def _named(dataset: Dataset, rollups: Iterable[Rollup]) -> list[Rollup]:
    """The rollups with names that say what they hold, and that nothing else has."""
    taken = {*dataset.rollups}
    found: list[Rollup] = []
    for rollup in rollups:
        name = f"by_{'_'.join(rollup.dimensions)}" if rollup.dimensions else "total"
        name = name if len(name) <= _LONGEST else f"by_{len(rollup.dimensions)}_dimensions"
        if rollup.base is Grain.DAY:
            name += "_daily"
        unique, number = name, 2
        while unique in taken:
            unique, number = f"{name}_{number}", number + 1
        taken.add(unique)
        found.append(replace(rollup, name=unique))
    return found


_LONGEST = 50
