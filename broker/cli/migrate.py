"""``broker migrate``: the broker's own tables, schema ``broker``."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from broker.cli.configuration import configuration_options, load_configuration
from broker.cli.exits import Exit, fail

if TYPE_CHECKING:
    from broker.config.loader import Configuration


@click.command()
@configuration_options
@click.option(
    "--print", "print_only", is_flag=True, help="Print the SQL of all migrations and change nothing."
)
def migrate(file: Path, settings: tuple[str, ...], print_only: bool) -> None:
    """Make or update the broker's own tables, in the schema `broker` of `jobs.dsn`.

    A model with rollups has tables in the schema `broker` of `database.dsn` as well. Safe to run again, and at the same
    time on several machines. The tables of your data are never touched.
    """
    from broker.adapters.migrate import ANALYTICAL, COMPONENTS, render

    if print_only:
        click.echo("-- For the database of jobs.")
        for component in COMPONENTS:
            click.echo(render(component), nl=False)
        click.echo("-- For the analytical database, where a model declares rollups.")
        for component in ANALYTICAL:
            click.echo(render(component), nl=False)
        return
    apply_all(load_configuration(file, settings))


def apply_all(loaded: Configuration) -> None:
    """Apply what is missing, and say what it was."""
    from broker.adapters.migrate import ANALYTICAL, COMPONENTS, MigrationError
    from broker.adapters.migrate import migrate as apply
    from broker.domain.errors import BrokerError

    places = dict.fromkeys(COMPONENTS, loaded.settings.jobs.dsn)
    if any(dataset.rollups for dataset in loaded.model.datasets.values()):
        places |= dict.fromkeys(ANALYTICAL, loaded.settings.database.dsn)
    for component, dsn in places.items():
        try:
            applied = asyncio.run(apply(dsn, component))
        except MigrationError as error:
            fail(str(error), Exit.CONFIG)
        except BrokerError as error:
            fail(error.message, Exit.UNAVAILABLE)
        names = ", ".join(f"{m.number:04}_{m.name}" for m in applied)
        click.echo(f"{component}: applied {names}." if applied else f"{component}: up to date.", err=True)
