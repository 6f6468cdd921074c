"""``broker watch``: a job followed to its end, with a progress bar."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from broker.cli.connection import Connection, call, connection_options
from broker.cli.exits import EndedError, Exit, fail
from broker.cli.job_names import job_name_argument
from broker.cli.render.counts import count_text

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from querybroker.client import Client
    from querybroker.v1.job_pb2 import Job


@click.command()
@job_name_argument
@connection_options
def watch(name: str, connection: Connection) -> None:
    """Follow a job to its end. Ctrl-C stops watching, not the job: `broker jobs cancel` does that.

    NAME is tenants/TENANT/jobs/ID; the ID alone means a job of the tenant `default`. With --deadline it is followed for
    so long at most.
    """
    from broker.cli.render.console import console
    from querybroker.errors import QueryBrokerError

    async def followed(client: Client) -> Job:
        try:
            return await follow(client, name, console(stderr=True), connection.deadline)
        except QueryBrokerError as error:
            if error.code != "DEADLINE_EXCEEDED":
                raise
            fail(f"The deadline has passed. {_not_stopped(name)}", Exit.DEADLINE)

    with going_on(name):
        job = call(connection, followed)
    code = show_end(job, connection.address)
    if code is Exit.OK:
        click.echo(f"Download it with `broker jobs download {job.name}`.", err=True)
    raise EndedError(code)


@contextmanager
def going_on(*names: str) -> Iterator[None]:
    """Says after Ctrl-C that the jobs are not stopped by it."""
    try:
        yield
    except KeyboardInterrupt:
        click.echo(_not_stopped(*names), err=True)
        raise


def _not_stopped(*names: str) -> str:
    what, which, name = ("job is", "it", *names) if len(names) == 1 else ("jobs are", "one", "NAME")
    text = f"`broker watch {name}` follows {which}, `broker jobs cancel {name}` stops it."
    return f"The {what} not stopped by this: {text}"


async def follow(client: Client, name: str, console: Console, seconds: float | None = None) -> Job:
    """Shows the job as it changes until it has ended, and returns it; for so many seconds at most."""
    last: Job | None = None
    with _progress(console) as progress:
        task = progress.add_task("queued", total=None, rows="")
        async for last in client.jobs.watch(name, timeout=seconds):
            advance(progress, task, last)
    assert last is not None
    return last


def advance(progress: Progress, task: int, job: Job) -> None:
    """Brings the bar to where the job is."""
    from rich.progress import TaskID

    from broker.cli.render.cells import size_text
    from broker.cli.render.status import short
    from querybroker.v1 import job_pb2

    state = short(job_pb2.JobState.DESCRIPTOR, job.state)
    stage = short(job_pb2.JobStage.DESCRIPTOR, job.stage).replace("_", " ")
    given = job.progress
    running = job.state == job_pb2.JOB_STATE_RUNNING and stage != "cancelling"
    label = given.phase if running and given.phase else state if stage == "unspecified" else stage
    rows = f"{given.row_count:,} rows, {size_text(given.byte_count)}" if given.row_count else ""
    if given.row_rate:
        rows += f", {given.row_rate:,.0f} rows/s"
    if running:
        rows = "; ".join(filter(None, (rows, *outlook(job))))
    done = job.state == job_pb2.JOB_STATE_SUCCEEDED
    known = given.fraction_known or done
    progress.update(
        TaskID(task),
        description=label,
        total=1.0 if known else None,
        completed=1.0 if done else given.fraction,
        rows=rows,
    )


def outlook(job: Job) -> Iterator[str]:
    """What a running job is at, and how long it will take, both by the server's clock."""
    from broker.cli.render.cells import duration_text
    from broker.cli.render.status import interval_text

    if job.HasField("estimated_time"):
        left = job.estimated_time.ToNanoseconds() - job.update_time.ToNanoseconds()
        yield f"about {duration_text(left / 1e9)} left"
    if job.progress.HasField("interval"):
        yield interval_text(job.progress.interval)
    if job.progress.message:
        yield job.progress.message


def show_end(job: Job, address: str) -> Exit:
    """Says how a job ended, and what to do with it. Returns the exit code."""
    from broker.cli.failures import show_error
    from broker.cli.render.cells import size_text
    from broker.cli.render.status import short
    from querybroker.errors import QueryBrokerError
    from querybroker.v1 import job_pb2

    if job.state == job_pb2.JOB_STATE_SUCCEEDED:
        files = count_text(len(job.result.parts), "file")
        kept = f" in {files}" if job.result.parts else ""  # what a rollup holds is no file
        told = f"{count_text(job.result.row_count, 'row')}{kept}, {size_text(job.result.byte_count)}"
        empty = not (job.result.row_count or job.result.byte_count or job.result.parts)
        click.echo(f"{job.name}: {'succeeded; nothing was written' if empty else told}.", err=True)
        return Exit.OK
    state = short(job_pb2.JobState.DESCRIPTOR, job.state)
    if job.HasField("error"):
        show_error(QueryBrokerError.from_status(job.error), address, subject=f"{job.name} {state}")
    else:
        click.echo(f"{job.name}: {state}.", err=True)
    return Exit.JOB


def _progress(console: Console) -> Progress:
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[rows]}", markup=False),
        TimeElapsedColumn(),
        console=console,
    )
