"""What `broker simulate` does with the decision log of a running broker."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from broker.cli.configuration import load_configuration
from broker.cli.exits import EndedError, Exit, fail

if TYPE_CHECKING:
    from broker.policy.admission.events import Configuration
    from broker.simulation.result import Result


def replay_log(log: Path) -> None:
    """Decides every event of a log again and tells whether all decisions are the same; ends with 1 when not."""
    from broker.cli.render.outlook import replay_text
    from broker.simulation.replay import run

    with _readable(log):
        replayed = run(log)
    click.echo(replay_text(replayed))
    if not replayed.exact:
        raise EndedError(Exit.FAILED)


def double_log(logs: Sequence[Path], config: Path | None = None, settings: tuple[str, ...] = ()) -> None:
    """Tells what breaks first when the load of logs grows, with the configuration of the first log or of a file."""
    from broker.cli.render.console import console
    from broker.cli.render.outlook import outlook_tables
    from broker.simulation.double import run

    with _readable(*logs):
        configuration = None if config is None else _configuration(logs[0], config, settings)
        outlook = run(logs, configuration)
    screen = console()
    for table in outlook_tables(outlook):
        screen.print(table)
    click.echo(outlook.sentence)


def play_log(logs: Sequence[Path], speed: float, rivals: Sequence[str]) -> Mapping[str, Result]:
    """Offers the load of logs, ``speed`` times as fast, to the broker's core and to rivals; shows and returns figures.

    Other than in a replay, what happens follows from what each of them decides.
    """
    from broker.cli.render.console import console
    from broker.cli.render.simulated import scenario_table
    from broker.simulation.batch import OWN
    from broker.simulation.fit import fit
    from broker.simulation.replay import load
    from broker.simulation.rivals.catalog import RIVALS
    from broker.simulation.traced import broker_core, play

    with _readable(*logs):
        trace = load(logs)
    fitted = fit(trace)
    cores = {OWN: broker_core} | {name: RIVALS[name] for name in rivals}
    results = {name: play(trace, fitted, speed=speed, make=make)[0] for name, make in cores.items()}
    table, _ = scenario_table(results[OWN].scenario, {name: [result] for name, result in results.items()})
    console().print(table)
    return results


def _configuration(log: Path, config: Path, settings: tuple[str, ...]) -> Configuration:
    """The pools that the log knows, as a configuration file has them."""
    from broker.app.admission import configuration_of
    from broker.simulation.replay import load

    recorded = load(log).configuration
    loaded = load_configuration(config, settings, database_needed=False).settings
    return configuration_of(loaded, {name: loaded.pools[name] for name in recorded.pools}, recorded.seed)


@contextmanager
def _readable(*logs: Path) -> Iterator[None]:
    from broker.policy.admission.record import LogError

    try:
        yield
    except LogError as error:
        fail(f"{', '.join(map(str, logs))}: {error}", Exit.USAGE)
    except OSError as error:
        fail(f"Cannot read {error.filename}: {error.strerror}.", Exit.USAGE)
