"""The configuration file of a command: where it is, how single values are overridden, what is said about it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from broker.cli.exits import Exit, fail

if TYPE_CHECKING:
    from broker.config.findings import Finding
    from broker.config.loader import Configuration

F = TypeVar("F", bound=Callable[..., object])
DEFAULT_FILE = "querybroker.yaml"
_COLORS = {"error": "red", "warning": "yellow", "hint": "cyan"}


def configuration_options(command: F) -> F:
    """Adds ``--config`` and ``--set``."""
    file = click.option(
        "-c",
        "--config",
        "file",
        type=click.Path(path_type=Path, dir_okay=False),
        default=DEFAULT_FILE,
        show_default=True,
        envvar="QUERYBROKER_CONFIG",
        help="The configuration file.  [env: QUERYBROKER_CONFIG]",
    )
    settings = click.option(
        "--set",
        "settings",
        metavar="KEY=VALUE",
        multiple=True,
        help="Override one value, as server.port=50052. Repeatable.",
    )
    return file(settings(command))


def load_configuration(file: Path, settings: Iterable[str], *, database_needed: bool = True) -> Configuration:
    """The configuration of a command. When it is wrong, every finding is printed and the command ends."""
    from broker.config.findings import ConfigError
    from broker.config.loader import load

    try:
        return load(file, os.environ, overrides(settings), database_needed=database_needed)
    except ConfigError as error:
        show_findings(error.findings)
        wrong = sum(finding.severity == "error" for finding in error.findings)
        fail(f"The configuration has {wrong} error{'s' if wrong > 1 else ''}.", Exit.CONFIG)


def overrides(settings: Iterable[str]) -> Mapping[str, object]:
    """Values of ``--set``, by key."""
    values: dict[str, object] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise click.UsageError(f"Cannot read {setting!r}. Write it as --set server.port=50052.")
        values[key.strip()] = value
    return values


def show_findings(findings: Iterable[Finding]) -> None:
    """Prints findings, one a line, to standard error."""
    for finding in findings:
        mark = click.style(finding.severity.value, fg=_COLORS[finding.severity.value], bold=True)
        place = f"{finding.source}:{finding.line}:{finding.column}" if finding.line else finding.source
        path = f"{finding.path}: " if finding.path else ""
        click.echo(
            f"{place}: {mark}: {path}{finding.message}" if place else f"{mark}: {path}{finding.message}",
            err=True,
        )
