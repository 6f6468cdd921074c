"""Rollups of a broker: which are meant, and the jobs that build them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING

import click

from broker.cli.connection import Connection, call
from broker.cli.exits import EndedError, Exit, fail
from broker.cli.rollup_names import Target, short_name
from broker.cli.rollup_ranges import interval_of

if TYPE_CHECKING:
    from querybroker.client import Client
    from querybroker.v1.admin_service_pb2 import Rollup
    from querybroker.v1.job_pb2 import Job


def listed_rollups(connection: Connection, targets: Sequence[Target]) -> list[Rollup]:
    """The rollups of a broker that are meant; no targets mean all. Ends the command when there is none of a name."""

    async def listed(client: Client) -> list[Rollup]:
        found: list[Rollup] = []
        datasets = dict.fromkeys(target.dataset for target in targets) or {"": None}
        for dataset in datasets:
            async with aclosing(client.rollups.list(dataset, timeout=connection.deadline)) as rollups:
                found += [rollup async for rollup in rollups]
        return found

    rollups = call(connection, listed, within="")
    if not targets:
        return rollups
    meant: dict[str, Rollup] = {}
    for target in targets:
        own = {r.name: r for r in rollups if target.holds(*short_name(r.name).split("."))}
        if not own:
            known = ", ".join(short_name(rollup.name) for rollup in rollups)
            fail(f"The broker has no rollup {target}{f'; it has {known}' if known else ''}.", Exit.REFUSED)
        meant |= own
    return list(meant.values())


def as_jobs(
    connection: Connection, targets: Sequence[Target], within: str, method: str, *, wait: bool
) -> None:
    """Submits a job for each rollup and follows them to their ends, one after the other."""
    from broker.cli.render.console import console
    from broker.cli.watch import follow, going_on, show_end

    rollups = listed_rollups(connection, targets)

    async def submitted(client: Client) -> list[Job]:
        ask = getattr(client.rollups, method)
        return [
            await ask(r.name, interval_of(within, r.time_zone), timeout=connection.deadline) for r in rollups
        ]

    jobs = call(connection, submitted, within="")
    with going_on(*(job.name for job in jobs)):
        for rollup, job in zip(rollups, jobs, strict=True):
            click.echo(f"{short_name(rollup.name)}: {job.name}", err=True)
        if not wait:
            return

        async def followed(client: Client) -> list[Job]:
            return [await follow(client, job.name, console(stderr=True)) for job in jobs]

        ended = call(connection, followed)
    codes = [show_end(job, connection.address) for job in ended]
    if any(code is not Exit.OK for code in codes):
        raise EndedError(next(code for code in codes if code is not Exit.OK))
