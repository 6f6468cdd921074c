"""``broker rollup advise``: which rollups the questions of the past speak for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from broker.cli.configuration import configuration_options, load_configuration
from broker.cli.exits import Exit, fail

if TYPE_CHECKING:
    from broker.config.loader import Configuration
    from broker.rollups.advise import Proposed
    from broker.rollups.query_log import Record


@click.command()
@click.option(
    "--log",
    "logs",
    type=click.Path(path_type=Path, exists=True),
    multiple=True,
    help="A file or folder of recorded questions. Repeatable.  [default: rollups.query_log]",
)
@click.option(
    "--most", type=click.IntRange(1, 20), default=3, show_default=True, help="Rollups for a dataset."
)
@click.option(
    "--size", default="2GiB", show_default=True, metavar="BYTES", help="What they may take, for a dataset."
)
@configuration_options
def advise(logs: tuple[Path, ...], most: int, size: str, file: Path, settings: tuple[str, ...]) -> None:
    """Propose rollups for the questions that were asked, as YAML to paste into the configuration.

    Questions are recorded where rollups.query_log names a folder. How many of them would be answered is decided by the
    rules that route them; sizes are estimates from the statistics of the database, so let it ANALYZE its tables before.
    """
    from broker.config.units import parse_size
    from broker.domain.errors import BrokerError
    from broker.rollups.query_log import read_records

    loaded = load_configuration(file, settings)
    given = logs or ((loaded.settings.rollups.query_log,) if loaded.settings.rollups.query_log else ())
    if not given:
        fail("No questions are recorded. Set rollups.query_log to a folder, or give --log.", Exit.CONFIG)
    try:
        limit = parse_size(size)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--size") from error
    records = read_records(path for each in given for path in _files(each))
    if not records:
        fail(f"{', '.join(map(str, given))}: nothing was recorded yet.", Exit.CONFIG)
    try:
        proposed = asyncio.run(_proposed(loaded, records, most, limit))
    except BrokerError as error:
        fail(error.message, Exit.UNAVAILABLE)
    _tell(proposed)
    click.echo(proposed.yaml, nl=False)


def _files(path: Path) -> Iterable[Path]:
    return sorted(path.glob("*.jsonl")) if path.is_dir() else [path]


async def _proposed(loaded: Configuration, records: Iterable[Record], most: int, limit: int) -> Proposed:
    from broker.adapters.pg_catalog import open_catalog
    from broker.adapters.pg_extents import time_extents
    from broker.rollups.advise import propose, time_column

    dsn = loaded.settings.database.dsn
    async with open_catalog(dsn) as catalog:
        found = await catalog.catalog()
    places = {
        name: place for name, d in loaded.model.datasets.items() if (place := time_column(d)) is not None
    }
    known = await time_extents(dsn, places.values())
    extents = {name: known[place] for name, place in places.items() if place in known}
    return propose(loaded.model, records, found, extents, most, limit)


def _tell(proposed: Proposed) -> None:
    """The figures, on standard error: what is on standard output can be pasted."""
    for advice in proposed.advice:
        there = " beside those that it has" if advice.dataset.rollups else ""
        count = len(advice.proposals)
        click.echo(
            f"{advice.dataset.name}: {count or 'no'} rollup{'' if count == 1 else 's'}{there} would answer "
            f"{advice.hit_rate:.1%} of {advice.question_count} questions and leave "
            f"{advice.left_seconds:,.1f} of {advice.live_seconds:,.1f} s of live time.",
            err=True,
        )
    if proposed.unknown:
        click.echo(f"{proposed.unknown} questions do not fit the model any more.", err=True)
