"""What became of the requests of one load: a line for people, and figures."""

from __future__ import annotations

from collections.abc import Sequence

from tests.bench import harness
from tests.bench.parts import traffic
from tests.bench.parts.senders import TENANTS
from tests.bench.parts.traffic import Fate, Result

COLUMNS = (
    "system", "load", "goodput", *(fate.value for fate in Fate), "dashboard p99 ms", "refusal p99 ms", "Jain",
)  # fmt: skip


def row(name: str, load: float, goodput: float, results: Sequence[Result]) -> tuple[object, ...]:
    """One line of the table."""
    dashboards = [r.seconds for r in results if r.arrival.kind == "dashboard" and r.fate is Fate.LIVE]
    refused = [r.seconds for r in results if r.fate is Fate.REFUSED]
    counts = [sum(r.fate is fate for r in results) for fate in Fate]
    return (
        name, load, goodput, *counts, 1000 * traffic.p99(dashboards), 1000 * traffic.p99(refused), _jain(results),
    )  # fmt: skip


def figures(load: float, goodput: float, results: Sequence[Result]) -> dict[str, float]:
    """The metrics of one load."""
    metrics = {f"goodput_{load:g}x": goodput}
    refused = [r for r in results if r.fate is Fate.REFUSED]
    if load < 1.0:
        metrics[f"false_refusals_{load:g}x"] = len(refused) / len(results)
    if load == 10.0:
        arrival = [r.seconds for r in refused if r.stage == "arrival"]
        metrics["refusal_p99_ms"] = 1000 * traffic.p99(arrival)
        metrics["refusal_median_ms"] = 1000 * harness.median(arrival) if arrival else float("nan")
        metrics["refused_at_arrival"] = len(arrival) / max(1, len(refused))
        metrics["jain_10x"] = _jain(results)
    return metrics


def _jain(results: Sequence[Result]) -> float:
    return traffic.jain(
        [sum(r.fate is Fate.LIVE and r.arrival.tenant == t for r in results) for t in TENANTS]
    )
