"""``broker jobs``: list, get, cancel, download, and what is dead."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from broker.cli.connection import Connection, call, connection_options
from broker.cli.dead import dead
from broker.cli.exits import Exit, fail
from broker.cli.group import Group
from broker.cli.job_names import job_name_argument, short_name

if TYPE_CHECKING:
    from rich.console import Console

    from querybroker.client import Client
    from querybroker.v1.job_pb2 import Job

STATES = ("queued", "running", "succeeded", "failed", "cancelled", "expired")


@click.group(cls=Group)
def jobs() -> None:
    """List jobs, show or cancel one, download its result."""


jobs.add_command(dead)


@jobs.command("list")
@click.option("--state", multiple=True, type=click.Choice(STATES), help="Only these. Repeatable.")
@click.option("--all", "all_owners", is_flag=True, help="Those of the whole tenant (grant jobs.read_all).")
@click.option("--dead", is_flag=True, help="Only those that failed for good and wait for an operator.")
@click.option(
    "-n", "--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Most jobs to list."
)
@connection_options
def list_(state: tuple[str, ...], all_owners: bool, dead: bool, limit: int, connection: Connection) -> None:
    """List your jobs, newest first."""
    from broker.cli.render.console import console, listing

    async def newest(client: Client) -> list[Job]:
        found: list[Job] = []
        listed = client.jobs.list(
            states=state, all_owners=all_owners, dead_lettered=dead, timeout=connection.deadline
        )
        async with aclosing(listed):
            async for job in listed:
                found.append(job)
                if len(found) == limit:
                    break
        return found

    table = listing(("job", "state", "submitted", "rows", "attempt"), right=("rows", "attempt"))
    found = call(connection, newest)
    for job in found:
        table.add_row(*_summary(job))
    console().print(table if found else "No jobs.")


@jobs.command()
@job_name_argument
@connection_options
def get(name: str, connection: Connection) -> None:
    """Show a job, with everything that is known of it, as JSON."""
    from google.protobuf.json_format import MessageToJson

    job = call(connection, lambda client: client.jobs.get(name, timeout=connection.deadline))
    click.echo(MessageToJson(job, preserving_proto_field_name=True, ensure_ascii=False))


@jobs.command()
@job_name_argument
@connection_options
def cancel(name: str, connection: Connection) -> None:
    """Ask a job to stop; its query is cancelled in the database as well."""
    job = call(connection, lambda client: client.jobs.cancel(name, timeout=connection.deadline))
    click.echo(f"{job.name}: {_state(job)}. `broker watch {job.name}` shows its end.")


@jobs.command()
@job_name_argument
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    help="Folder for the files; the current one if not given.",
)
@connection_options
def download(name: str, output: Path, connection: Connection) -> None:
    """Download the files of a result, each verified by its SHA-256."""
    from broker.cli.render.console import console
    from querybroker.v1 import job_pb2

    async def downloaded(client: Client) -> None:
        job = await client.jobs.get(name, timeout=connection.deadline)
        if job.state != job_pb2.JOB_STATE_SUCCEEDED:
            fail(f"{name} is {_state(job)} and has no result.", Exit.JOB)
        await download_all(client, job, output, console(stderr=True))

    call(connection, downloaded)


async def download_all(client: Client, job: Job, folder: Path, console: Console) -> list[Path]:
    """Writes the files of a result into a folder, which is made if need be, and says so."""
    from broker.cli.render.cells import size_text

    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    written: list[Path] = []
    for part in job.result.parts:
        # The name comes from the broker: only its last component may decide where the file goes.
        target = folder / (Path(part.file_name).name or f"part-{part.part_index}")
        with console.status(f"downloading {target}"):
            await client.jobs.download(job.name, target, part.part_index)
        written.append(target)
        digest = part.sha256.hex()
        console.print(
            f"{target}  {size_text(part.byte_count)}  SHA-256 {digest} verified",
            highlight=False,
            soft_wrap=True,
        )
    return written


def _state(job: Job) -> str:
    from broker.cli.render.status import short
    from querybroker.v1 import job_pb2

    if job.cancel_requested and job.state == job_pb2.JOB_STATE_RUNNING:
        return "cancelling"
    return short(job_pb2.JobState.DESCRIPTOR, job.state)


def _summary(job: Job) -> tuple[str, ...]:
    from datetime import UTC

    from broker.cli.render.status import clock_text

    rows = job.result.row_count or job.progress.row_count
    submitted = clock_text(job.create_time.ToDatetime(UTC))
    return (
        short_name(job.name),
        _state(job),
        submitted,
        f"{rows:,}" if rows else "",
        f"{job.attempt}/{job.max_attempts}",
    )
