"""What an answer depends on, from its plan."""

from __future__ import annotations

from collections.abc import Iterable

from broker.domain.held import Reach
from broker.domain.plan import Plan
from broker.domain.rollup import Span, micros


def reach_of(plan: Plan, rollups: Iterable[str] = ()) -> Reach:
    """The reach of a plan's answer that was read from these rollups, or from the tables alone.

    The span is the shortest that holds all scans; there is none where a scan has no bounds, or along another dimension.
    """
    times = {
        scan.time.name if scan.time is not None and scan.bounds is not None else "" for scan in plan.scans
    }
    bounds = [scan.bounds for scan in plan.scans if scan.bounds is not None]
    spans = {}
    if len(times) == 1 and bounds:
        (time,) = times
        spans[time] = Span(
            min(micros(each.start) for each in bounds), max(micros(each.end) for each in bounds)
        )
    return Reach(plan.main.dataset.name, tuple(rollups), spans)
