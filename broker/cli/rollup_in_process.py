"""What ``--direct`` does with rollups, in this process: builds them, looks at them, compares them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from broker.cli.render.counts import count_text
from broker.cli.rollup_direct import with_direct, with_store
from broker.cli.rollup_names import Target, chosen
from broker.cli.rollup_ranges import span_of

if TYPE_CHECKING:
    from broker.adapters.pg_rollups import PgRollups
    from broker.app.rollup_direct import Direct
    from broker.config.loader import Configuration
    from broker.rollups.refresh import RefreshProgress
    from querybroker.v1.admin_service_pb2 import Rollup, VerifyRollupResponse

_DAY = 86_400.0


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
                    partitions = count_text(made.done, "partition")
                    progress.print(f"{dataset.name}.{rollup.name}: {partitions}, {stored}{busy}.")

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

    return with_direct(loaded, compared)
