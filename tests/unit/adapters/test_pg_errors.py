"""What becomes of the errors of PostgreSQL, asyncpg and the network."""

import asyncpg
import pytest

from broker.adapters.pg_errors import (
    NotConnectedError,
    answered,
    away,
    cause_of,
    condition,
    conflict,
    lost,
    translate,
    translated,
)
from broker.aggregation.frames import DECIMAL_DIGITS
from broker.domain.errors import BrokerError, ErrorReason

SECRET = 'duplicate key value ("ssn")=(078-05-1120) in table "patients"'
STATES = [
    ("08006", ErrorReason.STORE_UNAVAILABLE, True),
    ("08003", ErrorReason.STORE_UNAVAILABLE, True),
    ("53300", ErrorReason.STORE_UNAVAILABLE, True),
    ("53200", ErrorReason.STORE_UNAVAILABLE, True),
    ("57P01", ErrorReason.STORE_UNAVAILABLE, True),
    ("57P03", ErrorReason.STORE_UNAVAILABLE, True),
    ("57014", ErrorReason.STORE_UNAVAILABLE, True),
    ("40001", ErrorReason.STORE_UNAVAILABLE, True),
    ("25P03", ErrorReason.STORE_UNAVAILABLE, True),
    ("55P03", ErrorReason.STORE_UNAVAILABLE, True),
    ("28P01", ErrorReason.STORE_UNAVAILABLE, True),
    ("3D000", ErrorReason.STORE_UNAVAILABLE, True),
    ("22003", ErrorReason.STORE_REJECTED, False),
    ("22012", ErrorReason.STORE_REJECTED, False),
    ("22000", ErrorReason.STORE_REJECTED, False),
    ("22P02", ErrorReason.STORE_REJECTED, False),
    ("42501", ErrorReason.STORE_REJECTED, False),
    ("42P01", ErrorReason.STORE_REJECTED, False),
    ("42703", ErrorReason.STORE_REJECTED, False),
    ("54001", ErrorReason.STORE_REJECTED, False),
    ("XX000", ErrorReason.STORE_REJECTED, False),
    ("99999", ErrorReason.STORE_REJECTED, False),
]


def from_server(state: str) -> asyncpg.PostgresError:
    fields = {"C": state, "M": SECRET, "D": SECRET, "S": "ERROR", "t": "patients"}
    error = asyncpg.PostgresError.new(fields)  # as the protocol makes them
    assert isinstance(error, asyncpg.PostgresError)
    return error


@pytest.mark.parametrize(("state", "reason", "retry"), STATES)
def test_by_sqlstate(state: str, reason: ErrorReason, retry: bool) -> None:
    error = translate(from_server(state))
    assert error.reason is reason
    assert (error.retry_after is not None) is retry
    assert error.metadata["sqlstate"] == state


@pytest.mark.parametrize("state", [state for state, _, _ in STATES])
def test_no_text_of_the_server_gets_through(state: str) -> None:
    for expired in (False, True):
        error = translate(from_server(state), expired=expired)
        shown = f"{error} {error.message} {error.metadata} {error.violations} {error.resource}"
        assert "patients" not in shown
        assert "078" not in shown


def test_a_statement_stopped_at_the_deadline() -> None:
    assert translate(from_server("57014"), expired=True).reason is ErrorReason.DEADLINE_EXCEEDED
    assert translate(from_server("57014"), expired=False).reason is ErrorReason.STORE_UNAVAILABLE
    assert translate(TimeoutError(), expired=True).reason is ErrorReason.DEADLINE_EXCEEDED
    assert translate(TimeoutError(), expired=False).reason is ErrorReason.STORE_UNAVAILABLE


def test_advice_says_what_to_do() -> None:
    assert "decimal" in translate(from_server("22003")).message
    assert f"{DECIMAL_DIGITS} digits" in translate(from_server("22003")).message
    assert "`scale`" in translate(from_server("22003")).message  # for one that is decimal already
    assert "nullif" in translate(from_server("22012")).message
    assert "GRANT" in translate(from_server("42501")).message.upper()
    assert "check-config" in translate(from_server("42P01")).message


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ConnectionRefusedError("127.0.0.1:5432"), ErrorReason.STORE_UNAVAILABLE),
        (OSError("no route"), ErrorReason.STORE_UNAVAILABLE),
        (asyncpg.InterfaceError("connection is closed"), ErrorReason.STORE_UNAVAILABLE),
        (asyncpg.InternalClientError("state 3"), ErrorReason.STORE_UNAVAILABLE),
        (asyncpg.ConnectionDoesNotExistError("gone"), ErrorReason.STORE_UNAVAILABLE),
        (asyncpg.DataError("value out of int64 range"), ErrorReason.INVALID_REQUEST),
    ],
)
def test_errors_of_the_driver_and_the_network(error: Exception, reason: ErrorReason) -> None:
    assert translate(error).reason is reason


def test_names_of_conditions() -> None:
    assert condition(from_server("22003")) == "numeric_value_out_of_range"
    assert condition(from_server("42P01")) == "undefined_table"
    assert condition(from_server("57P01")) == "admin_shutdown"


def test_what_loses_a_connection() -> None:
    assert lost(from_server("57P01"))
    assert lost(asyncpg.InterfaceError("connection is closed"))
    assert lost(ConnectionResetError())
    assert not lost(from_server("22003"))
    assert not lost(from_server("57014"))
    assert not lost(ValueError())
    assert not lost(TimeoutError())  # the caller's deadline, though it is a kind of OSError


@pytest.mark.parametrize("state", ["08006", "57P01", "57P02", "57P03", "53300"])
def test_a_server_that_is_away(state: str) -> None:
    assert away(from_server(state))


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(),
        ConnectionResetError(),
        OSError(113, "no route"),
        NotConnectedError(),
        EOFError(),
    ],
)
def test_a_network_that_does_not_reach_it(error: Exception) -> None:
    assert away(error)
    assert not answered(error)
    assert translate(error, expired=True).reason is ErrorReason.STORE_UNAVAILABLE


@pytest.mark.parametrize(
    "error", [TimeoutError(), ValueError(), from_server("22012"), from_server("28P01"), from_server("57014")]
)
def test_what_says_nothing_of_the_server(error: Exception) -> None:
    assert not away(error)


def test_a_read_that_lost_to_another_transaction() -> None:
    assert conflict(from_server("40001"))
    assert conflict(from_server("40P01"))
    assert not conflict(from_server("40003"))
    assert not conflict(from_server("22012"))
    assert not conflict(ConnectionResetError())


def test_who_refuses_is_there() -> None:
    assert answered(from_server("22012"))
    assert not answered(asyncpg.DataError("found before it was sent"))


def test_causes_are_conditions_without_any_text() -> None:
    assert cause_of(ConnectionRefusedError(SECRET)) == "connection_refused"
    assert cause_of(from_server("57P03")) == "cannot_connect_now (57P03)"
    assert cause_of(OSError(113, SECRET)) == "network (EHOSTUNREACH)"
    assert cause_of(OSError(SECRET)) == "network (unknown)"
    assert "cannot connect now" in translate(from_server("57P03")).message
    assert "connection refused" in translate(ConnectionRefusedError(SECRET)).message


def test_own_errors_pass() -> None:
    with pytest.raises(BrokerError), translated(lambda: False):
        raise BrokerError(ErrorReason.RESULT_TOO_LARGE, "too large")
    with pytest.raises(ValueError, match="bug"), translated(lambda: False):
        raise ValueError("bug")
