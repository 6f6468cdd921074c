"""``broker cluster``: a Dask cluster on this machine."""

from __future__ import annotations

import os
from importlib.util import find_spec

import click

from broker.cli.exits import CommandError, Exit
from broker.cli.serve import Announcer, owner_gone


@click.command()
@click.option("--workers", type=click.IntRange(1, 64), default=2, show_default=True, help="Worker processes.")
@click.option(
    "--threads",
    type=click.IntRange(1),
    help="Calculations at once in each. By default the processors, divided.",
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on; anyone who reaches it may run code.",
)
@click.option("--port", type=int, default=8786, show_default=True, help="Port of the scheduler.")
@click.option(
    "--owner-fd", type=int, help="For supervisors: stop when this file descriptor, a pipe, is closed."
)
@click.option(
    "--ready-fd",
    type=int,
    help="For supervisors: write a line of JSON to this file descriptor once all workers are there.",
)
def cluster(
    workers: int, threads: int | None, host: str, port: int, owner_fd: int | None, ready_fd: int | None
) -> int:
    """Start a Dask cluster on this machine until SIGTERM or Ctrl-C, which end all of it.

    Brokers and workers use it with `cluster.address` in their configuration. Needs the extra `dask`.
    """
    if find_spec("distributed") is None:
        raise CommandError("Dask is not installed: pip install 'querybroker-server[dask]'", Exit.CONFIG)
    from broker.app.dask import run_cluster
    from broker.app.loop import run

    def ready(address: str) -> None:
        Announcer(ready_fd)({"address": address})
        click.echo(f"broker: cluster at {address}, {workers} workers. Ctrl-C stops it.", err=True)

    async def program() -> None:
        each = threads or max(1, (os.cpu_count() or 1) // workers)
        await run_cluster(host, port, workers, each, ready, owner_gone(owner_fd))

    return run(program())
