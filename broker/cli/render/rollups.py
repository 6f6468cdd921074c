"""Rollups as tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime

import click
from google.protobuf.timestamp_pb2 import Timestamp
from rich.table import Table
from rich.text import Text

from broker.cli.render.cells import size_text
from broker.cli.render.console import console, listing
from broker.cli.render.status import clock_text, interval_text, short
from broker.cli.rollup_names import short_name
from querybroker.v1 import admin_service_pb2 as pb
from querybroker.v1 import query_pb2

_STYLES = {
    pb.ROLLUP_STATE_ACTIVE: "green",
    pb.ROLLUP_STATE_QUARANTINED: "bold red",
    pb.ROLLUP_STATE_MISMATCHED: "red",
    pb.ROLLUP_STATE_BUILDING: "cyan",
}
_COLUMNS = (
    *("rollup", "state", "kept in", "grains", "built", "changed"),
    *("rows", "size", "as of", "answers", "verified"),
)
_RIGHT = frozenset({"built", "changed", "rows", "size", "answers", "version"})


def rollup_table(rollups: Iterable[pb.Rollup]) -> Table:
    """One line for each rollup."""
    table = listing(_COLUMNS, right=_RIGHT)
    for rollup in rollups:
        built = [p for p in rollup.partitions if p.state != pb.PARTITION_STATE_ABSENT]
        changed = sum(p.dirty_bucket_count for p in built)
        oldest = min((p.as_of.ToDatetime(UTC) for p in built if p.HasField("as_of")), default=None)
        table.add_row(
            short_name(rollup.name),
            Text(short(pb.RollupState.DESCRIPTOR, rollup.state), style=_STYLES.get(rollup.state, "")),
            short(pb.RollupStorage.DESCRIPTOR, rollup.storage),
            ", ".join(short(query_pb2.TimeGrain.DESCRIPTOR, grain) for grain in rollup.grains),
            f"{len(built)} of {len(rollup.partitions)}" if rollup.partitions else "",
            f"{changed:,}" if changed else "",
            f"{rollup.row_count:,}" if built else "",
            size_text(rollup.byte_count) if rollup.byte_count else "",
            _clock(oldest),
            f"{rollup.hit_count:,}" if rollup.hit_count else "",
            _clock(rollup.verify_time.ToDatetime(UTC) if rollup.HasField("verify_time") else None),
        )
    return table


def partition_table(rollup: pb.Rollup) -> Table:
    """One line for each partition of a rollup; the newest last."""
    columns = ("from", "to", "state", "version", "changed", "rows", "size", "as of")
    table = listing(columns, title=short_name(rollup.name), right=_RIGHT)
    for partition in rollup.partitions:
        interval = partition.interval
        built = partition.state != pb.PARTITION_STATE_ABSENT
        table.add_row(
            _end(interval.start_time if interval.HasField("start_time") else None),
            _end(interval.end_time if interval.HasField("end_time") else None),
            short(pb.PartitionState.DESCRIPTOR, partition.state),
            str(partition.version) if built else "",
            f"{partition.dirty_bucket_count:,}" if partition.dirty_bucket_count else "",
            f"{partition.row_count:,}" if built else "",
            size_text(partition.byte_count) if partition.byte_count else "",
            _clock(partition.as_of.ToDatetime(UTC) if partition.HasField("as_of") else None),
        )
    return table


def remarks(rollups: Iterable[pb.Rollup]) -> Iterator[str]:
    """What there is to say of rollups beside their lines, and what to do about it."""
    for rollup in rollups:
        name, absent = (
            short_name(rollup.name),
            [p for p in rollup.partitions if p.state == pb.PARTITION_STATE_ABSENT],
        )
        if rollup.state_message:
            yield f"{name}: {rollup.state_message}"
        if rollup.state == pb.ROLLUP_STATE_QUARANTINED:
            yield f"{name}: find out why, `broker rollup build {name}`, then `broker rollup release {name}`."
        elif rollup.state == pb.ROLLUP_STATE_INSTALLED and absent:
            yield f"{name}: nothing is built yet; a worker does it, or `broker rollup build {name}`."


def _clock(instant: datetime | None) -> str:
    return "" if instant is None else clock_text(instant)


def _end(at: Timestamp | None) -> str:
    return "…" if at is None else clock_text(at.ToDatetime(UTC))


def show(rollups: Sequence[pb.Rollup], *, partitions: bool) -> None:
    """Prints rollups as tables, and what there is to say of them."""
    screen = console()
    screen.print(rollup_table(rollups))
    for rollup in rollups if partitions else ():
        screen.print(partition_table(rollup))
    for line in remarks(rollups):
        click.echo(line, err=True)


def tell(found: pb.VerifyRollupResponse) -> None:
    """Says what came of a comparison."""
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
