"""``broker demo``: everything in one command, from nothing to a dashboard."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from broker.adapters.migrate import MigrationError
from broker.demo.children import ChildError
from broker.demo.embedded import EmbeddedPostgres
from broker.demo.flights_source import DemoDataError
from broker.demo.install import EmbeddedPostgresError
from broker.demo.stack import Place, PortTakenError, Running, choose_port, postgres, prepare, processes
from broker.demo.tour import Tour, TourError, next_steps, shown_path

EXPECTED = (ChildError, DemoDataError, EmbeddedPostgresError, MigrationError, PortTakenError, TourError)
"""Errors whose text says everything."""
INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Options:
    """``once`` makes the tour and ends; ``rows`` loads a sample; ``port`` None takes the first free one."""

    home: Path
    once: bool = False
    rows: int | None = None
    port: int | None = None


def run(options: Options, console: Console) -> int:
    """Runs the demonstration until the tour is over or somebody ends it; returns the exit code."""
    try:
        return asyncio.run(_until_signal(options, console))
    except KeyboardInterrupt:
        return INTERRUPTED
    except EXPECTED as error:
        click.echo(f"{click.style('broker demo:', fg='red', bold=True)} {error}")
        return 1


async def _until_signal(options: Options, console: Console) -> int:
    """Ctrl-C and SIGTERM cancel; while it serves they are the ordinary end, before that an interruption."""
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    serving = asyncio.Event()
    try:
        await demo(options, console, serving)
    except asyncio.CancelledError:
        if serving.is_set():
            return 0
        click.echo("Stopped.")
        return INTERRUPTED
    return 0


async def demo(options: Options, console: Console, serving: asyncio.Event) -> None:
    """Starts everything, makes the tour, serves. ``serving`` is set once only a signal ends it."""
    port = choose_port(options.port)  # first of all: nothing is started for a port that cannot be had
    place = Place(options.home)
    await asyncio.to_thread(place.home.mkdir, parents=True, exist_ok=True)
    async with AsyncExitStack() as stack:
        with console.status("starting PostgreSQL"):
            server = await stack.enter_async_context(postgres(place))
        dsn = await _prepared(server, options.rows, console)
        with console.status("starting broker and worker"):
            running = await stack.enter_async_context(processes(place, dsn, port))
        stack.callback(
            click.echo, "Stopping: calls under way may end, then broker, worker and PostgreSQL stop."
        )
        click.echo(f"{_label('Broker')}{running.address}, log {shown_path(place.log('broker'))}")
        click.echo(f"{_label('Metrics')}{running.metrics or 'none: no port is free'}\n")
        tour = Tour(console, running.address, place.home)
        await _guarded(running, tour.dashboard())
        await _guarded(running, tour.rollups())
        if options.once:
            await _guarded(running, tour.rest())
            return
        console.rule("[bold]What to try next, in another terminal", align="left")
        for line in next_steps(tour, running.metrics, dsn):
            click.echo(f"{click.style('$', fg='green')} {line}")
        click.echo("\nServing. Ctrl-C stops everything.")
        serving.set()
        await running.failed()


async def _prepared(server: EmbeddedPostgres, rows: int | None, console: Console) -> str:
    """Loads the flights with a progress bar, unless they are there; returns the address of the database."""
    columns = (SpinnerColumn(), TextColumn("loading the flights of 2013"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as progress:
        task = progress.add_task("", total=None)
        dsn, loaded = await prepare(
            server, rows, lambda done, total: progress.update(task, completed=done, total=total)
        )
    state = "loaded" if loaded.fresh else "there from before"
    counts = ", ".join(f"{count:,} {name}" for name, count in loaded.rows.items())
    click.echo(f"{_label('PostgreSQL')}{server.data_dir}, port {server.port}; {counts}, {state}")
    return dsn


def _label(name: str) -> str:
    return click.style(f"{name:<11}", bold=True)


async def _guarded(running: Running, work: Coroutine[object, object, None]) -> None:
    """Does some work, unless a child ends before: then raises `ChildError`."""
    working = asyncio.create_task(work)
    failing = asyncio.create_task(running.failed())
    try:
        await asyncio.wait({working, failing}, return_when=asyncio.FIRST_COMPLETED)
        if failing.done():
            failing.result()
        await working
    finally:
        for task in (working, failing):
            task.cancel()
        await asyncio.wait({working, failing})
