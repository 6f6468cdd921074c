"""What `broker simulate` does with the decision log of a running broker."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from broker.cli.configuration import load_configuration
from broker.cli.exits import EndedError, Exit, fail

if TYPE_CHECKING:
    from broker.policy.admission.events import Configuration


def replay_log(log: Path) -> None:
    """Decides every event of a log again and tells whether all decisions are the same; ends with 1 when not."""
    from broker.cli.render.outlook import replay_text
    from broker.simulation.replay import run

    with _readable(log):
        replayed = run(log)
    click.echo(replay_text(replayed))
    if not replayed.exact:
        raise EndedError(Exit.FAILED)


def double_log(
    logs: Path | Sequence[Path], config: Path | None = None, settings: tuple[str, ...] = (), seed: int = 0
) -> None:
    """Tells what breaks first when the load of logs grows, with the configuration of the first log or of a file."""
    from broker.cli.render.console import console
    from broker.cli.render.outlook import outlook_tables
    from broker.simulation.double import run

    every = [logs] if isinstance(logs, Path) else logs
    with _readable(*every):
        configuration = None if config is None else _configuration(every[0], config, settings)
        outlook = run(every, configuration, seed=seed)
    screen = console()
    for table in outlook_tables(outlook):
        screen.print(table)
    click.echo(outlook.sentence)


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
