"""``broker init``: a configuration to start from, proposed from the catalog of a database."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from broker.cli.configuration import DEFAULT_FILE
from broker.cli.exits import Exit, fail

if TYPE_CHECKING:
    from broker.domain.relations import DatabaseCatalog

_LIBPQ = ("PGHOST", "PGDATABASE", "PGUSER", "PGSERVICE")


@click.command()
@click.argument("tables", nargs=-1)
@click.option(
    "--dsn",
    envvar="DATABASE_URL",
    metavar="URL",
    help="The database, as postgresql://user:password@host:5432/name.  [env: DATABASE_URL, or PGHOST, PGUSER, …]",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    default=DEFAULT_FILE,
    show_default=True,
    help="The file to write; - prints it.",
)
@click.option("--force", is_flag=True, help="Replace the file if it is there.")
def init(tables: tuple[str, ...], dsn: str | None, output: Path, force: bool) -> None:
    """Propose a configuration for the database: its largest tables, or TABLES, with their joins.

    \b
      export DATABASE_URL=postgresql://reader:secret@db.example.com/shop
      broker init
      broker init orders sales.returns -o shop.yaml

    Only the catalog is read: tables, columns, keys, comments, estimates. The address stays out of the file.
    """  # noqa: D301 - click keeps the lines of a paragraph that begins with this character
    if output.exists() and not force:
        fail(
            f"{output} is there already. Choose another file with -o, or replace it with --force.", Exit.USAGE
        )
    if not dsn:
        if not any(os.environ.get(name) for name in _LIBPQ):
            fail(
                "Which database? Set DATABASE_URL, or give --dsn postgresql://user:password@host/name.",
                Exit.USAGE,
            )
        dsn = "postgresql://"  # what is left out comes from the variables of libpq
    from broker.config.propose import propose

    try:
        text = propose(_catalog(dsn), tables)
    except ValueError as error:
        fail(f"{error}.", Exit.USAGE)
    if str(output) == "-":
        click.echo(text, nl=False)
        return
    output.write_text(text, encoding="utf-8")
    click.echo(
        f"Wrote {output}. Read it, then: broker check-config --database, broker migrate, broker serve."
    )


def _catalog(dsn: str) -> DatabaseCatalog:
    from broker.adapters.pg_catalog import open_catalog
    from broker.domain.errors import BrokerError

    async def read() -> DatabaseCatalog:
        async with open_catalog(dsn) as catalog:
            return await catalog.catalog()

    try:
        return asyncio.run(read())
    except BrokerError as error:
        fail(f"{error.message[:1].upper()}{error.message[1:]}.", Exit.UNAVAILABLE)
