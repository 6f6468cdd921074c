"""What came of a simulated scenario, as a table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from broker.cli.render.console import listing

if TYPE_CHECKING:
    from broker.simulation.result import Result
    from broker.simulation.scenario import Expect, Scenario

SHOWN = (
    "goodput", "goodput_worst_10s", "served", "late", "refused", "false_refusals", "refused_at_arrival",
    "refusal_p99_s", "latency_p50", "latency_p99", "wait_p99", "jain_30s", "utilisation", "wasted_share",
    "orphaned_share", "limit_mean", "limit_deviation",
)  # fmt: skip
"""Figures that are shown whether something is expected of them or not."""


def scenario_table(scenario: Scenario, results: Mapping[str, Sequence[Result]]) -> tuple[Table, int]:
    """Figures over seeds, the broker's first and rivals beside them, and how many are not as expected."""
    own, *rivals = results
    expected = {each.metric: each for each in scenario.expects}
    numbers = ("expected", "median", "worst", *rivals)
    table = listing(("figure", *numbers), title=f"{scenario.name}: {scenario.about}", right=numbers)
    missed = 0
    for metric in (*expected, *(name for name in SHOWN if name not in expected)):
        values = sorted(result.figures.get(metric, math.nan) for result in results[own])
        middle, expect = values[len(values) // 2], expected.get(metric)
        bad = expect is not None and not _inside(middle, expect)
        missed += bad
        style = "bold red" if bad else "green" if expect is not None else ""
        beside = (_middle(results[rival], metric) for rival in rivals)
        table.add_row(
            Text(metric), Text(_range(expect)), Text(_number(middle), style=style),
            Text(_number(_worst(values, expect))), *(Text(_number(value)) for value in beside),
        )  # fmt: skip
    count = len(results[own])
    table.caption = f"{count} seed{'s' if count > 1 else ''}, {scenario.seconds:g} s each"
    table.caption_justify = "left"
    return table, missed


def _middle(results: Sequence[Result], metric: str) -> float:
    return sorted(result.figures.get(metric, math.nan) for result in results)[len(results) // 2]


def _inside(value: float, expect: Expect) -> bool:
    return expect.least <= value <= expect.most


def _worst(values: Sequence[float], expect: Expect | None) -> float:
    """The value nearest to the end of its range, or furthest beyond; without a range nothing is worse."""
    if expect is None:
        return math.nan
    return min(values, key=lambda value: min(value - expect.least, expect.most - value))


def _range(expect: Expect | None) -> str:
    if expect is None:
        return ""
    if expect.most == math.inf:
        return f">= {expect.least:g}"
    return f"<= {expect.most:g}" if expect.least == -math.inf else f"{expect.least:g} to {expect.most:g}"


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.4g}"
