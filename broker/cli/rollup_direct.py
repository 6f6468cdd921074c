"""Rollups operated without a broker: by this process, with the configuration of the broker."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import click

from broker.cli.exits import Exit, fail

if TYPE_CHECKING:
    from broker.adapters.pg_rollups import PgRollups
    from broker.app.rollup_direct import Direct
    from broker.config.loader import Configuration
    from broker.domain.errors import BrokerError

T = TypeVar("T")


def with_store(loaded: Configuration, work: Callable[[PgRollups], Awaitable[T]]) -> T:
    """Runs work with the store of rollups; an error of the database ends the command."""

    async def run() -> T:
        from broker.app.rollups import open_rollups
        from broker.runtime.clock import SystemClock

        async with open_rollups(loaded.settings, loaded.model, SystemClock()) as store:
            return await work(store)

    return _ended(run)


def with_direct(loaded: Configuration, work: Callable[[Direct], Awaitable[T]]) -> T:
    """Runs work with everything that builds and compares rollups."""

    async def run() -> T:
        from broker.app.rollup_direct import direct

        async with direct(loaded.settings, loaded.model) as parts:
            return await work(parts)

    return _ended(run)


def shown_database(loaded: Configuration) -> str:
    """The address of the database, without who asks."""
    address = urlsplit(loaded.settings.database.dsn)
    return f"{address.netloc.rpartition('@')[2]}{address.path}" or "the database"


def asked(question: str, *, yes: bool, told: str) -> None:
    """Goes on when the person says so, or with ``--yes``; ends the command otherwise."""
    if yes:
        return
    try:
        agreed = click.confirm(question, err=True)
    except click.Abort:
        click.echo(err=True)
        fail(f"{told} Add --yes to go on without being asked.", Exit.USAGE)
    if not agreed:
        fail(told, Exit.USAGE)


def _ended(run: Callable[[], Coroutine[Any, Any, T]]) -> T:
    from broker.adapters.migrate import MigrationError
    from broker.app.loop import StartError
    from broker.domain.errors import BrokerError

    try:
        return asyncio.run(run())
    except (MigrationError, StartError) as error:
        fail(str(error), Exit.CONFIG)
    except BrokerError as error:
        fail(f"{click.style(f'{error.reason}: ', fg='red', bold=True)}{error.message}", _exit(error))


def _exit(error: BrokerError) -> Exit:
    from broker.domain.errors import ErrorReason

    if error.retry_after is not None or error.reason is ErrorReason.STORE_UNAVAILABLE:
        return Exit.UNAVAILABLE
    return Exit.DEADLINE if error.reason is ErrorReason.DEADLINE_EXCEEDED else Exit.REFUSED
