"""Errors of the job database in the broker's own words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from broker.adapters.pg_errors import cause_of, in_words
from broker.domain.errors import BrokerError, ErrorReason

RETRY_AFTER = 1.0
# Classes of SQLSTATE after which the same call may succeed: connection, resources, operator intervention, conflicts.
_PASSING = ("08", "53", "57", "40")
_MISSING = ("42P01", "42883", "3F000", "42703")  # table, function, schema, column
_DENIED, _READ_ONLY = "42501", "25006"


@contextmanager
def job_database() -> Iterator[None]:
    """Turns what asyncpg raises into a BrokerError.

    STORE_UNAVAILABLE, also of a server that takes no writes, which may be about to be promoted; STORE_REJECTED when
    tables are missing or the role may not use them. Any other error of the database is a bug of this code and passes.
    """
    try:
        yield
    except (OSError, TimeoutError) as error:
        raise _unavailable(error) from error
    except asyncpg.PostgresError as error:
        state = error.sqlstate or ""
        if state.startswith(_PASSING) or isinstance(error, asyncpg.PostgresConnectionError):
            raise _unavailable(error) from error
        if state == _READ_ONLY:
            text = (
                "The job database takes no writes: it is a standby, or `default_transaction_read_only` is set for "
                "the role or the database. `jobs.dsn` must be writable."
            )
            metadata = {"store": "jobs", "sqlstate": state}
            raise BrokerError(
                ErrorReason.STORE_UNAVAILABLE, text, retry_after=RETRY_AFTER, metadata=metadata
            ) from error
        if state in _MISSING or state == _DENIED:
            text = "The tables of the jobs are missing or old. Run `broker migrate` on the job database."
            if state == _DENIED:
                text = "The role of `jobs.dsn` may not use the tables of the jobs. Let it own the schema `broker`."
            raise BrokerError(
                ErrorReason.STORE_REJECTED, text, metadata={"store": "jobs", "sqlstate": state}
            ) from error
        raise
    except asyncpg.InternalClientError as error:
        # What the driver says of a connection that was ended between two statements of one checkout.
        raise _unavailable(error) from error
    except asyncpg.InterfaceError as error:
        if "clos" not in str(error):  # "connection is closed", "pool is closing"; the rest is misuse
            raise
        raise _unavailable(error) from error


def _unavailable(error: BaseException) -> BrokerError:
    cause = in_words(cause_of(error))
    text = f"The job database cannot be reached: {cause}. Retry after the hint; running jobs go on."
    metadata = {"store": "jobs", "error": type(error).__name__}
    return BrokerError(ErrorReason.STORE_UNAVAILABLE, text, retry_after=RETRY_AFTER, metadata=metadata)
