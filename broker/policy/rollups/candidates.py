"""Which rollups of a dataset could answer a scan, by everything that can be decided without their coverage.

Every member has a bit set of the rollups that hold it, so that a rule costs one operation for a thousand rollups. What
depends on a rollup's own figures is decided once for all rollups that share them: conditions on the time dimension,
alignment by base grain and zone, filters by filter. Reasons are only worked out when somebody looks at them.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import islice

from broker.domain.measures import SKETCHES, UNMERGEABLE
from broker.domain.model import Dataset
from broker.domain.plan import Scan
from broker.domain.query import Filter
from broker.domain.rollup import Rejection, Rollup, Rule, Span, Storage, Tracking
from broker.domain.terms import Consistency
from broker.policy.fanout import fan_out_violation
from broker.policy.rollups.asked import Asked, asked_of, bounded, policy_conditions
from broker.policy.rollups.bits import fewest, positions, union
from broker.policy.rollups.boundaries import Boundaries, aligned, misalignment
from broker.policy.rollups.implication import implies
from broker.policy.rollups.normal import conjuncts, joined, members_of
from broker.policy.rollups.reasons import Reasons
from broker.policy.rollups.scan import zone_of

Failures = dict[Rule, int]
"""Bit sets of the rollups that fail a rule."""


class Checked:
    """The rollups that pass every rule, by name, and the others with all rules that failed, found when looked at."""

    __slots__ = ("_asked", "_index", "_policy", "accepted", "rejected")

    def __init__(
        self,
        index: Candidates,
        accepted: tuple[Rollup, ...],
        rejected: Reasons,
        asked: Mapping[str, Asked],
        policy: tuple[Filter, ...],
    ) -> None:
        self.accepted, self.rejected = accepted, rejected
        self._index, self._asked, self._policy = index, asked, policy

    def asked(self, time: str) -> Asked:
        """What is asked of rollups over a time dimension that one has: the bounds, and conditions on it and others."""
        return self._asked[time]

    def filter(self, rollup: Rollup) -> Filter | None:
        """What the stored rows of an accepted rollup have to meet: the query's filter and the row policies.

        Left out are conditions on the time dimension, which are part of :meth:`asked`, and what the rollup's own filter
        says already.
        """
        rest = self._index.left(rollup, self._asked[rollup.time])
        return joined(dict.fromkeys((*rest, *self._policy)))


class Candidates:
    """The rollups of one dataset, indexed by what they hold; built once for each version of the model.

    Remembers what it found for the last ``remembered`` shapes of scans.
    """

    def __init__(self, dataset: Dataset, remembered: int = 512) -> None:
        self.dataset = dataset
        self.rollups = tuple(sorted(dataset.rollups.values(), key=lambda rollup: rollup.name))
        self._all = (1 << len(self.rollups)) - 1
        self._stored: dict[str, int] = defaultdict(int)
        self._measured: dict[str, int] = defaultdict(int)
        self._timed: dict[str, int] = defaultdict(int)
        self._based: dict[tuple[str, str], int] = defaultdict(int)
        self._edges: dict[tuple[str, str], Boundaries] = {}
        self._edges_of: dict[str, Boundaries] = {}
        self._failing: dict[Rule, int] = defaultdict(int)
        self._filters: dict[str, tuple[Filter, ...]] = {}
        self._sql = 0
        filtered: dict[tuple[Filter, ...], int] = defaultdict(int)
        for i, rollup in enumerate(self.rollups):
            self._add(rollup, 1 << i, filtered)
        self._filtered = [(own, members_of(own), bits) for own, bits in filtered.items()]
        self._shapes: OrderedDict[tuple[object, ...], Failures] = OrderedDict()
        self._remembered = remembered
        own = {(r.base, zone_of(dataset, r, r.base)): r for r in reversed(self.rollups)}
        self.bases = tuple(own.values())
        """One rollup of each base grain and zone."""

    def _add(self, rollup: Rollup, bit: int, filtered: dict[tuple[Filter, ...], int]) -> None:
        dataset = self.dataset
        for name in rollup.dimensions:
            self._stored[name] |= bit
        for name in rollup.measures:
            self._measured[name] |= bit
        self._timed[rollup.time] |= bit
        own = self._filters[rollup.name] = conjuncts(rollup.filter)
        filtered[own] |= bit
        zone = zone_of(dataset, rollup, rollup.base)
        self._based[rollup.base, zone] |= bit
        edges = self._edges.setdefault((rollup.base, zone), Boundaries(rollup.base, zone))
        self._edges_of[rollup.name] = edges
        if rollup.storage is not Storage.SEGMENTS:
            self._sql |= bit
        used = tuple(dict.fromkeys((rollup.time, *rollup.dimensions, *sorted(members_of(own)))))
        if fan_out_violation(dataset, used, rollup.measures) is not None:
            self._failing[Rule.JOIN] |= bit
        if rollup.storage is Storage.EXTERNAL:
            self._failing[Rule.XSTORE] |= bit
        if rollup.tracking in (Tracking.APPEND_ONLY, Tracking.NONE):
            self._failing[Rule.NOTRIG] |= bit

    def check(self, scan: Scan, consistency: Consistency = Consistency.BOUNDED) -> Checked:
        """The rollups that pass, and the others. With consistency SNAPSHOT only those that are exact in a snapshot."""
        policy = policy_conditions(scan)
        parts = conjuncts(scan.filter)
        asked = {
            time: asked_of(scan, self.dataset.dimensions[time], parts, policy or ()) for time in self._timed
        }
        shape = self._shape(scan, consistency)
        passed = self._all & ~union(shape.values()) if policy is not None else 0
        found = self._values(scan, asked, passed)
        passed &= ~union(found.values())

        def failures() -> Failures:
            merged: Failures = defaultdict(int)
            every = [shape, self._values(scan, asked, self._all, reasons=True)]
            for each in every if policy is not None else [*every, {Rule.SEC: self._all}]:
                for rule, bits in each.items():
                    merged[rule] |= bits
            return merged

        def reasons() -> Iterator[Rejection]:
            found = failures()
            return self._rejections(positions(union(found.values())), found, scan, asked)

        def nearest(most: int) -> Iterator[Rejection]:
            found = failures()
            return self._rejections(islice(fewest(found.values()), most), found, scan, asked)

        accepted = tuple([self.rollups[i] for i in positions(passed)])
        rejected = Reasons(tuple) if passed == self._all else Reasons(reasons, nearest=nearest)
        return Checked(self, accepted, rejected, asked, policy or ())

    def edges_of(self, rollup: Rollup) -> Boundaries:
        """Where the buckets of a rollup's base begin."""
        return self._edges_of[rollup.name]

    def accepts(
        self, scan: Scan, consistency: Consistency, like: Rollup, among: Collection[str] | None = None
    ) -> bool:
        """Whether a rollup passes, of the named ones or of all, that has the base grain and zone of another one."""
        key = like.base, zone_of(self.dataset, like, like.base)
        return any(
            (rollup.base, zone_of(self.dataset, rollup, rollup.base)) == key
            and (among is None or rollup.name in among)
            for rollup in self.check(scan, consistency).accepted
        )

    def left(self, rollup: Rollup, asked: Asked) -> tuple[Filter, ...]:
        """What of the conjuncts that a scan asks for the rollup's own filter does not say already."""
        return _left(asked.rest, self._filters[rollup.name])

    def _shape(self, scan: Scan, consistency: Consistency) -> Failures:
        """The rules that do not depend on values, remembered by shape."""
        key = (
            tuple([d.name for d in scan.dimensions]),
            tuple([m.name for m in scan.leaves]),
            scan.time.name if scan.time is not None and bounded(scan) else "",
            tuple([p.name for p in scan.policies]),
            consistency,
        )
        found = self._shapes.get(key)
        if found is not None:
            self._shapes.move_to_end(key)
            return found
        found = self._shapes[key] = self._find_shape(scan, consistency)
        if len(self._shapes) > self._remembered:
            self._shapes.popitem(last=False)
        return found

    def _find_shape(self, scan: Scan, consistency: Consistency) -> Failures:
        found: Failures = {Rule.JOIN: self._failing[Rule.JOIN]}
        found[Rule.KEYS] = union(self._without(d.name) for d in scan.dimensions)
        found[Rule.ALG] = union(self._all & ~self._measured.get(m.name, 0) for m in scan.leaves)
        if any(m.kind in UNMERGEABLE for m in scan.leaves):
            found[Rule.ALG] = self._all
        if any(m.kind in SKETCHES for m in scan.leaves):
            found[Rule.ALG] |= self._sql  # PostgreSQL merges no sketches
        if scan.time is not None and bounded(scan):
            found[Rule.TIME] = self._all & ~self._timed.get(scan.time.name, 0)
        terms = [policy.terms for policy in scan.policies]
        found[Rule.SEC] = union(self._without(name) for each in terms for name, _ in each or ())
        if None in terms:
            found[Rule.SEC] = self._all
        if consistency is Consistency.SNAPSHOT:
            found[Rule.XSTORE] = self._failing[Rule.XSTORE]
            found[Rule.NOTRIG] = self._failing[Rule.NOTRIG]
        return {rule: bits for rule, bits in found.items() if bits}

    def _without(self, dimension: str) -> int:
        return self._all & ~self._stored.get(dimension, 0)

    def _values(
        self, scan: Scan, asked: Mapping[str, Asked], among: int, *, reasons: bool = False
    ) -> Failures:
        """The rules that depend on values, for some of the rollups; without ``reasons`` TZ is not told from GRAIN."""
        found: Failures = defaultdict(int)
        for time, own in asked.items():
            if not (bits := among & self._timed[time]):
                continue
            if own.problem is not None:
                found[own.problem] |= bits
            self._check_filters(own, bits, found, reasons=reasons)
            if scan.time is None or not bounded(scan) or scan.time.name == time:
                self._check_time(scan, own.span, bits, found, reasons=reasons)
        return found

    def _check_filters(self, asked: Asked, among: int, found: Failures, *, reasons: bool) -> None:
        wanted, known = members_of(asked.rest), members_of(asked.given)
        for own, named, same in self._filtered:
            if not (bits := among & same):
                continue
            kept = wanted
            if own:
                if not named <= known or not implies(asked.given, own):
                    found[Rule.FILT] |= bits
                    if not reasons:
                        continue
                if not named.isdisjoint(wanted):  # else it says nothing of what is wanted
                    kept = members_of(_left(asked.rest, own))
            for name in kept:
                found[Rule.KEYS] |= bits & self._without(name)

    def _check_time(self, scan: Scan, span: Span, among: int, found: Failures, *, reasons: bool) -> None:
        for key, same in self._based.items():
            if not (bits := among & same):
                continue
            edges = self._edges[key]
            inner = edges.inner(span)
            if inner.lo >= inner.hi:
                found[Rule.EDGE] |= bits
            if scan.grid is not None and not aligned(scan.grid, span, edges):
                rule = misalignment(scan.grid, span, edges) if reasons else Rule.GRAIN
                found[rule or Rule.GRAIN] |= bits

    def _rejections(
        self, places: Iterable[int], failures: Failures, scan: Scan, asked: Mapping[str, Asked]
    ) -> Iterator[Rejection]:
        ordered = [(rule, failures[rule]) for rule in Rule if failures.get(rule)]
        for i in places:
            rollup = self.rollups[i]
            rules = tuple([rule for rule, bits in ordered if bits >> i & 1])
            yield Rejection(rollup.name, rules, self._detail(rollup, rules, scan, asked[rollup.time]))

    def _detail(self, rollup: Rollup, rules: tuple[Rule, ...], scan: Scan, asked: Asked) -> str:
        """The names behind a rejection, for people."""
        texts = []
        if Rule.KEYS in rules:
            named = members_of(self.left(rollup, asked))
            missing = {*(d.name for d in scan.dimensions), *named} - {*rollup.dimensions}
            texts.append(f"does not store {_listed(missing)}")
        if Rule.ALG in rules:
            missing = {m.name for m in scan.leaves} - {*rollup.measures}
            texts.append(f"has no states of {_listed(missing)}" if missing else "its states do not merge")
        if Rule.TIME in rules:
            texts.append(f"is kept by {rollup.time!r}")
        return "; ".join(texts)


def _left(rest: tuple[Filter, ...], own: tuple[Filter, ...]) -> tuple[Filter, ...]:
    return tuple([part for part in rest if not implies(own, (part,))]) if own else rest


def _listed(names: set[str]) -> str:
    return ", ".join(map(repr, sorted(names)))
