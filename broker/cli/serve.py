"""``broker serve`` and ``broker worker``: the processes of the product."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from broker.cli.configuration import configuration_options, load_configuration, show_findings

if TYPE_CHECKING:
    from broker.app.serve import ServerInfo
    from broker.config.loader import Configuration


def _supervised(command: Callable[..., object]) -> Callable[..., object]:
    """Adds the options for those who start this process as a part of something larger."""
    owner = click.option(
        "--owner-fd", type=int, help="For supervisors: stop when this file descriptor, a pipe, is closed."
    )
    ready = click.option(
        "--ready-fd",
        type=int,
        help="For supervisors: write a line of JSON to this file descriptor once it serves.",
    )
    first = click.option(
        "--migrate", "migrate_first", is_flag=True, help="Make or update the broker's own tables first."
    )
    return first(ready(owner(command)))


@click.command()
@configuration_options
@_supervised
def serve(
    file: Path, settings: tuple[str, ...], migrate_first: bool, ready_fd: int | None, owner_fd: int | None
) -> int:
    """Run the broker until SIGTERM or Ctrl-C, then drain it.

    A second signal ends what still runs at once. Logs go to standard error.
    """
    loaded = _load(file, settings, migrate_first)
    from broker.app.serve import run_server

    def ready(info: ServerInfo) -> None:
        _announce(ready_fd, {"address": info.address, "metrics": info.metrics_address})
        metrics = f", metrics at http://{info.metrics_address}/metrics" if info.metrics_address else ""
        click.echo(f"broker: serving at {info.address}{metrics}. Ctrl-C stops it.", err=True)

    async def program() -> None:
        await run_server(loaded.settings, loaded.model, ready=ready, stop=_owner_gone(owner_fd))

    return _run(program())


@click.command()
@configuration_options
@_supervised
def worker(
    file: Path, settings: tuple[str, ...], migrate_first: bool, ready_fd: int | None, owner_fd: int | None
) -> int:
    """Run a worker for jobs until SIGTERM or Ctrl-C; jobs that it holds then go to other workers.

    Start as many as you like, on any machine that reaches the databases and the folder of results.
    """
    loaded = _load(file, settings, migrate_first)
    from broker.app.work import run_worker

    def ready(*_: object) -> None:
        _announce(ready_fd, {})
        click.echo("broker: worker ready. Ctrl-C stops it.", err=True)

    async def program() -> None:
        await run_worker(loaded.settings, loaded.model, ready=ready, stop=_owner_gone(owner_fd))

    return _run(program())


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


def _owner_gone(owner_fd: int | None) -> asyncio.Event:
    """An event that is set when the other end of the pipe is closed, as the kernel does when its process ends."""
    gone = asyncio.Event()
    if owner_fd is not None:
        loop = asyncio.get_running_loop()

        def hang_up() -> None:
            loop.remove_reader(owner_fd)
            gone.set()

        loop.add_reader(owner_fd, hang_up)
    return gone
