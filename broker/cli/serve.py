"""``broker serve`` and ``broker worker``: the processes of the product."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from broker.cli.configuration import configuration_options, load_configuration, show_findings

if TYPE_CHECKING:
    from broker.app.serve import ServerInfo
    from broker.app.stopping import Order
    from broker.config.loader import Configuration
    from broker.runtime.child import Said

MOST_PROCESSES = 64


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
@click.option(
    "--processes",
    type=click.IntRange(1, MOST_PROCESSES),
    default=1,
    show_default=True,
    help="Serve with so many processes on one port; they share the seats of the databases.",
)
@click.option("--index", type=int, hidden=True, help="Which of the processes this one is.")
def serve(
    file: Path,
    settings: tuple[str, ...],
    migrate_first: bool,
    ready_fd: int | None,
    owner_fd: int | None,
    processes: int,
    index: int | None,
) -> int:
    """Run the broker until SIGTERM or Ctrl-C, then drain it.

    A second signal ends what still runs at once. Logs go to standard error.
    """
    if processes > 1 and index is None:
        loaded = _load(file, settings, migrate_first)
        return _parent(loaded, file, settings, processes, ready_fd, owner_fd)
    loaded = _load(file, settings, migrate_first, quiet=index is not None)
    from broker.app.member import Member
    from broker.app.serve import run_server

    announce = Announcer(ready_fd)

    def ready(info: ServerInfo) -> None:
        told = {"address": info.address, "metrics": info.metrics_address}
        if index is not None:
            announce({**told, "process": index, "pid": os.getpid()}, last=False)
            return
        announce(told)
        metrics = f", metrics at http://{info.metrics_address}/metrics" if info.metrics_address else ""
        click.echo(f"broker: serving at {info.address}{metrics}. Ctrl-C stops it.", err=True)

    def drained(grace: float | None) -> None:
        if index is not None:
            announce({"draining": grace})

    async def program() -> None:
        member = Member(index, processes, drained)
        await run_server(loaded.settings, loaded.model, ready=ready, stop=owner_gone(owner_fd), member=member)

    return _run(program())


def _parent(
    loaded: Configuration,
    file: Path,
    settings: tuple[str, ...],
    processes: int,
    ready_fd: int | None,
    owner_fd: int | None,
) -> int:
    from broker.app.processes import run_processes

    chosen = [part for setting in settings for part in ("--set", setting)]
    command = [
        sys.executable,
        "-m",
        "broker",
        "serve",
        "-c",
        str(file),
        *chosen,
        "--processes",
        str(processes),
    ]

    def ready(address: str, infos: Sequence[Said]) -> None:
        metrics = [str(info["metrics"]) for info in infos if info["metrics"]]
        told = {
            "address": address,
            "metrics": ",".join(metrics),
            "processes": [info["pid"] for info in infos],
        }
        Announcer(ready_fd)(told)
        shown = f", metrics at {' '.join(f'http://{at}/metrics' for at in metrics)}" if metrics else ""
        click.echo(f"broker: {processes} processes serve at {address}{shown}. Ctrl-C stops them.", err=True)

    return run_processes(loaded.settings, processes, command, ready=ready, stop=lambda: owner_gone(owner_fd))


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
        Announcer(ready_fd)({})
        click.echo("broker: worker ready. Ctrl-C stops it.", err=True)

    async def program() -> None:
        await run_worker(loaded.settings, loaded.model, ready=ready, stop=owner_gone(owner_fd))

    return _run(program())


def _load(
    file: Path, settings: tuple[str, ...], migrate_first: bool, *, quiet: bool = False
) -> Configuration:
    loaded = load_configuration(file, settings)
    if not quiet:
        show_findings(loaded.findings)
    if migrate_first:
        from broker.cli.migrate import apply_all

        apply_all(loaded)
    return loaded


def _run(program: Coroutine[object, object, None]) -> int:
    from broker.app.loop import run
    from broker.runtime.scratch import scratch

    try:
        scratch()
    except OSError as error:
        program.close()
        raise click.ClickException(f"There is no place for temporary files: {error}.") from None
    return run(program)


class Announcer:
    """Tells a supervisor, if there is one, in lines of JSON; it may have stopped listening."""

    def __init__(self, ready_fd: int | None) -> None:
        self._pipe = None if ready_fd is None else os.fdopen(ready_fd, "w", encoding="utf-8")

    def __call__(self, info: Mapping[str, object], *, last: bool = True) -> None:
        """One line; nothing is told after the last one."""
        if self._pipe is None:
            return
        with suppress(BrokenPipeError):
            self._pipe.write(json.dumps(info) + "\n")
            self._pipe.flush()
        if last:
            pipe, self._pipe = self._pipe, None
            with suppress(BrokenPipeError):
                pipe.close()


def owner_gone(owner_fd: int | None) -> Order:
    """Set when the other end of the pipe is closed, as the kernel does when its process ends.

    A line that is written to it orders the same, and says how many seconds running calls have.
    """
    from broker.app.stopping import Order

    gone = Order()
    if owner_fd is not None:
        loop = asyncio.get_running_loop()

        def hang_up() -> None:
            loop.remove_reader(owner_fd)
            if line := os.read(owner_fd, 64):
                gone.grace = float(line)
            gone.set()

        loop.add_reader(owner_fd, hang_up)
    return gone
