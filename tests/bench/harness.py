"""What every benchmark shares: arguments, percentiles, a table for people and one JSON line for programs.

A benchmark is a module beside this one, named as people ask for it, whose docstring begins with what it measures::

    def main() -> None:
        harness.run("live", __doc__, measure)

where `measure` takes :class:`Options` and returns a :class:`Report`, directly or as a coroutine (run on uvloop, the
loop that the broker uses). Goals are shown beside their figures and decide nothing: what a figure means depends on
the machine, which is printed too.
"""

import argparse
import json
import math
import os
import platform
import signal
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import uvloop
from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Goal:
    """What a metric should be: at most or at least a bound, in the metric's own unit."""

    relation: Literal["<=", ">="]
    bound: float

    def met(self, value: float) -> bool:
        """Whether `value` is on the right side; the bound itself is, not-a-number never."""
        return value <= self.bound if self.relation == "<=" else value >= self.bound


@dataclass(frozen=True, slots=True)
class Section:
    """One table of details: a title, the names of the columns, and rows of as many cells."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome: metrics by name (the name ends in the unit: `added_median_ms`), their goals, and details."""

    metrics: Mapping[str, float]
    goals: Mapping[str, Goal] = field(default_factory=dict)
    sections: Sequence[Section] = ()


@dataclass(frozen=True, slots=True)
class Options:
    """What the caller asked for: `quick` is a smaller run of the same shape, `own` the benchmark's own arguments."""

    quick: bool
    own: argparse.Namespace


def percentile(values: Sequence[float], percent: float) -> float:
    """The value below which `percent` of `values` lie, 0 to 100, interpolated linearly between the two nearest.

    Raises ValueError without values, or with a percentage outside the range.
    """
    if not values or not 0 <= percent <= 100:
        raise ValueError(f"no percentile {percent} of {len(values)} values")
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100
    low, high = ordered[math.floor(place)], ordered[math.ceil(place)]
    return low + (high - low) * (place - math.floor(place))


def median(values: Sequence[float]) -> float:
    """The middle value; the mean of the two middle ones when their number is even."""
    return percentile(values, 50)


def machine() -> str:
    """Where the figures come from, in one line; figures of different machines do not compare."""
    release = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, {release}"


def run(
    name: str,
    description: str | None,
    measure: Callable[[Options], Report | Coroutine[Any, Any, Report]],
    *,
    add_arguments: Callable[[argparse.ArgumentParser], object] | None = None,
    arguments: Sequence[str] | None = None,
) -> None:
    """Parse the command line (or `arguments`), measure, print. With ``--json`` the last line is the JSON object."""
    parser = argparse.ArgumentParser(
        prog=f"scripts/bench {name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="a smaller run of the same shape")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    if add_arguments is not None:
        add_arguments(parser)
    own = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # leaves nothing behind then either
    outcome = measure(Options(quick=own.quick, own=own))
    report = outcome if isinstance(outcome, Report) else uvloop.run(outcome)
    _show(name, report, Console())
    if own.json:
        print(json.dumps({"bench": name, "metrics": dict(report.metrics)}), flush=True)


def _show(name: str, report: Report, console: Console) -> None:
    for section in report.sections:
        console.print(_table(section))
    rows = []
    for metric, value in report.metrics.items():
        goal = report.goals.get(metric)
        wish = "" if goal is None else f"{goal.relation} {_cell(goal.bound)}"
        verdict = "" if goal is None else "met" if goal.met(value) else "MISSED"
        rows.append((metric, value, wish, verdict))
    console.print(_table(Section(f"{name} ({machine()})", ("metric", "value", "goal", ""), rows)))


def _table(section: Section) -> Table:
    table = Table(title=section.title, title_justify="left")
    for number, column in enumerate(section.columns):
        table.add_column(column, justify="left" if number == 0 else "right")
    for row in section.rows:
        table.add_row(*map(_cell, row))
    return table


def _cell(value: object) -> str:
    """Whole numbers with separators, others with four digits that matter, the rest as it is."""
    match value:
        case bool():
            return str(value)
        case int():
            return f"{value:,}"
        case float() if math.isfinite(value) and abs(value) >= 1000:
            return f"{value:,.0f}"
        case float():
            return f"{value:.4g}"
        case _:
            return str(value)
