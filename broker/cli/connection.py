"""The connection of a command to a broker: its options, its client, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import wraps
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import click

from broker.cli.exits import EndedError

if TYPE_CHECKING:
    from querybroker.client import Client

T = TypeVar("T")
DEFAULT_ADDRESS = "127.0.0.1:50051"


@dataclass(frozen=True, slots=True)
class Connection:
    """Where the broker is and who asks.

    ``tls`` is true for the authorities of the system, or the PEM text of others. ``deadline`` is in seconds, None for
    the client's default.
    """

    address: str
    api_key: str = field(default="", repr=False)
    tls: bool | bytes = False
    deadline: float | None = None


def connection_options(command: Callable[..., object]) -> Callable[..., object]:
    """Adds ``--address``, ``--api-key``, ``--tls`` and ``--deadline``; the command takes them as ``connection``."""

    @wraps(command)
    def gathered(
        address: str, api_key: str, tls: bool, authority: BinaryIO | None, deadline: str | None, **others: Any
    ) -> object:
        if address.startswith(("http://", "https://")):
            text = f"--address: {address} is no gRPC address. Write it as HOST:PORT, and add --tls for TLS."
            raise click.UsageError(text)
        security = authority.read() if authority is not None else tls
        return command(connection=Connection(address, api_key, security, _seconds(deadline)), **others)

    for option in (
        click.option("--deadline", metavar="TIME", help="Time that the call may take, as 500ms or 30s."),
        click.option(
            "--tls-ca",
            "authority",
            envvar="QUERYBROKER_TLS_CA",
            type=click.File("rb"),
            metavar="FILE",
            help="TLS with the authorities in this PEM file.  [env: QUERYBROKER_TLS_CA]",
        ),
        click.option(
            "--tls",
            is_flag=True,
            envvar="QUERYBROKER_TLS",
            help="TLS with the authorities of the system.  [env: QUERYBROKER_TLS]",
        ),
        click.option(
            "--api-key",
            envvar="QUERYBROKER_API_KEY",
            default="",
            metavar="KEY",
            help="API key; better kept in the environment.  [env: QUERYBROKER_API_KEY]",
        ),
        click.option(
            "--address",
            envvar="QUERYBROKER_ADDRESS",
            default=DEFAULT_ADDRESS,
            show_default=True,
            metavar="HOST:PORT",
            help="The broker.  [env: QUERYBROKER_ADDRESS]",
        ),
    ):
        gathered = option(gathered)
    return gathered


def call(connection: Connection, work: Callable[[Client], Awaitable[T]], *, within: str = "query.") -> T:
    """Runs ``work`` with a client.

    An error of the broker is printed (``within``: see `show_error`) and ends the command with its exit code. Ctrl-C
    cancels the work, at the broker and in the database as well, before the command ends.
    """
    from broker.cli.failures import show_error
    from querybroker.client import Client
    from querybroker.errors import QueryBrokerError

    async def connected() -> T:
        async with Client(connection.address, api_key=connection.api_key, tls=connection.tls) as client:
            return await work(client)

    try:
        return asyncio.run(connected())
    except QueryBrokerError as error:
        raise EndedError(show_error(error, connection.address, within=within)) from None


def _seconds(deadline: str | None) -> float | None:
    if deadline is None:
        return None
    from broker.cli.ask.problems import UnreadableError
    from broker.cli.ask.shorthand import parse_duration

    try:
        seconds = parse_duration(deadline).ToTimedelta().total_seconds()
    except UnreadableError as error:
        raise click.BadParameter(str(error), param_hint="--deadline") from None
    if not seconds:
        raise click.BadParameter("no time at all; nothing can be answered in it.", param_hint="--deadline")
    return seconds
