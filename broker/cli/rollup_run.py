"""``broker rollup build``, ``refresh``, ``status``, ``verify`` and ``release``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from broker.cli.configuration import configuration_options, load_configuration
from broker.cli.connection import Connection, call, connection_options
from broker.cli.exits import EndedError, Exit
from broker.cli.rollup_in_process import directly, known, verified_directly
from broker.cli.rollup_jobs import as_jobs, listed_rollups
from broker.cli.rollup_names import Target, chosen, resource, short_name, targets_argument
from broker.cli.rollup_ranges import interval_of

if TYPE_CHECKING:
    from broker.app.rollup_direct import Direct
    from querybroker.client import Client
    from querybroker.v1.admin_service_pb2 import VerifyRollupResponse

_VERIFY_SECONDS = 600.0
"""Deadline of a comparison that is given none; servers cut longer ones to it."""
_RANGE = click.option(
    "-r",
    "--range",
    "within",
    metavar="RANGE",
    default="",
    help="Only what touches this range, as 2013-04, 2013-01-01..2013-04-01 or 2020-01-01.. in the rollup's zone.",
)
_DIRECT = click.option("--direct", is_flag=True, help="Do it without a broker, with the configuration.")
_NO_WAIT = click.option("--no-wait", is_flag=True, help="Submit the job and end; `broker watch` follows it.")


@click.command()
@targets_argument(required=True)
@_RANGE
@_NO_WAIT
@_DIRECT
@configuration_options
@connection_options
def build(
    targets: tuple[Target, ...],
    within: str,
    no_wait: bool,
    direct: bool,
    file: Path,
    settings: tuple[str, ...],
    connection: Connection,
) -> None:
    """Build rollups anew, all of them or a range, as jobs that a worker runs.

    What is built is replaced partition by partition, and answers until then. With --direct this process builds it.
    """
    if direct:
        directly(load_configuration(file, settings), targets, within, anew=True)
        return
    as_jobs(connection, targets, within, "build", wait=not no_wait)


@click.command()
@targets_argument(required=True)
@_RANGE
@_NO_WAIT
@_DIRECT
@configuration_options
@connection_options
def refresh(
    targets: tuple[Target, ...],
    within: str,
    no_wait: bool,
    direct: bool,
    file: Path,
    settings: tuple[str, ...],
    connection: Connection,
) -> None:
    """Bring up to date what is missing or has changed; workers do that by themselves every `refresh_every`."""
    if direct:
        directly(load_configuration(file, settings), targets, within, anew=False)
        return
    as_jobs(connection, targets, within, "refresh", wait=not no_wait)


@click.command()
@targets_argument(required=False)
@click.option("--partitions", is_flag=True, help="Show every partition.")
@click.option("--json", "as_json", is_flag=True, help="Print everything that is known as JSON.")
@_DIRECT
@configuration_options
@connection_options
def status(
    targets: tuple[Target, ...],
    partitions: bool,
    as_json: bool,
    direct: bool,
    file: Path,
    settings: tuple[str, ...],
    connection: Connection,
) -> None:
    """Show where rollups stand: what is built, what has changed since, how much they answer.

    Ends with exit code 4 when one of them cannot answer, because it is quarantined or fits the database no more.
    """
    loaded = load_configuration(file, settings) if direct else None
    rollups = known(loaded, targets) if loaded is not None else listed_rollups(connection, targets)
    if as_json:
        from google.protobuf.json_format import MessageToJson

        from querybroker.v1.admin_service_pb2 import ListRollupsResponse

        listed = ListRollupsResponse(rollups=rollups)
        click.echo(MessageToJson(listed, preserving_proto_field_name=True, ensure_ascii=False))
    else:
        from broker.cli.render.rollups import show

        show(rollups, partitions=partitions)
    from querybroker.v1 import admin_service_pb2 as pb

    if any(r.state in (pb.ROLLUP_STATE_QUARANTINED, pb.ROLLUP_STATE_MISMATCHED) for r in rollups):
        raise EndedError(Exit.REFUSED)


@click.command()
@targets_argument(required=True)
@_RANGE
@_DIRECT
@configuration_options
@connection_options
def verify(
    targets: tuple[Target, ...],
    within: str,
    direct: bool,
    file: Path,
    settings: tuple[str, ...],
    connection: Connection,
) -> None:
    """Compare rollups with their source in one snapshot, bucket by bucket.

    One that differs is quarantined: it answers no more until `broker rollup release`. What is not built, has changed
    or is sealed is not compared. Ends with exit code 4 when something differs.
    """
    from broker.cli.render.console import with_spinner
    from broker.cli.render.rollups import tell

    if direct:
        loaded = load_configuration(file, settings)
        found = with_spinner("comparing", lambda: verified_directly(loaded, targets, within))
    else:
        rollups = listed_rollups(connection, targets)

        deadline = connection.deadline or _VERIFY_SECONDS

        async def verified(client: Client) -> list[VerifyRollupResponse]:
            verify = client.rollups.verify
            return [await verify(r.name, interval_of(within, r.time_zone), timeout=deadline) for r in rollups]

        found = with_spinner("comparing", lambda: call(connection, verified, within=""))
    different = [one for one in found if one.mismatched_bucket_count]
    for one in found:
        tell(one)
    if different:
        raise EndedError(Exit.REFUSED)


@click.command()
@targets_argument(required=True)
@_DIRECT
@configuration_options
@connection_options
def release(
    targets: tuple[Target, ...], direct: bool, file: Path, settings: tuple[str, ...], connection: Connection
) -> None:
    """Let quarantined rollups answer again."""
    if direct:
        from broker.cli.rollup_direct import with_direct

        loaded = load_configuration(file, settings)
        meant = [(d.name, r.name) for d, rollups in chosen(loaded.model.datasets, targets) for r in rollups]

        async def released(parts: Direct) -> None:
            for name in meant:
                await parts.service.release(*name)

        with_direct(loaded, released)
        names = [resource(*name) for name in meant]
    else:
        names = [rollup.name for rollup in listed_rollups(connection, targets)]

        async def asked(client: Client) -> None:
            for name in names:
                await client.rollups.release(name, timeout=connection.deadline)

        call(connection, asked, within="")
    for name in names:
        click.echo(f"{short_name(name)}: answers again.", err=True)
