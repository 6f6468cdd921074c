"""Plots of a scenario over time, several cores side by side: limit, goodput, waits and shed share.

The same results give the same file, byte for byte: no date is in it, and names inside an SVG follow from a fixed salt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from broker.simulation.recorder import CELL
from broker.simulation.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS = ("#000000", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#f0e442")
"""Told apart by those who do not see all colours (Okabe and Ito, Color Universal Design, 2008)."""
DASHES = ("-", "--", ":")
SALT = "querybroker"
LIMIT_MOST = 4.0
"""Limits above so many times the slots are cut off, so that the others can be read."""


class PlotsError(RuntimeError):
    """The library that draws is not installed; the message says how to install it."""


def draw(results: Mapping[str, Result], folder: Path, kind: str = "svg") -> Path:
    """Draws results of one scenario, by the names of their cores, into ``folder`` and returns the file.

    ``kind`` is ``svg`` or ``png``. The file is named after the scenario and replaced when it is there.

    Raises:
        PlotsError: matplotlib is missing.
        OSError: the folder cannot be written.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        raise PlotsError("Plots need matplotlib: install querybroker-server[simulate].") from error
    scenario = next(iter(results.values())).scenario
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{scenario.name}.{kind}"
    with rc_context(
        {"svg.hashsalt": SALT, "svg.fonttype": "none", "font.family": "DejaVu Sans", "font.size": 9}
    ):
        figure = Figure(figsize=(10, 9), layout="constrained")
        axes: Sequence[Axes] = figure.subplots(4, 1, sharex=True)
        figure.suptitle(f"{scenario.name}: {scenario.about}" if scenario.about else scenario.name)
        for index, (name, result) in enumerate(results.items()):
            style = {
                "label": name,
                "color": COLORS[index % len(COLORS)],
                "linestyle": DASHES[index // len(COLORS) % len(DASHES)],
                "linewidth": 1.0 if index else 2.0,  # the first is the one that the others are compared with
            }
            for axis, (instants, values) in zip(axes, series(result), strict=True):
                axis.plot(instants, values, **style)  # type: ignore[arg-type] # one mapping of texts and numbers
        slots = sum(database.slots for database in scenario.databases)
        changes = [step.at for step in scenario.steps] + [stage.at for stage in scenario.stages]
        for axis, title in zip(axes, ("limit, seats", "goodput", "mean wait, s", "shed share"), strict=True):
            axis.set_ylabel(title)
            axis.set_ylim(bottom=0.0)
            axis.grid(visible=True, color="#dddddd", linewidth=0.5)
            for at in changes:
                axis.axvline(at, color="#888888", linewidth=0.5)
        axes[0].set_ylim(top=min(axes[0].get_ylim()[1], LIMIT_MOST * slots))
        axes[1].set_ylim(top=1.05)
        axes[3].set_ylim(top=1.05)
        axes[3].set_xlabel("time, s")
        axes[3].set_xlim(0.0, scenario.seconds)
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
        nothing = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
        figure.savefig(path, format=kind, metadata=nothing, dpi=100)
    return path


def series(result: Result) -> tuple[tuple[list[float], list[float]], ...]:
    """Instants and values of the limit by second, and of goodput, mean wait and shed share by cells of five seconds."""
    samples, step = result.samples, int(CELL)
    cells = range(int(result.scenario.seconds / CELL))
    at = [(cell + 0.5) * CELL for cell in cells]

    def grown(totals: Sequence[float]) -> list[float]:
        return [totals[(cell + 1) * step] - totals[cell * step] for cell in cells]

    goodput = [
        sum(row[cell] for row in result.work.values()) / result.capacity[cell]
        if result.capacity[cell]
        else 0.0
        for cell in cells
    ]
    return (
        (list(samples.at), list(samples.limit)),
        (at, goodput),
        (at, _ratio(grown(samples.waited), grown(samples.admitted))),
        (at, _ratio(grown(samples.refused), grown(samples.offered))),
    )


def _ratio(above: Sequence[float], below: Sequence[float]) -> list[float]:
    return [a / b if b else 0.0 for a, b in zip(above, below, strict=True)]
