"""Classes of 5,300 held-out queries against their measured times: how often right, and how well calibrated.

A log of 10,600 varied queries over the flights, recorded once on embedded PostgreSQL (``tests/bench/parts``), is played
to the classifier in its order; the figures are those of the later half. Every query is classified by what was known
before it, with the planner's estimate only where the broker would have asked for it, and then learned from, as a broker
does; ``frozen`` learns nothing in the later half. A class is right when the product would have decided the same had it
known the measured time. These queries take milliseconds, so classes end at 20 ms (panels) and 100 ms (explorations);
besides, the log is played with all times, costs and rows multiplied, against the product's own 10 s and 30 s.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from broker.domain.estimate import Estimate
from broker.domain.request import RequestKind
from broker.policy.admission.values import Quantiles
from broker.policy.class_rules import ClassLimits
from broker.policy.classify import Classifier, Run, Subject
from tests.bench import harness
from tests.bench.parts.query_log import Entry, read

LIMITS = ClassLimits(dashboard=0.02, exploration=0.1)
SCALES = (10.0, 100.0, 1000.0)
LEVELS = {"p10": 0.1, "p50": 0.5, "p90": 0.9}
QUICK = 4_000
GAP = 60.0
"""Seconds between two queries of the log."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One classified query: what decided, the prediction, and the truth."""

    kind: RequestKind
    basis: str
    asked: bool
    predicted: Quantiles
    seconds: float

    def right(self, limits: ClassLimits) -> bool:
        """Whether the prediction leads to the class that the truth leads to."""
        end = limits.dashboard if self.kind is RequestKind.DASHBOARD else limits.exploration
        return (self.predicted.p50 > end) == (self.seconds > end)

    def right_of_three(self, limits: ClassLimits) -> bool:
        """The same where both ends count for every query, whoever asks it."""
        ends = (limits.dashboard, limits.exploration)
        return bisect_left(ends, self.predicted.p50) == bisect_left(ends, self.seconds)


def play(log: Sequence[Entry], limits: ClassLimits, *, frozen: bool = False) -> list[Seen]:
    """The later half of the log, classified."""
    classifier, split, found = Classifier(limits), len(log) // 2, list[Seen]()
    for i, entry in enumerate(log):
        now = i * GAP
        subject = Subject(entry.kind, entry.fingerprint, shape=entry.shape)
        asked = classifier.wants_estimate(subject)
        if asked:
            subject = replace(subject, estimate=entry.estimate)
            classifier.keep(subject, now)
        classified = classifier.classify(subject, now)
        if i >= split:
            basis = classified.classification.basis.value
            found.append(Seen(entry.kind, basis, asked, classified.quantiles, entry.seconds))
        if i < split or not frozen:
            classifier.observe(subject, Run(entry.seconds, entry.rows, entry.size), now)
    return found


def scaled(log: Iterable[Entry], factor: float) -> list[Entry]:
    """The log of a database so many times as large."""

    def larger(e: Estimate) -> Estimate:
        return replace(
            e,
            total_cost=e.total_cost * factor,
            scan_cost=e.scan_cost * factor,
            join_cost=e.join_cost * factor,
            sort_cost=e.sort_cost * factor,
            group_cost=e.group_cost * factor,
            read_rows=e.read_rows * factor,
            joined_rows=e.joined_rows * factor,
            sorted_rows=e.sorted_rows * factor,
            grouped_rows=e.grouped_rows * factor,
        )

    return [replace(e, seconds=e.seconds * factor, estimate=larger(e.estimate)) for e in log]


def share(seen: Sequence[Seen], limits: ClassLimits) -> float:
    """Share of right classes."""
    return sum(each.right(limits) for each in seen) / max(1, len(seen))


def coverage(seen: Sequence[Seen], level: str) -> float:
    """Share of the runs that stayed below a predicted quantile."""
    below = sum(bool(each.seconds <= getattr(each.predicted, level)) for each in seen)
    return below / max(1, len(seen))


def groups(seen: Sequence[Seen]) -> dict[str, list[Seen]]:
    """By what the prediction rests on."""
    found: dict[str, list[Seen]] = {}
    for each in seen:
        name = each.basis.replace("_", " ") + (", planner asked" if each.asked else "")
        found.setdefault(name, []).append(each)
    return {"all": list(seen), **dict(sorted(found.items()))}


def population(seen: Sequence[Seen], limits: ClassLimits) -> list[tuple[str, float, float]]:
    """Share of panels, and of explorations, within their class and beyond."""
    rows = []
    for kind, end in (
        (RequestKind.DASHBOARD, limits.dashboard),
        (RequestKind.EXPLORE, limits.exploration),
    ):
        own = [each.seconds for each in seen if each.kind is kind]
        rows.append((f"{kind.value}, up to {end:g} s", *_both(own, end)))
    return rows


def _both(seconds: Sequence[float], end: float) -> tuple[float, float]:
    within = sum(s <= end for s in seconds) / max(1, len(seconds))
    return within, 1.0 - within


def measure(options: harness.Options) -> harness.Report:
    """Plays the log as it is, frozen, and scaled."""
    log = read()
    if options.quick:
        log = log[:QUICK]
    seen, frozen = play(log, LIMITS), play(log, LIMITS, frozen=True)
    product = ClassLimits()
    larger = {factor: play(scaled(log, factor), product) for factor in SCALES}
    covered = {name: coverage(seen, name) for name in LEVELS}
    metrics = {
        "queries": len(log),
        "held_out_queries": len(seen),
        "right_class_share": share(seen, LIMITS),
        "right_class_share_frozen": share(frozen, LIMITS),
        "right_of_three_share": sum(each.right_of_three(LIMITS) for each in seen) / len(seen),
        **{f"right_class_share_x{factor:g}": share(found, product) for factor, found in larger.items()},
        "planner_asked_share": sum(each.asked for each in seen) / len(seen),
        **{f"coverage_{name}": value for name, value in covered.items()},
        "calibration_error": sum(abs(covered[n] - level) for n, level in LEVELS.items()) / len(LEVELS),
    }
    return harness.Report(
        metrics,
        goals={
            "held_out_queries": harness.Goal(">=", 2_000 if options.quick else 5_000),
            "right_class_share": harness.Goal(">=", 0.95),
            "calibration_error": harness.Goal("<=", 0.03),
        },
        sections=[
            harness.Section(
                "calibration: share of runs below each predicted quantile, by what the prediction rests on",
                ("basis", "queries", "right class", *LEVELS),
                [
                    (name, len(group), share(group, LIMITS), *(coverage(group, level) for level in LEVELS))
                    for name, group in groups(seen).items()
                ],
            ),
            harness.Section(
                "how full the classes are", ("class", "within", "beyond"), population(seen, LIMITS)
            ),
            harness.Section(
                "the product's own ends of classes, 10 s and 30 s, on the log multiplied",
                ("log", "right class", "planner asked", *LEVELS, "panels beyond", "explorations beyond"),
                [
                    (
                        f"x{factor:g}",
                        share(found, product),
                        sum(each.asked for each in found) / len(found),
                        *(coverage(found, level) for level in LEVELS),
                        *(beyond for _, _, beyond in population(found, product)),
                    )
                    for factor, found in larger.items()
                ],
            ),
        ],
    )


def main() -> None:
    """Run from the command line."""
    harness.run("classification", __doc__, measure)
