"""``broker ping``: whether a broker serves. Meant for people and for health checks of containers."""

from __future__ import annotations

import time
from statistics import median
from typing import TYPE_CHECKING

import click

from broker.cli.connection import Connection, call, connection_options
from broker.cli.exits import EndedError, Exit

if TYPE_CHECKING:
    from querybroker.client import Client

_TIMEOUT = 5.0


@click.command()
@click.option("--service", default="", metavar="NAME", help="One service, as querybroker.v1.JobService.")
@click.option("--count", type=click.IntRange(min=1), default=1, show_default=True, help="How often to ask.")
@connection_options
def ping(service: str, count: int, connection: Connection) -> None:
    """Tell whether a broker serves, and how fast it replies. Ends with 6 when it does not serve."""
    from broker.cli.render.cells import duration_text
    from broker.transport.probe import probe

    async def ask(client: Client) -> tuple[str, list[float]]:
        state, times = "", []
        for _ in range(count):
            started = time.monotonic()
            state = await probe(client.channel, service, connection.deadline or _TIMEOUT)
            times.append(time.monotonic() - started)
        return state, times

    state, times = call(connection, ask)
    # The first call makes the connection.
    typical = f", then {duration_text(median(times[1:]))} (median of {count - 1})" if count > 1 else ""
    click.echo(f"{connection.address}: {state} in {duration_text(times[0])}{typical}")
    if state != "SERVING":
        raise EndedError(Exit.UNAVAILABLE)
