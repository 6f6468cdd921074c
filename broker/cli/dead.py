"""``broker jobs dead``: jobs that failed for good, and what an operator may do with them."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

import click

from broker.cli.connection import Connection, call, connection_options
from broker.cli.exits import Exit, fail
from broker.cli.group import Group
from broker.cli.job_names import full_name, short_name

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from querybroker.client import Client
    from querybroker.v1.job_pb2 import Job

MOST = 10_000
"""Most jobs that one command takes."""
AT_ONCE = 8


@click.group(cls=Group)
def dead() -> None:
    """Jobs in the dead-letter queue: show them, queue them again, delete them."""


def _chosen(command: Callable[..., object]) -> Callable[..., object]:
    command = click.option("--all", "every", is_flag=True, help="All of the tenant.")(command)
    return click.argument("names", nargs=-1)(command)


@dead.command("list")
@click.option(
    "-n", "--limit", type=click.IntRange(1, MOST), default=20, show_default=True, help="Most to list."
)
@connection_options
def list_(limit: int, connection: Connection) -> None:
    """List them with the reason of their last attempt, newest first."""
    from broker.cli.render.console import console, listing

    found = call(connection, lambda client: _dead(client, limit, connection.deadline))
    table = listing(("job", "owner", "attempts", "why"), right=("attempts",))
    for job in found:
        table.add_row(short_name(job.name), job.owner, str(job.attempt), job.error.message)
    console().print(table if found else "No jobs failed for good.")


@dead.command()
@_chosen
@click.option(
    "--attempts", type=click.IntRange(1, 100), default=1, show_default=True, help="Attempts in addition."
)
@connection_options
def requeue(names: tuple[str, ...], every: bool, attempts: int, connection: Connection) -> None:
    """Queue jobs again, by NAMES or all."""

    async def again(client: Client, name: str) -> object:
        return await client.jobs.requeue(name, attempts=attempts, timeout=connection.deadline)

    click.echo(f"{_each(names, every, connection, again)} queued again.")


@dead.command()
@_chosen
@connection_options
def purge(names: tuple[str, ...], every: bool, connection: Connection) -> None:
    """Delete jobs for good, by NAMES or all."""

    async def gone(client: Client, name: str) -> None:
        if not (await client.jobs.get(name, timeout=connection.deadline)).dead_lettered:
            fail(f"{name} is not in the dead-letter queue.", Exit.REFUSED)
        await client.jobs.delete(name, timeout=connection.deadline)

    click.echo(f"{_each(names, every, connection, gone)} deleted.")


def _each(
    names: tuple[str, ...],
    every: bool,
    connection: Connection,
    do: Callable[[Client, str], Awaitable[object]],
) -> int:
    """Does it for the jobs that were chosen, a few at once; how many they were."""
    if bool(names) == every:
        fail("Name the jobs, or pass --all.", Exit.USAGE)

    async def run(client: Client) -> int:
        chosen = [full_name(name) for name in names]
        if every:
            chosen = [job.name for job in await _dead(client, MOST, connection.deadline)]
        for start in range(0, len(chosen), AT_ONCE):
            await asyncio.gather(*(do(client, name) for name in chosen[start : start + AT_ONCE]))
        return len(chosen)

    return call(connection, run)


async def _dead(client: Client, limit: int, deadline: float | None) -> list[Job]:
    """The newest ones that the caller may see: of the whole tenant with the grant jobs.read_all, else their own."""
    from querybroker.errors import QueryBrokerError

    async def newest(*, all_owners: bool) -> list[Job]:
        found: list[Job] = []
        listed = client.jobs.list(all_owners=all_owners, dead_lettered=True, timeout=deadline)
        async with aclosing(listed):
            async for job in listed:
                found.append(job)
                if len(found) == limit:
                    break
        return found

    try:
        return await newest(all_owners=True)
    except QueryBrokerError as error:
        if error.reason != "PERMISSION_DENIED":
            raise
        return await newest(all_owners=False)
