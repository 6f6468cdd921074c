"""How snapshots begin, and how one is handed to other connections."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from broker.adapters.pg_connection import BrokerConnection

BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {shared}{limit}; SAVEPOINT statement"
UNDO = "ROLLBACK TO SAVEPOINT statement; {limit}"
# The instant of BEGIN, which is not after the snapshot: this statement takes it.
AS_OF = "SELECT now()"
# Nothing is behind while everything received has been replayed; otherwise the age of the last replayed commit counts.
# A standby that has replayed none since it was started is known to have what was committed before the checkpoint that
# it started from; when it was started itself says nothing of its rows.
LAG = """
SELECT CASE
  WHEN NOT pg_is_in_recovery() THEN NULL
  WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() AND EXISTS (SELECT FROM pg_stat_wal_receiver) THEN 0
  ELSE extract(epoch FROM clock_timestamp()
                          - coalesce(pg_last_xact_replay_timestamp(), (pg_control_checkpoint()).checkpoint_time))
END::float8
"""


def begin(shared: str, limit: str) -> str:
    """The statements that begin a snapshot, or take the one that is shared; ``limit`` sets the time of statements."""
    assert not shared.strip("0123456789ABCDEF-"), "PostgreSQL names snapshots by such digits"
    taken = f"SET TRANSACTION SNAPSHOT '{shared}'; " if shared else ""
    return BEGIN.format(shared=taken, limit=limit)


async def export(connection: BrokerConnection) -> str:
    """The name by which others take the snapshot; it cannot be given below a savepoint."""
    await connection.execute("RELEASE SAVEPOINT statement")
    name = str(await connection.fetchval("SELECT pg_export_snapshot()"))
    await connection.execute("SAVEPOINT statement")
    return name
