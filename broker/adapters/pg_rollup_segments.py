"""Publishing a version of a partition, and reading its files."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from io import BytesIO

from broker.adapters import pg_rollup_sql as q
from broker.adapters.pg_rollup_database import SCAN_SECONDS, Connection
from broker.adapters.sql.rollup_table import SCHEMA, TIME, table_ddl, table_name, table_sql
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.model import Dataset
from broker.domain.rollup import Rollup, Segment, Span, Storage, instant
from broker.ports.rollups import BuildLease, Built, LeaseLostError

CHUNK_BYTES = 2 << 20
"""Bytes of a file that one row holds; a statement carries one row."""


@dataclass(frozen=True, slots=True)
class Row:
    """The row of a rollup: its id, its source's, and the definition that it is installed for."""

    id: int
    source: int
    definition: str


async def publish(
    connection: Connection, row: Row, dataset: Dataset, rollup: Rollup, lease: BuildLease, built: Built
) -> Segment:
    """Makes the build the current version; runs in a transaction.

    All bytes are sent before anything is locked, so that the lease can be renewed meanwhile. Whether it is still held
    is decided last, under the partition's lock, so that nobody can take it over between that and the commit.

    Raises:
        LeaseLostError: The lease is over, marks that the build needs are gone, or the rollup was installed anew.
        BrokerError: ROLLUP_STATE for a partition that is sealed.
    """
    lo, hi = lease.span
    size = sum(file.byte_count for file in built.files)
    files = json.dumps([asdict(file) for file in built.files])
    segment: int = await connection.fetchval(
        q.ADD, row.id, lo, hi, lease.fence, built.snapshot, built.token, built.as_of, built.row_count, size,
        files, built.sealed,
    )  # fmt: skip
    for file, data in zip(built.files, built.data, strict=True):
        view = memoryview(data)
        for part, start in enumerate(range(0, len(data), CHUNK_BYTES)):
            chunk = bytes(view[start : start + CHUNK_BYTES])
            await connection.execute(q.ADD_CHUNK, segment, file.grain.value, part, chunk)
    count = built.row_count
    if rollup.storage is Storage.TABLE:
        count = await _replace(connection, row, dataset, rollup, lease, built)
    await _hold(connection, row, lease, built)
    await connection.execute(q.RETIRE, row.id, lo, hi)
    await connection.execute(q.BECOME_CURRENT, segment, count)
    await connection.execute(q.CHANGED, row.id)
    return Segment(segment, lease.span, lease.fence, built.as_of, count, size, built.sealed, built.files)


async def _hold(connection: Connection, row: Row, lease: BuildLease, built: Built) -> None:
    """Takes the locks, and finds out whether the build may still be published."""
    if not await connection.fetchval(q.HOLD_LEASE, row.id, lease.span.lo, lease.fence, lease.holder):
        raise LeaseLostError("another refresher may have the partition by now")
    if not await connection.fetchval(q.HOLD_SOURCE, row.source, built.snapshot):
        raise LeaseLostError("marks that the build needs have been collected")
    if not await connection.fetchval(q.HOLD_ROLLUP, row.id, row.definition):
        raise LeaseLostError("the rollup was installed for another definition")
    if built.base is not None and not await connection.fetchval(q.IS_CURRENT, row.id, built.base):
        raise LeaseLostError("the version that the build rests on has been replaced")
    if await connection.fetchval(q.SEALED, row.id, *lease.span):
        raise sealed(lease.rollup, lease.span)


async def _replace(
    connection: Connection, row: Row, dataset: Dataset, rollup: Rollup, lease: BuildLease, built: Built
) -> int:
    """Puts the rows of a table-stored rollup in the place of those of the replaced spans; the partition's rows.

    Whoever had the lease before may be doing the same still. Its rows are locked until it has ended, and it can only
    end in vain.
    """
    table = table_sql(dataset.name, rollup.name)
    await _make(connection, row, dataset, rollup, table)
    for span in built.replaced or (lease.span,):
        await connection.execute(f"DELETE FROM {table} WHERE {within()}", *_ends(span), timeout=SCAN_SECONDS)  # noqa: S608 - quoted
    name = table_name(dataset.name, rollup.name)
    for rows in built.rows:
        source = BytesIO(rows)
        await connection.copy_to_table(
            name, schema_name=SCHEMA, source=source, format="csv", timeout=SCAN_SECONDS
        )
    found: int = await connection.fetchval(
        f"SELECT count(*) FROM {table} WHERE {within()}",  # noqa: S608 - quoted
        *_ends(lease.span),
        timeout=SCAN_SECONDS,
    )
    return found


async def _make(connection: Connection, row: Row, dataset: Dataset, rollup: Rollup, table: str) -> None:
    """Makes the table. While nothing is current, whatever it holds is of another definition.

    The first one to publish holds the rollup's lock until the end, so that two do not both think that they are.
    """
    if await connection.fetchval(q.ANY_CURRENT, row.id):
        return
    await connection.fetchval(q.HOLD_ROLLUP, row.id, row.definition)
    if await connection.fetchval(q.ANY_CURRENT, row.id):
        return
    make_schema, *make_table = table_ddl(dataset, rollup)
    if await connection.fetchval("SELECT to_regnamespace($1) IS NULL", SCHEMA):
        await connection.execute(make_schema)  # which takes the right to make schemas even where it exists
    await connection.execute(f"DROP TABLE IF EXISTS {table}")
    for statement in make_table:
        await connection.execute(statement)


def within() -> str:
    """Condition on the buckets of a table; takes two instants."""
    return f"{TIME} >= $1 AND {TIME} < $2"


def _ends(span: Span) -> tuple[object, object]:
    return instant(span.lo), instant(span.hi)


async def fetch(connection: Connection, segment: Segment, grain: str) -> bytes:
    """The bytes of a file. Raises LookupError when the version is gone."""
    rows = await connection.fetch(q.CHUNKS, segment.id, grain)
    if not rows:
        raise LookupError(f"version {segment.version} of {segment.span} is gone")
    return b"".join([row["data"] for row in rows])


def sealed(rollup: str, span: Span) -> BrokerError:
    """ROLLUP_STATE: the rows of a partition are gone, so it cannot be built again."""
    text = f"The partition of {rollup!r} from {instant(span.lo)} is sealed: its rows no longer exist."
    return BrokerError(ErrorReason.ROLLUP_STATE, text, metadata={"rollup": rollup})
