"""``broker check-config``: whether a configuration can be used."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from broker.cli.configuration import configuration_options, load_configuration, show_findings
from broker.cli.exits import EndedError, Exit, fail
from broker.cli.render.counts import count_text

if TYPE_CHECKING:
    from broker.config.findings import Finding
    from broker.config.loader import Configuration


@click.command()
@configuration_options
@click.option(
    "--database", is_flag=True, help="Compare it with the database as well; nothing is run or changed."
)
@click.option("--strict", is_flag=True, help="Take warnings as errors.")
@click.option(
    "--schema", is_flag=True, help="Print the JSON schema of configuration files, for editors, and end."
)
def check_config(file: Path, settings: tuple[str, ...], database: bool, strict: bool, schema: bool) -> None:
    """Check a configuration: every error with its file, line and path, and the nearest valid name.

    Kinds of job of your own (`jobs.kinds`) are imported, as they are by `broker serve` and `broker worker`.

    With --database also whether tables and columns exist, have the types that the model says and may be read, whether
    joins meet as many rows as they say, and whether the server has room for the connections.
    """
    if schema:
        from broker.config.reference import json_schema

        click.echo(json_schema(), nl=False)
        return
    loaded = load_configuration(file, settings, database_needed=database)
    findings = [*loaded.findings, *_kinds(loaded), *(_verified(loaded) if database else ())]
    show_findings(findings)
    errors = sum(finding.severity == "error" for finding in findings)
    warnings = sum(finding.severity == "warning" for finding in findings)
    if errors or (strict and warnings):
        click.echo(f"{file}: {count_text(errors, 'error')}, {count_text(warnings, 'warning')}.", err=True)
        raise EndedError(Exit.CONFIG)
    click.echo(f"{file}: {_summary(loaded)}. {'It fits the database.' if database else 'It can be used.'}")


def _kinds(loaded: Configuration) -> Iterator[Finding]:
    """What keeps kinds of one's own from being loaded; only a warning where that may be due to this machine."""
    from broker.app.kinds import kind_problems
    from broker.config.findings import Severity

    for name, text, missing in kind_problems(loaded.settings.jobs.kinds):
        path = f"jobs.kinds.{name}"
        severity = Severity.WARNING if missing else Severity.ERROR
        yield loaded.finding(("jobs", "kinds", name), text.removeprefix(f"{path}: "), severity)


def _verified(loaded: Configuration) -> Sequence[Finding]:
    from broker.adapters.pg_catalog import open_catalog
    from broker.config.verify import verify
    from broker.domain.errors import BrokerError

    async def compared() -> Sequence[Finding]:
        async with open_catalog(loaded.settings.database.dsn) as catalog:
            return await verify(loaded, catalog)

    try:
        return asyncio.run(compared())
    except BrokerError as error:
        fail(f"Cannot compare with the database: {error.message}.", Exit.UNAVAILABLE)


def _summary(loaded: Configuration) -> str:
    datasets = loaded.model.datasets.values()
    dimensions = sum(len(dataset.dimensions) for dataset in datasets)
    measures = sum(len(dataset.measures) for dataset in datasets)
    rollups = sum(len(dataset.rollups) for dataset in datasets)
    counts = [
        (len(datasets), "dataset"),
        (dimensions, "dimension"),
        (measures, "measure"),
        (rollups, "rollup"),
    ]
    return ", ".join(count_text(*count) for count in counts if count[0] or count[1] != "rollup")
