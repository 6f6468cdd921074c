"""Deletes what nobody needs: marks that every segment has taken in, replaced versions, what has left the retention."""

from __future__ import annotations

from datetime import datetime

from broker.adapters import pg_rollup_sql as q
from broker.adapters.pg_rollup_database import SCAN_SECONDS, Connection
from broker.adapters.pg_rollup_extent import outlived
from broker.adapters.pg_rollup_segments import within
from broker.adapters.sql.rollup_table import table_sql
from broker.domain.model import Dataset
from broker.domain.rollup import Storage, Tracking, instant


async def sweep(connection: Connection, dataset: Dataset, keep: float, now: datetime) -> None:
    """Sweeps the sources of a dataset; runs in a transaction, which has their locks.

    Marks of a transaction go when it is visible in the snapshot of every current segment, and in that of every build
    which may still be published: each lease holds the horizon that was there when it began. A build that was read
    elsewhere, on a replica that lags behind, may be too old all the same; it is refused when it is published.
    """
    untracked = [name for name, r in dataset.rollups.items() if r.tracking is not Tracking.TRIGGERS]
    await connection.execute(q.EXPIRE, dataset.name)
    for source in await connection.fetch(q.HOLD_SOURCES, dataset.name):
        await _retain(connection, dataset, source["id"], source["time"], now)
        await connection.execute(q.ADVANCE, source["id"], untracked, timeout=SCAN_SECONDS)
        await connection.execute(q.COLLECT, source["id"], untracked, timeout=SCAN_SECONDS)
        await connection.execute(q.PURGE, source["id"], keep, timeout=SCAN_SECONDS)


async def _retain(connection: Connection, dataset: Dataset, source: int, time: str, now: datetime) -> None:
    for rollup in dataset.rollups.values():
        end = outlived(rollup, now)
        if end is None or rollup.time != time:
            continue
        gone = await connection.fetch(q.OUTLIVED, source, rollup.name, end)
        for row in gone:
            if rollup.storage is Storage.TABLE:
                table = table_sql(dataset.name, rollup.name)
                await connection.execute(
                    f"DELETE FROM {table} WHERE {within()}",  # noqa: S608 - quoted
                    instant(row["lo"]),
                    instant(row["hi"]),
                    timeout=SCAN_SECONDS,
                )
        if gone:
            await connection.execute(q.CHANGED, gone[0]["rollup"])
