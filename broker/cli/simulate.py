"""``broker simulate``: the admission core on a virtual clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from broker.cli.exits import EndedError, Exit, fail

if TYPE_CHECKING:
    from broker.simulation.result import Result
    from broker.simulation.scenario import Scenario

DEFAULT_SEEDS = 20
SPEED = click.FloatRange(min=0.0, min_open=True)
FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
USES: Mapping[str, Sequence[str]] = MappingProxyType(
    {
        "scenarios": ("scenarios", "seeds", "rivals", "check", "plot", "processes"),
        "--replay LOG": ("log",),
        "--double LOG": ("double", "config", "settings"),
        "--play LOG": ("play", "speed", "rivals", "plot"),
    }
)
"""What the command is used for, and the parameters that each use takes, the one that asks for it first."""


@click.command()
@click.argument("scenarios", nargs=-1, metavar="[SCENARIO]...")
@click.option(
    "--seeds", type=click.IntRange(1), default=DEFAULT_SEEDS, show_default=True, help="Runs of each scenario."
)
@click.option(
    "--rival",
    "rivals",
    multiple=True,
    metavar="NAME",
    help="Run another scheme beside the broker's; `all` for all.",
)
@click.option(
    "--check", is_flag=True, help="Check the invariants of the admission core at every event; slower."
)
@click.option(
    "--plot",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Draw limit, goodput, waits and shed share over time, of the first seed.",
)
@click.option(
    "--processes", type=click.IntRange(1), help="Processes to run on.  [default: one for each processor]"
)
@click.option("--replay", "log", type=FILE, metavar="LOG", help="Decide a recorded log again and compare.")
@click.option(
    "--double",
    type=FILE,
    multiple=True,
    metavar="LOG",
    help="Tell what breaks first when the load of logs doubles.",
)
@click.option(
    "--play",
    type=FILE,
    multiple=True,
    metavar="LOG",
    help="Offer the load of logs to the broker's core, and to rivals.",
)
@click.option(
    "--speed", type=SPEED, default=1.0, show_default=True, help="With --play, so many times as fast."
)
@click.option(
    "--config", type=FILE, help="With --double, the configuration to try.  [default: that of the log]"
)
@click.option(
    "--set",
    "settings",
    metavar="KEY=VALUE",
    multiple=True,
    help="With --config, override one value. Repeatable.",
)
def simulate(  # noqa: PLR0917 - click passes them by name
    scenarios: tuple[str, ...],
    seeds: int,
    rivals: tuple[str, ...],
    check: bool,
    plot: Path | None,
    processes: int | None,
    log: Path | None,
    double: tuple[Path, ...],
    play: tuple[Path, ...],
    speed: float,
    config: Path | None,
    settings: tuple[str, ...],
) -> None:
    """Run scenarios of load, failing databases and clients through the broker's own admission control.

    A SCENARIO is the name of one that comes with the broker, or a YAML file; without any, they are listed. Every run
    takes seconds, needs no database, and gives the same figures with the same seed. Ends with 1 when a figure is not
    in the range that its scenario expects.
    """
    _check_use(click.get_current_context())
    if settings and config is None:
        fail("--set changes values of a configuration: name it with --config.", Exit.USAGE)
    if log is not None or double:
        _recorded(log, double, config, settings)
        return
    if play:
        _play(play, speed, _rivals(rivals), plot)
        return
    if not scenarios:
        _list()
        return
    loaded = [_load(name) for name in scenarios]
    _run(loaded, seeds, _rivals(rivals), check=check, plot=plot, processes=processes)


def _check_use(context: click.Context) -> None:
    """Ends the command when two uses are asked for at once, or with options that the one asked for does not take."""
    given = {
        str(parameter.name): parameter.opts[0]
        for parameter in context.command.params
        if context.get_parameter_source(str(parameter.name)) is ParameterSource.COMMANDLINE
    }
    uses = [use for use, (first, *_) in USES.items() if first in given]
    if len(uses) > 1:
        fail(f"Give either {', or '.join(USES)}.", Exit.USAGE)
    use = uses[0] if uses else next(iter(USES))
    strange = [
        f"{flag} goes with {' and '.join(other for other, names in USES.items() if name in names)}"
        for name, flag in given.items()
        if name not in USES[use]
    ]
    if strange:
        fail(f"{', '.join(strange)}, and not with {use}.", Exit.USAGE)


def _recorded(
    log: Path | None, double: Sequence[Path], config: Path | None, settings: tuple[str, ...]
) -> None:
    from broker.cli.recorded import double_log, replay_log

    if log is not None:
        replay_log(log)
    else:
        double_log(double, config, settings)


def _play(logs: Sequence[Path], speed: float, rivals: Sequence[str], plot: Path | None) -> None:
    from broker.cli.recorded import play_log

    results = play_log(logs, speed, rivals)
    if plot is not None:
        _draw(results, plot)


def _list() -> None:
    from broker.simulation.scenario_file import builtin, load

    width = max(map(len, builtin()))
    for name in builtin():
        click.echo(f"{name.ljust(width)}  {load(name).about}")


def _load(name: str) -> Scenario:
    from broker.simulation.scenario_file import ScenarioError, load

    try:
        return load(name)
    except ScenarioError as error:
        fail(str(error), Exit.USAGE)


def _rivals(names: Sequence[str]) -> list[str]:
    from broker.simulation.rivals.catalog import RIVALS

    unknown = [name for name in names if name not in RIVALS and name != "all"]
    if unknown:
        fail(f"There is no rival {unknown[0]!r}; there are {', '.join(RIVALS)}.", Exit.USAGE)
    return list(RIVALS) if "all" in names else list(dict.fromkeys(names))


def _run(
    scenarios: Sequence[Scenario],
    seeds: int,
    rivals: Sequence[str],
    *,
    check: bool,
    plot: Path | None,
    processes: int | None,
) -> None:
    from broker.cli.render.console import console
    from broker.cli.render.simulated import scenario_table
    from broker.simulation.batch import OWN, Job, run_all
    from broker.simulation.invariants import InvariantError

    screen, missed = console(), 0
    cores = [OWN, *rivals]
    for scenario in scenarios:
        jobs = [
            Job(scenario, core, seed, check and core == OWN) for core in cores for seed in range(1, seeds + 1)
        ]
        try:
            found = run_all(jobs, processes)
        except InvariantError as error:
            fail(f"{scenario.name}: {error}")
        by_core = {core: [result for job, result in found if job.core == core] for core in cores}
        table, wrong = scenario_table(scenario, by_core)
        screen.print(table)
        missed += wrong
        if plot is not None:
            _draw({core: results[0] for core, results in by_core.items()}, plot)
    if missed:
        click.echo(f"{missed} of the figures are not in the range that is expected.", err=True)
        raise EndedError(Exit.FAILED)


def _draw(results: Mapping[str, Result], folder: Path) -> None:
    from broker.simulation.plots import PlotsError, draw

    try:
        click.echo(f"{draw(results, folder)}")
    except PlotsError as error:
        fail(str(error))
    except OSError as error:
        fail(f"Cannot write to {folder}: {error.strerror}.", Exit.USAGE)
