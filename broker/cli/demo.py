"""``broker demo``: everything in one command."""

from __future__ import annotations

import os
from pathlib import Path

import click

from broker.cli.exits import EndedError, Exit


@click.command()
@click.option("--once", is_flag=True, help="Make the whole tour, stop everything and exit.")
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where to keep data, logs and results; the next start finds them.  [default: ~/.local/share/querybroker/demo]",
)
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Port of the broker.  [default: the first free from 50051]"
)
@click.option(
    "--rows", type=click.IntRange(1, 336_776), help="Load a sample of that many flights instead of all."
)
def demo(once: bool, directory: Path | None, port: int | None, rows: int | None) -> None:
    """Start a PostgreSQL with all flights that left New York in 2013, a broker and a worker; show a dashboard; serve.

    Nothing needs to be installed or configured, and nothing is downloaded. Ctrl-C stops everything in order.
    """
    from rich.console import Console

    from broker.demo.run import Options, run

    home = (directory or _default_directory()).expanduser().resolve()
    code = run(Options(home, once, rows, port), Console())
    if code:
        raise EndedError(Exit(code))


def _default_directory() -> Path:
    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(data) / "querybroker" / "demo"
