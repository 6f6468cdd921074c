"""What the commands over rollups share: jobs of a broker, and the same work in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, TypeVar

import click

from broker.cli.connection import Connection, call
from broker.cli.exits import EndedError, Exit, fail
from broker.cli.rollup_direct import with_direct, with_store
from broker.cli.rollup_names import Target, chosen, short_name
from broker.cli.rollup_ranges import interval_of, span_of

if TYPE_CHECKING:
    from broker.adapters.pg_rollups import PgRollups
    from broker.app.rollup_direct import Direct
    from broker.config.loader import Configuration
    from broker.rollups.refresh import RefreshProgress
    from querybroker.client import Client
    from querybroker.v1.admin_service_pb2 import Rollup, VerifyRollupResponse
    from querybroker.v1.job_pb2 import Job

T = TypeVar("T")
_DAY = 86_400.0
VERIFY_SECONDS = 600.0
"""Deadline of a comparison that is given none; servers cut longer ones to it."""


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
    from broker.cli.watch import follow, show_end

    rollups = listed_rollups(connection, targets)

    async def submitted(client: Client) -> list[Job]:
        ask = getattr(client.rollups, method)
        return [
            await ask(r.name, interval_of(within, r.time_zone), timeout=connection.deadline) for r in rollups
        ]

    jobs = call(connection, submitted, within="")
    for rollup, job in zip(rollups, jobs, strict=True):
        click.echo(f"{short_name(rollup.name)}: {job.name}", err=True)
    if not wait:
        return

    async def followed(client: Client) -> list[Job]:
        return [await follow(client, job.name, console(stderr=True)) for job in jobs]

    codes = [show_end(job, connection.address) for job in call(connection, followed)]
    if any(code is not Exit.OK for code in codes):
        raise EndedError(next(code for code in codes if code is not Exit.OK))


def directly(loaded: Configuration, targets: Sequence[Target], within: str, *, anew: bool) -> None:
    """Builds or refreshes in this process, with a bar for each rollup."""
    from broker.cli.render.console import console

    meant = chosen(loaded.model.datasets, targets)

    async def worked(parts: Direct) -> None:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeElapsedColumn,
        )

        from broker.cli.render.cells import size_text
        from broker.domain.deadline import Deadline
        from broker.domain.rollup import Storage, instant
        from broker.rollups.refresh import Refreshing

        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[at]}", markup=False),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=console(stderr=True)) as progress:
            for dataset, rollups in meant:
                for rollup in rollups:
                    if rollup.storage is Storage.EXTERNAL:
                        progress.print(f"{dataset.name}.{rollup.name}: external, kept by somebody else.")
                        continue
                    task = progress.add_task(f"{dataset.name}.{rollup.name}", total=None, at="")

                    def report(done: RefreshProgress, task: int = task) -> None:
                        from rich.progress import TaskID

                        start = instant(done.span.lo) if done.span is not None else None
                        at = f"{start:%Y-%m-%d} {done.step}" if start is not None and done.step else ""
                        progress.update(TaskID(task), total=done.total, completed=done.done, at=at)

                    asked = Refreshing(span_of(within, rollup.zone), parts.clock.now() if anew else None)
                    deadline = Deadline.after(_DAY, parts.clock.monotonic())
                    made = (await parts.refresher.refresh(dataset, rollup, deadline, asked, report)).progress
                    stored = f"{made.row_count:,} rows, {size_text(made.byte_count)}"
                    busy = f"; {made.busy} are with other refreshers" if made.busy else ""
                    progress.update(task, total=made.total, completed=made.done, at="")
                    progress.print(f"{dataset.name}.{rollup.name}: {_partitions(made.done)}, {stored}{busy}.")

    with_direct(loaded, worked)


def known(loaded: Configuration, targets: Sequence[Target]) -> list[Rollup]:
    """Where rollups stand, read by this process."""
    from broker.transport.encode_rollup import encode_rollup

    async def read(store: PgRollups) -> list[Rollup]:
        return [
            encode_rollup(await store.status(dataset, rollup), 0)
            for dataset, rollups in chosen(loaded.model.datasets, targets)
            for rollup in rollups
        ]

    return with_store(loaded, read)


def verified_directly(
    loaded: Configuration, targets: Sequence[Target], within: str
) -> list[VerifyRollupResponse]:
    """Compares rollups with their source in this process."""
    from broker.transport.encode_rollup import encode_rollup, encode_span
    from querybroker.v1.admin_service_pb2 import VerifyRollupResponse

    meant = chosen(loaded.model.datasets, targets)

    async def compared(parts: Direct) -> list[VerifyRollupResponse]:
        from broker.domain.answer import Interval
        from broker.domain.deadline import Deadline
        from broker.domain.rollup import instant

        found = []
        for dataset, rollups in meant:
            for rollup in rollups:
                span = span_of(within, rollup.zone)
                limits = Interval(instant(span.lo), instant(span.hi))
                deadline = Deadline.after(_DAY, parts.clock.monotonic())
                examined, state = await parts.service.verify(dataset.name, rollup.name, limits, deadline)
                found.append(
                    VerifyRollupResponse(
                        compared_bucket_count=examined.buckets,
                        mismatched_bucket_count=examined.mismatched,
                        mismatches=[encode_span(each) for each in examined.mismatches],
                        rollup=encode_rollup(state, 0),
                    )
                )
        return found

    return with_spinner("comparing", lambda: with_direct(loaded, compared))


def with_spinner(what: str, work: Callable[[], T]) -> T:
    """Shows that something goes on."""
    from broker.cli.render.console import console

    with console(stderr=True).status(what):
        return work()


def show(rollups: Sequence[Rollup], *, partitions: bool) -> None:
    """Prints rollups as tables, and what there is to say of them."""
    from broker.cli.render.console import console
    from broker.cli.render.rollups import partition_table, remarks, rollup_table

    screen = console()
    screen.print(rollup_table(rollups))
    for rollup in rollups if partitions else ():
        screen.print(partition_table(rollup))
    for line in remarks(rollups):
        click.echo(line, err=True)


def tell(found: VerifyRollupResponse) -> None:
    """Says what came of a comparison."""
    from broker.cli.render.status import interval_text

    name, compared = short_name(found.rollup.name), found.compared_bucket_count
    if not compared:
        click.echo(f"{name}: nothing to compare; `broker rollup status {name}` tells what is built.")
        return
    if not found.mismatched_bucket_count:
        click.echo(f"{name}: {compared:,} buckets compared, all equal to the source.")
        return
    click.echo(f"{name}: {found.mismatched_bucket_count:,} of {compared:,} buckets differ from the source:")
    for interval in found.mismatches:
        click.echo(f"  {interval_text(interval)}")
    if found.rollup.state_message:
        click.echo(f"  {found.rollup.state_message}")


def _partitions(count: int) -> str:
    return f"{count:,} partition{'' if count == 1 else 's'}"
