"""``broker cache``: answers that are held."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from broker.cli.connection import Connection, call, connection_options
from broker.cli.group import Group
from broker.cli.render.counts import count_text
from broker.cli.rollup_names import Target, resource, targets_argument
from broker.cli.rollup_ranges import interval_of

if TYPE_CHECKING:
    from querybroker.client import Client
    from querybroker.v1.admin_service_pb2 import CacheState


@click.group(cls=Group)
def cache() -> None:
    """Show the tiers of the cache, and remove answers.

    Both ask a running broker, with a key that has the grant admin.
    """


@cache.command()
@connection_options
def state(connection: Connection) -> None:
    """Show what each tier holds, and how often it had the answer since the broker started."""
    from broker.cli.render.cells import size_text

    async def ask(client: Client) -> list[CacheState]:
        return await client.cache.tiers(timeout=connection.deadline)

    for tier in call(connection, ask):
        lookups = tier.hit_count + tier.miss_count
        share = f", {tier.hit_count / lookups:.1%} of {lookups} lookups hit" if lookups else ""
        held = ""
        if tier.byte_limit:
            answers = count_text(tier.entry_count, "answer")
            held = f", {answers} in {size_text(tier.byte_count)} of {size_text(tier.byte_limit)}"
        click.echo(f"{tier.name}: {'in use' if tier.available else 'not reached'}{held}{share}")


@cache.command()
@targets_argument(required=False)
@click.option(
    "-r",
    "--range",
    "within",
    metavar="RANGE",
    default="",
    help="Only answers that touch this range, as 2013-04 or 2020-01-01.. in UTC.",
)
@click.option("--all", "everything", is_flag=True, help="All answers.")
@connection_options
def invalidate(targets: tuple[Target, ...], within: str, everything: bool, connection: Connection) -> None:
    """Remove answers: about datasets, as flights, or those that a rollup gave, as flights.hourly.

    They are gone from all brokers that share a tier, within about a second.
    """
    if everything == bool(targets):
        raise click.UsageError("Name what to remove, or give --all.")
    interval = interval_of(within, "UTC")

    async def ask(client: Client) -> int:
        count = 0
        for target in targets or (Target("", ""),):
            rollup = resource(target.dataset, target.rollup) if target.rollup else ""
            count += await client.cache.invalidate(
                target.dataset, rollup=rollup, interval=interval, timeout=connection.deadline
            )
        return count

    count = call(connection, ask, within="")
    click.echo(f"{count_text(count, 'answer')} removed.")
