"""Errors of PostgreSQL, asyncpg and the network in the broker's own words.

Only the SQLSTATE and the name of its condition are passed on. The server's own text is not: it quotes values of rows,
and names of tables that the caller may not know.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import asyncpg

from broker.domain.errors import BrokerError, ErrorReason, Violation, invalid

RETRY_AFTER = 1.0
"""Seconds after which to try again; a restart of PostgreSQL takes about as long."""

CANCELED = "57014"
_OUT_OF_RANGE = "22003"
# Classes after which the same statement may succeed: connection, resources, operator intervention, rollback of a
# transaction (a conflict with recovery on a replica), lock not available, and the time limit of an idle transaction.
_PASSING = ("08", "53", "57", "40", "55P03", "25P03", "25P04")
# What a server says that is not there for anybody: connection lost, shutting down, starting, out of connections.
_AWAY = ("08", "57P01", "57P02", "57P03", "53300")
# A transaction that loses to another, or to the replay of the log on a replica, may be repeated at once.
_CONFLICT = ("40001", "40P01")
# The broker's own credentials or database name are refused; whoever runs it has to act.
_SETUP = ("28", "3D000")
_ADVICE = {
    _OUT_OF_RANGE: (
        "A value leaves the range of its type (64-bit integers, decimals of 38 digits). Narrow the query, or have the "
        "measure declared as decimal; if it is one, with a smaller `scale`, or as double."
    ),
    "0A000": "Infinite instants are one reason: leave such rows out with a filter, or have the model corrected.",
    "22008": "A date is infinite, or too far away. Leave such rows out with a filter, or have the model corrected.",
    "22012": "An expression of the model divides by zero. Wrap the divisor in nullif(..., 0).",
    "42501": "The broker's role may not read this. Grant it SELECT.",
    "42P01": "The database no longer has what the model names. Run `broker check-config`.",
    "42703": "The database no longer has what the model names. Run `broker check-config`.",
    "42883": "An expression of the model does not fit its columns. Run `broker check-config`.",
}
_REJECTED = "The statement cannot be run on this data. Narrow the query, or have the model corrected."
_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_DRIVER = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, EOFError)


@contextmanager
def translated(expired: Callable[[], bool]) -> Iterator[None]:
    """Raises what the driver raises as BrokerError. ``expired`` tells whether the deadline has passed."""
    try:
        yield
    except _DRIVER as error:
        raise translate(error, expired=expired()) from error


def translate(error: BaseException, *, expired: bool = False) -> BrokerError:
    """The broker's error for one of the driver's.

    STORE_UNAVAILABLE when the same call may succeed later, DEADLINE_EXCEEDED when the statement's time is over,
    INVALID_REQUEST for a value that PostgreSQL cannot hold, STORE_REJECTED otherwise.
    """
    if isinstance(error, asyncpg.DataError) and getattr(error, "severity", None) is None:
        text = (
            "a value is outside the range of its type in PostgreSQL"  # found by asyncpg, before it was sent
        )
        return invalid([Violation("filter", text, "VALUE_RANGE")])
    if isinstance(error, asyncpg.PostgresError):
        return _from_server(error, expired=expired)
    if expired and isinstance(error, TimeoutError):
        return deadline_exceeded("")
    return unavailable(type(error).__name__, cause=cause_of(error))


def _from_server(error: asyncpg.PostgresError, *, expired: bool) -> BrokerError:
    state = str(error.sqlstate or "")
    if state == CANCELED and expired:
        return deadline_exceeded(state)
    if state.startswith(_SETUP):
        text = "PostgreSQL does not let the broker in. Whoever runs the broker has to correct its DSN."
        return BrokerError(
            ErrorReason.STORE_UNAVAILABLE, text, retry_after=30.0, metadata=_metadata(error, state)
        )
    if state.startswith(_PASSING) or isinstance(error, asyncpg.PostgresConnectionError):
        return unavailable(condition(error), state)
    advice = _ADVICE.get(state, _REJECTED)
    text = f"PostgreSQL rejects the statement: {condition(error)} ({state}). {advice}"
    return BrokerError(ErrorReason.STORE_REJECTED, text, metadata=_metadata(error, state))


def unavailable(error: str, state: str = "", cause: str = "") -> BrokerError:
    """STORE_UNAVAILABLE. ``error`` is a class or a condition, never a text of the server; ``cause`` is for people."""
    metadata = {"store": "analytical", "error": error} | ({"sqlstate": state} if state else {})
    text = f"The database cannot answer now: {in_words(cause or error)}. Retry after the hint."
    return BrokerError(ErrorReason.STORE_UNAVAILABLE, text, retry_after=RETRY_AFTER, metadata=metadata)


def deadline_exceeded(state: str = CANCELED) -> BrokerError:
    """DEADLINE_EXCEEDED: the statement was stopped at the database."""
    text = "The deadline passed in the database. Allow more time, narrow the query, or submit it as a job."
    metadata = {"stage": "store"} | ({"sqlstate": state} if state else {})
    return BrokerError(ErrorReason.DEADLINE_EXCEEDED, text, metadata=metadata)


class NotConnectedError(ConnectionError):
    """A connection was not made in time."""


def condition(error: BaseException) -> str:
    """The name of the error's condition, such as ``numeric_value_out_of_range``."""
    name = type(error).__name__.removesuffix("Error")
    return _WORD.sub("_", name).lower()


def cause_of(error: BaseException) -> str:
    """What an operator needs to know of a failure: the condition, with the SQLSTATE where there is one."""
    if type(error) is OSError:  # one that has no class of its own, such as "no route to host"
        return f"network ({errno.errorcode.get(error.errno or 0, 'unknown')})"
    state = str(getattr(error, "sqlstate", None) or "")
    return f"{condition(error)} ({state})" if state else condition(error)


def in_words(cause: str) -> str:
    """A condition as people read it."""
    return cause.replace("_", " ")


def lost(error: BaseException) -> bool:
    """Whether the error means that the connection is gone, rather than that a statement failed or time is over."""
    if isinstance(error, asyncpg.PostgresError):
        state = str(error.sqlstate or "")
        return isinstance(error, asyncpg.PostgresConnectionError) or state.startswith(("08", "57P"))
    if isinstance(
        error, TimeoutError
    ):  # a kind of OSError; the timers around statements are the caller's deadline
        return False
    return isinstance(error, (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, EOFError))


def away(error: BaseException) -> bool:
    """Whether a connection could not be made because the server is away, for now."""
    if isinstance(error, asyncpg.PostgresError):
        return str(error.sqlstate or "").startswith(_AWAY) or isinstance(
            error, asyncpg.PostgresConnectionError
        )
    return isinstance(error, (OSError, EOFError)) and not isinstance(error, TimeoutError)


def conflict(error: BaseException) -> bool:
    """Whether the same read may succeed when it is begun again, because it lost to another transaction."""
    return isinstance(error, asyncpg.PostgresError) and str(error.sqlstate or "").startswith(_CONFLICT)


def answered(error: BaseException) -> bool:
    """Whether the server itself refused the statement, and so is there."""
    return isinstance(error, asyncpg.PostgresError) and getattr(error, "severity", None) is not None


def _metadata(error: asyncpg.PostgresError, state: str) -> dict[str, str]:
    return {"store": "analytical", "sqlstate": state, "condition": condition(error)}
