"""``broker rollup plan``, ``install``, ``seal`` and ``drop``: what is made in the database, and unmade."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from broker.cli.configuration import configuration_options, load_configuration
from broker.cli.connection import Connection, call, connection_options
from broker.cli.exits import EndedError, Exit
from broker.cli.render.counts import count_text
from broker.cli.rollup_direct import asked, shown_database, with_store
from broker.cli.rollup_names import Target, chosen, resource, targets_argument

if TYPE_CHECKING:
    from broker.adapters.migrate import Migration
    from broker.adapters.pg_rollups import PgRollups
    from broker.config.loader import Configuration
    from broker.domain.model import Dataset
    from broker.domain.rollup import Rollup
    from querybroker.client import Client

COMPONENT = "rollups"
"""Name of the tables of rollups among the migrations."""
_KEEP = (
    "Keep its rows: it is not built, misses changes, or was built after another rollup was sealed there. "
    "`broker rollup refresh` mends the first two; what was built too late cannot be sealed."
)


@click.command()
@targets_argument(required=False)
@configuration_options
def plan(targets: tuple[Target, ...], file: Path, settings: tuple[str, ...]) -> None:
    """Show what install would run in the database; nothing is changed."""
    loaded = load_configuration(file, settings)
    datasets = [dataset for dataset, _ in chosen(loaded.model.datasets, targets)]
    _show_plan(datasets, with_store(loaded, lambda store: _plan(store, loaded, datasets)))


@click.command()
@targets_argument(required=False)
@click.option("-y", "--yes", is_flag=True, help="Do not ask before the statements are run.")
@configuration_options
def install(targets: tuple[Target, ...], yes: bool, file: Path, settings: tuple[str, ...]) -> None:
    """Make the tables of rollups and the triggers that note what changes; run it again after every change.

    The statements are shown first. Triggers take a short lock on their tables, and give up when writers hold those for
    long. Safe to run again: what is there stays, new partitions get their triggers, and what may have changed
    unnoticed is built again.
    """
    loaded = load_configuration(file, settings)
    datasets = [dataset for dataset, _ in chosen(loaded.model.datasets, targets)]

    found = with_store(loaded, lambda store: _plan(store, loaded, datasets))
    _show_plan(datasets, found)
    if count := len(found.tables) + sum(map(len, found.statements)):
        question = f"Run {count_text(count, 'statement')} at {shown_database(loaded)}?"
        if found.tables:
            question = f"Make the tables of rollups and the triggers at {shown_database(loaded)}?"
        asked(question, yes=yes, told="Nothing was installed.")

    async def installed(store: PgRollups) -> None:
        from broker.adapters.migrate import migrate

        for migration in await migrate(loaded.settings.database.dsn, COMPONENT):
            click.echo(f"rollups: applied {migration.number:04}_{migration.name}.", err=True)
        for dataset in datasets:
            await store.install(dataset)

    with_store(loaded, installed)
    for dataset in datasets:
        names = ", ".join(dataset.rollups)
        click.echo(f"{dataset.name}: installed {names}.", err=True)
    refreshed = "A running `broker worker` builds what is missing" if loaded.settings.rollups.refresh else ""
    direct = "`broker rollup build NAME` builds it now"
    click.echo(f"{refreshed}; {direct}." if refreshed else f"{direct}.", err=True)


@click.command()
@targets_argument(required=True)
@click.option(
    "--before", metavar="DATE", required=True, help="Seal what ends at this date or instant, or earlier."
)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@configuration_options
def seal(targets: tuple[Target, ...], before: str, yes: bool, file: Path, settings: tuple[str, ...]) -> None:
    """Keep partitions for ever as they are, before their rows are deleted from the source.

    Sealed partitions go on answering. They are never built again, and changes of their rows are not noticed any more. A
    partition that misses changes is not sealed: refresh it first. Nor is one that was built after partitions of another
    rollup were sealed there, because rows may have been deleted by then. Ends with code 4 when some are not sealed.
    Delete rows after it has ended: it waits until every broker knows.
    """
    import asyncio

    from broker.config.rollup_times import read_start
    from broker.domain.rollup import FAR_PAST, Span, instant, micros
    from broker.pipeline.known_seals import SETTLE_SECONDS

    loaded = load_configuration(file, settings)
    meant = chosen(loaded.model.datasets, targets)
    for _, rollups in meant:
        for rollup in rollups:
            if read_start(before, rollup.zone) is None:
                raise click.BadParameter(f"{before!r} is no date such as 2020-01-01.", param_hint="--before")
    asked(f"Seal the partitions before {before} for ever?", yes=yes, told="Nothing was sealed.")

    async def sealed(store: PgRollups) -> int:
        left, any_sealed = 0, False
        for dataset, rollups in meant:
            for rollup in rollups:
                end = read_start(before, rollup.zone)
                assert end is not None
                spans = await store.seal(rollup, Span(FAR_PAST, micros(end)))
                any_sealed = any_sealed or bool(spans)
                newest = f", the newest up to {instant(spans[-1].hi):%Y-%m-%d %H:%M} UTC" if spans else ""
                name = f"{dataset.name}.{rollup.name}"
                click.echo(f"{name}: sealed {count_text(len(spans), 'partition')}{newest}.", err=True)
                known = (await store.status(dataset, rollup)).partitions
                others = [p.span for p in known if p.span.hi <= micros(end) and p.span not in spans]
                left += len(others)
                if others:
                    oldest = f"{instant(others[0].lo):%Y-%m-%d %H:%M} UTC"
                    told = f"{count_text(len(others), 'partition')} from {oldest} on"
                    click.echo(f"{name}: did not seal {told}. {_KEEP}", err=True)
        if any_sealed:
            click.echo(f"Waiting {SETTLE_SECONDS:.0f} s, until every broker knows of it ...", err=True)
            await asyncio.sleep(SETTLE_SECONDS)
        return left

    if with_store(loaded, sealed):
        raise EndedError(Exit.REFUSED)


@click.command()
@targets_argument(required=True)
@click.option("--keep-triggers", is_flag=True, help="Go on noting what changes, for a new build.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--direct", is_flag=True, help="Do it without a broker, with the configuration.")
@configuration_options
@connection_options
def drop(
    targets: tuple[Target, ...],
    keep_triggers: bool,
    yes: bool,
    direct: bool,
    file: Path,
    settings: tuple[str, ...],
    connection: Connection,
) -> None:
    """Delete the data of rollups and, unless other rollups need them, their triggers.

    Answers go live from then on. While it is declared, `broker rollup install` makes a rollup again.
    """
    listed = ", ".join(map(str, targets))
    if direct:
        loaded = load_configuration(file, settings)
        meant = chosen(loaded.model.datasets, targets)
        asked(f"Drop {listed} at {shown_database(loaded)}?", yes=yes, told="Nothing was dropped.")
        names = with_store(loaded, lambda store: _dropped(store, meant, keep_triggers=keep_triggers))
    else:
        from broker.cli.rollup_jobs import listed_rollups

        names = [rollup.name for rollup in listed_rollups(connection, targets)]
        asked(f"Drop {listed} at {connection.address}?", yes=yes, told="Nothing was dropped.")

        async def dropped(client: Client) -> None:
            for name in names:
                await client.rollups.drop(name, keep_triggers=keep_triggers, timeout=connection.deadline)

        call(connection, dropped)
    from broker.cli.rollup_names import short_name

    for name in names:
        click.echo(f"{short_name(name)}: dropped.", err=True)


async def _dropped(
    store: PgRollups, meant: Sequence[tuple[Dataset, Sequence[Rollup]]], *, keep_triggers: bool
) -> list[str]:
    names = []
    for dataset, rollups in meant:
        for rollup in rollups:
            await store.drop(dataset, rollup, keep_triggers=keep_triggers)
            names.append(resource(dataset.name, rollup.name))
    return names


@dataclass(frozen=True, slots=True)
class _Plan:
    """What install would run: migrations that the ``tables`` of rollups lack, and the statements of each dataset.

    Where migrations are missing, nobody knows yet which partitions need triggers.
    """

    tables: Sequence[Migration]
    statements: Sequence[Sequence[str]]


async def _plan(store: PgRollups, loaded: Configuration, datasets: Sequence[Dataset]) -> _Plan:
    from broker.adapters.migrate import missing

    if tables := await missing(loaded.settings.database.dsn, COMPONENT):
        return _Plan(tables, [store.ddl(dataset) for dataset in datasets])
    return _Plan((), [await store.install(dataset, dry_run=True) for dataset in datasets])


def _show_plan(datasets: Sequence[Dataset], plan: _Plan) -> None:
    if plan.tables:
        from broker.adapters.migrate import render

        click.echo(render(COMPONENT, plan.tables))
        click.echo("-- Partitions get the triggers of their table; install finds out which there are.\n")
    for dataset, statements in zip(datasets, plan.statements, strict=True):
        _show(dataset, statements)


def _show(dataset: Dataset, statements: Sequence[str]) -> None:
    """The statements as a script."""
    names = ", ".join(dataset.rollups)
    click.echo(f"-- {dataset.name}: {names}")
    if not statements:
        click.echo("-- Everything is as it should be.\n")
    for statement in statements:
        click.echo(f"{statement.strip().rstrip(';')};\n")
