"""Leases of a fleet in PostgreSQL: one function call a second for each member, on a connection of its own.

Nothing waits for this connection but the task that keeps the lease, and nothing waits long: the statement, its locks
and a new connection have short time limits, because a member without news of the fleet has to act on its own.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import asyncpg

from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.fleet import Beat, Claim, Leased, MemberKind, Reading, Report, Usage
from broker.domain.pool import PoolName
from broker.policy.fleet_ledger import PAUSE
from broker.policy.leases import TTL, TURN

STATEMENT_SECONDS = 0.8
"""Longest time of one statement at the server; less than the time between two of them."""
CONNECT_SECONDS = 2.0
_SETTINGS = {
    "application_name": "querybroker fleet",
    "timezone": "UTC",
    "default_transaction_isolation": "read committed",  # the function relies on seeing what was just committed
    "synchronous_commit": "off",
    "statement_timeout": f"{round(STATEMENT_SECONDS * 1000)}ms",
}
_BEAT = """
SELECT b.backend, broker.fleet_beat($1, b.backend, $2, b.told, b.target, b.proposed, b.seen, b.probe, b.more,
                                    make_interval(secs => $10), make_interval(secs => $11), $12) AS reading
FROM unnest($3::text[], $4::jsonb[], $5::int[], $6::float8[], $7::bigint[], $8::bool[], $9::int[])
     AS b (backend, told, target, proposed, seen, probe, more)
"""
_LEAVE = "DELETE FROM broker.fleet_member WHERE fleet = $1 AND member = $2"
# Classes of SQLSTATE after which the same call may succeed: connection, resources, operator intervention, locks.
_PASSING = ("08", "53", "57", "40", "55")
_MISSING = ("42P01", "42883", "3F000", "42703")
"""Table, function, schema, column."""
_DENIED = "42501"


class PgLeases:
    """A :class:`broker.ports.fleet.FleetStore`. ``fleet`` tells fleets in the same database apart."""

    def __init__(self, dsn: str, fleet: str) -> None:
        self._dsn = dsn
        self._fleet = fleet
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None

    async def beat(self, beats: Sequence[Beat]) -> Mapping[str, Reading]:
        """See :class:`broker.ports.fleet.FleetStore`."""
        ordered = sorted(beats, key=lambda beat: beat.backend)  # locks are taken in one order by all
        reports = {beat.backend: beat.report for beat in ordered}
        rows = await self._run(
            _BEAT,
            self._fleet,
            ordered[0].report.member,
            [beat.backend for beat in ordered],
            [json.dumps(_told(beat.report)) for beat in ordered],
            [beat.target for beat in ordered],
            [beat.limit for beat in ordered],
            [beat.revision for beat in ordered],
            [beat.probe for beat in ordered],
            [beat.extra for beat in ordered],
            TTL,
            PAUSE,
            TURN,
        )
        return {row["backend"]: _reading(json.loads(row["reading"]), reports[row["backend"]]) for row in rows}

    async def leave(self, member: str) -> None:
        """See :class:`broker.ports.fleet.FleetStore`."""
        await self._run(_LEAVE, self._fleet, member)

    async def aclose(self) -> None:
        """Closes the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def _run(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        try:
            with _translated():
                if self._connection is None:
                    self._connection = await asyncpg.connect(
                        self._dsn, timeout=CONNECT_SECONDS, server_settings=_SETTINGS
                    )
                async with asyncio.timeout(2 * STATEMENT_SECONDS):  # for a server that says nothing at all
                    return await self._connection.fetch(statement, *arguments)
        except BaseException:  # a cancelled statement leaves the connection in doubt as well
            await self.aclose()
            raise


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except asyncpg.PostgresError as error:
        state = error.sqlstate or ""
        if state.startswith(_PASSING) or isinstance(error, asyncpg.PostgresConnectionError):
            raise _unavailable(error) from error
        raise BrokerError(
            ErrorReason.STORE_REJECTED, _advice(state), metadata={"store": "fleet", "sqlstate": state}
        ) from error
    except (OSError, asyncpg.InternalClientError, asyncpg.InterfaceError) as error:  # a timeout is an OSError
        raise _unavailable(error) from error


def _advice(state: str) -> str:
    if state == _DENIED:
        return "The role of `jobs.dsn` may not use the tables of the fleet. Let it own the schema `broker`."
    if state in _MISSING:
        return "The tables of the fleet are missing. Run `broker migrate`, or set `fleet.enabled: false`."
    return f"The database of `jobs.dsn` rejects the leases (SQLSTATE {state}). It must be writable, and let brokers in."


def _unavailable(error: BaseException) -> BrokerError:
    metadata = {"store": "fleet", "error": type(error).__name__}
    text = "The database that leases are kept in (`jobs.dsn`) cannot be reached; seats are shared again when it can."
    return BrokerError(ErrorReason.STORE_UNAVAILABLE, text, retry_after=1.0, metadata=metadata)


def _told(report: Report) -> dict[str, object]:
    """A report as JSON; names are short because it is written every second."""
    return {
        "member": report.member,
        "kind": report.kind.value,
        "host": report.host,
        "running": report.running,
        "progress": report.progress,
        "wished": report.wished,
        "low": report.low,
        "high": report.high,
        "claims": [[c.pool.value, c.seats, c.share, c.kept] for c in report.claims],
        "usage": [[u.pool.value, u.tenant, u.seconds] for u in report.usage],
    }


def _reading(found: Mapping[str, Any], own: Report) -> Reading:
    others = tuple(
        Leased(report, seats) for seats, told in found["members"] if (report := _report(told)) is not None
    )
    mine = Leased(own, found["seats"])
    return Reading(
        seats=found["seats"],
        limit=float(found["limit"]),
        revision=found["revision"],
        turn=int(found["turn"]),
        probing=found["probing"],
        members=(mine, *others),
    )


def _report(told: Mapping[str, Any]) -> Report | None:
    """A report that another member wrote, None when its version says it in another way.

    The store counts what such a member holds all the same. A pool that this version does not know is left out.
    """
    known = {pool.value for pool in PoolName}
    try:
        return Report(
            member=told["member"],
            kind=MemberKind(told["kind"]),
            host=told["host"],
            running=told["running"],
            progress=float(told["progress"]),
            wished=told["wished"],
            low=told["low"],
            high=told["high"],
            claims=tuple(Claim(PoolName(p), seats, s, k) for p, seats, s, k in told["claims"] if p in known),
            usage=tuple(Usage(PoolName(p), tenant, s) for p, tenant, s in told["usage"] if p in known),
        )
    except (KeyError, TypeError, ValueError):
        return None
