"""``broker serve`` and ``broker worker``: the processes of the product."""

from __future__ import annotations

import json
import os
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from broker.cli.configuration import configuration_options, load_configuration, show_findings

if TYPE_CHECKING:
    from broker.app.serve import ServerInfo
    from broker.config.loader import Configuration

_ready_option = click.option(
    "--ready-fd",
    type=int,
    help="For supervisors: write one line of JSON to this file descriptor once it serves.",
)


@click.command()
@configuration_options
@click.option("--migrate", "migrate_first", is_flag=True, help="Make or update the broker's tables first.")
@_ready_option
def serve(file: Path, settings: tuple[str, ...], migrate_first: bool, ready_fd: int | None) -> int:
    """Run the broker until SIGTERM or Ctrl-C, then drain it.

    A second signal ends what still runs at once. Logs go to standard error.
    """
    from broker.app.serve import run_server

    loaded = _load(file, settings, migrate_first)

    def ready(info: ServerInfo) -> None:
        _announce(ready_fd, {"address": info.address, "metrics": info.metrics_address})
        metrics = f", metrics at {info.metrics_address}" if info.metrics_address else ""
        click.echo(f"broker: serving at {info.address}{metrics}. Ctrl-C stops it.", err=True)

    return _run(run_server(loaded.settings, loaded.model, ready=ready))


@click.command()
@configuration_options
@click.option("--migrate", "migrate_first", is_flag=True, help="Make or update the broker's tables first.")
@_ready_option
def worker(file: Path, settings: tuple[str, ...], migrate_first: bool, ready_fd: int | None) -> int:
    """Run a worker for jobs until SIGTERM or Ctrl-C; jobs that it holds then go to other workers.

    Start as many as you like, on any machine that reaches the databases and the folder of results.
    """
    from broker.app.work import run_worker

    loaded = _load(file, settings, migrate_first)

    def ready(*_: object) -> None:
        _announce(ready_fd, {})
        click.echo("broker: worker ready. Ctrl-C stops it.", err=True)

    return _run(run_worker(loaded.settings, loaded.model, ready=ready))


def _load(file: Path, settings: tuple[str, ...], migrate_first: bool) -> Configuration:
    loaded = load_configuration(file, settings)
    show_findings(loaded.findings)
    if migrate_first:
        from broker.cli.migrate import apply_all

        apply_all(loaded.settings.jobs.dsn)
    return loaded


def _run(program: Coroutine[object, object, None]) -> int:
    from broker.app.loop import run

    return run(program)


def _announce(ready_fd: int | None, info: Mapping[str, str]) -> None:
    if ready_fd is not None:
        with os.fdopen(ready_fd, "w", encoding="utf-8") as pipe:
            pipe.write(json.dumps(info) + "\n")
