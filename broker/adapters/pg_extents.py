"""Between which values the columns of a table lie, by the planner's statistics: nothing is scanned."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

import asyncpg

from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.rollup import Span, micros

Place = tuple[str, str, str]
"""Schema, table and column."""

# The histogram leaves out the most common values, which a time column hardly has.
_ENDS = """
WITH found AS (
  SELECT histogram_bounds::text::text[] AS ends FROM pg_stats
   WHERE schemaname = $1 AND tablename = $2 AND attname = $3 ORDER BY inherited DESC LIMIT 1
)
SELECT ends[1]::timestamptz AS first, ends[array_upper(ends, 1)]::timestamptz AS last FROM found
"""


async def time_extents(dsn: str, columns: Iterable[Place], *, patience: float = 10.0) -> Mapping[Place, Span]:
    """The extents of columns that hold times; those that were never analysed are left out. A day is in UTC.

    Raises:
        BrokerError: STORE_UNAVAILABLE, or STORE_REJECTED for a column of another type.
    """
    found: dict[Place, Span] = {}
    try:
        connection = await asyncpg.connect(
            dsn, timeout=patience, command_timeout=patience, server_settings={"timezone": "UTC"}
        )
        try:
            for place in columns:
                row = await connection.fetchrow(_ENDS, *place)
                if row is not None and isinstance(row["first"], datetime):
                    first, last = (row[name].astimezone(UTC) for name in ("first", "last"))
                    found[place] = Span(micros(first), micros(last) + 1)
        finally:
            await connection.close()
    except (asyncpg.PostgresSyntaxError, asyncpg.DataError) as error:
        raise BrokerError(ErrorReason.STORE_REJECTED, f"a column holds no times: {error}") from error
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        text = f"the statistics cannot be read: {error}; check the address of the database and the network"
        raise BrokerError(ErrorReason.STORE_UNAVAILABLE, text) from error
    return found
