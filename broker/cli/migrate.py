"""``broker migrate``: the broker's own tables, schema ``broker``."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from broker.cli.configuration import configuration_options, load_configuration
from broker.cli.exits import Exit, fail


@click.command()
@configuration_options
@click.option(
    "--print", "print_only", is_flag=True, help="Print the SQL of all migrations and change nothing."
)
def migrate(file: Path, settings: tuple[str, ...], print_only: bool) -> None:
    """Make or update the broker's own tables, in the schema `broker` of `jobs.dsn`.

    Safe to run again, and at the same time on several machines. The tables of your data are never touched.
    """
    from broker.adapters.migrate import COMPONENTS, render

    if print_only:
        for component in COMPONENTS:
            click.echo(render(component), nl=False)
        return
    loaded = load_configuration(file, settings)
    apply_all(loaded.settings.jobs.dsn)


def apply_all(dsn: str) -> None:
    """Apply what is missing, and say what it was."""
    from broker.adapters.migrate import COMPONENTS, MigrationError
    from broker.adapters.migrate import migrate as apply
    from broker.domain.errors import BrokerError

    for component in COMPONENTS:
        try:
            applied = asyncio.run(apply(dsn, component))
        except MigrationError as error:
            fail(str(error), Exit.CONFIG)
        except BrokerError as error:
            fail(error.message, Exit.UNAVAILABLE)
        names = ", ".join(f"{m.number:04}_{m.name}" for m in applied)
        click.echo(f"{component}: applied {names}." if applied else f"{component}: up to date.", err=True)
