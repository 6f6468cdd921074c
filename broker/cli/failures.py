"""Errors of a broker in words, and the exit code that follows from each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import click

from broker.cli.exits import Exit
from broker.cli.render.cells import duration_text
from querybroker.errors import QueryBrokerError

_EXITS: Final[Mapping[str, Exit]] = {
    "INVALID_ARGUMENT": Exit.REFUSED,
    "NOT_FOUND": Exit.REFUSED,
    "FAILED_PRECONDITION": Exit.REFUSED,
    "OUT_OF_RANGE": Exit.REFUSED,
    "UNIMPLEMENTED": Exit.REFUSED,
    "UNAUTHENTICATED": Exit.DENIED,
    "PERMISSION_DENIED": Exit.DENIED,
    "UNAVAILABLE": Exit.UNAVAILABLE,
    "RESOURCE_EXHAUSTED": Exit.UNAVAILABLE,
    "DEADLINE_EXCEEDED": Exit.DEADLINE,
    "CANCELLED": Exit.JOB,
    "ABORTED": Exit.JOB,
}

_NO_BROKER: Final = "Start one with `broker demo` or `broker serve`, or name another with --address."


def exit_code(error: QueryBrokerError) -> Exit:
    """The exit code for an error."""
    return _EXITS.get(error.code, Exit.FAILED)


def show_error(error: QueryBrokerError, address: str, *, subject: str = "", within: str = "") -> Exit:
    """Prints all that an error says to standard error: what, where, when to try again, and what to quote.

    ``subject`` names what failed where it is a part of the whole, such as a panel. ``within`` is the place of the
    question in the request, which is left out of the places of violations. Returns the exit code.
    """
    if not error.reason and error.code == "UNAVAILABLE" and "handshake failed" in error.message:
        click.echo(
            _mark("no connection", subject) + f"{address} and this command do not agree on TLS.", err=True
        )
        click.echo(
            "Leave --tls out where the broker has none, or name its authority with --tls-ca.", err=True
        )
        click.echo(click.style(error.message, dim=True), err=True)
        return Exit.UNAVAILABLE
    if not error.reason and error.code == "UNAVAILABLE":
        click.echo(_mark("no broker", subject) + f"nothing answers at {address}.", err=True)
        click.echo(_NO_BROKER, err=True)
        click.echo(click.style(error.message, dim=True), err=True)
        return Exit.UNAVAILABLE
    if not error.reason and error.code == "DEADLINE_EXCEEDED":
        click.echo(_mark("deadline", subject) + "no answer came in time; the work was cancelled.", err=True)
        click.echo("Allow more with --deadline, narrow the question, or submit it as a job.", err=True)
        return Exit.DEADLINE
    # With violations the message only strings them together.
    what = "the question has problems" if error.violations else error.message
    click.echo(_mark(error.reason or error.code, subject) + what, err=True)
    for violation in error.violations:
        place = click.style(violation.field.removeprefix(within), bold=True)
        click.echo(f"  {place}: {violation.description}", err=True)
    count = error.metadata.get("violation_count", "")  # given when not all of them fitted into the reply
    if count.isdigit():
        click.echo(f"  and {int(count) - len(error.violations)} more", err=True)
    if error.retry_after is not None:
        click.echo(f"Try again in {duration_text(error.retry_after)}.", err=True)
    if error.request_id:
        click.echo(click.style(f"request {error.request_id}", dim=True), err=True)
    return exit_code(error)


def _mark(name: str, subject: str) -> str:
    return (f"{subject}: " if subject else "") + click.style(f"{name}: ", fg="red", bold=True)
