"""Asks PostgreSQL about itself: tables, columns, keys, statistics, functions, and the types of statements.

Everything is read from the system catalogs and from ``pg_stats``; no table is scanned, except by :meth:`exists`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import asyncpg

from broker.adapters import pg_catalog_sql as sql
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.relations import (
    DatabaseCatalog,
    Described,
    ForeignKey,
    FunctionFacts,
    Relation,
    RelationColumn,
    RelationKind,
    ServerFacts,
    SqlType,
)
from broker.domain.values import DataType

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

_TYPES = {
    **dict.fromkeys(("int2", "int4", "int8"), DataType.INT64),
    **dict.fromkeys(("float4", "float8"), DataType.DOUBLE),
    "numeric": DataType.DECIMAL,
    "bool": DataType.BOOL,
    **dict.fromkeys(
        (
            "text",
            "varchar",
            "bpchar",
            "name",
            "char",
            "citext",
            "uuid",
            "inet",
            "cidr",
            "macaddr",
            "macaddr8",
        ),
        DataType.STRING,
    ),
    **dict.fromkeys(("timestamp", "timestamptz"), DataType.TIMESTAMP),
    "date": DataType.DATE,
}
_KINDS = {
    "r": RelationKind.TABLE,
    "p": RelationKind.PARTITIONED,
    "v": RelationKind.VIEW,
    "m": RelationKind.MATERIALIZED_VIEW,
    "f": RelationKind.FOREIGN,
}
_HEADER = 4  # bytes that PostgreSQL adds to precision and scale in a type modifier


@asynccontextmanager
async def open_catalog(dsn: str, *, patience: float = 10.0) -> AsyncIterator[PgCatalog]:
    """A catalog on a connection of its own, closed on leaving. ``patience`` is in seconds, for each step.

    Raises:
        BrokerError: STORE_UNAVAILABLE, with what to check.
    """
    try:
        connection = await asyncpg.connect(
            dsn,
            timeout=patience,
            command_timeout=patience * 6,
            server_settings={
                "application_name": "querybroker catalog",
                "default_transaction_read_only": "on",
            },
        )
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        said = str(error) or type(error).__name__
        raise BrokerError(
            ErrorReason.STORE_UNAVAILABLE,
            f"no connection to the database: {said}; check its address, the network and the password",
        ) from error
    try:
        yield PgCatalog(connection, patience=patience)
    finally:
        await connection.close()


class PgCatalog:
    """The port ``Introspector`` on one connection. ``patience`` bounds, in seconds, statements that scan tables."""

    def __init__(self, connection: Connection, *, patience: float = 10.0) -> None:
        self._connection = connection
        self._patience = patience

    async def catalog(self) -> DatabaseCatalog:
        """Every table and view outside the system's and the broker's own schemas, from one snapshot."""
        async with self._connection.transaction(isolation="repeatable_read", readonly=True):
            server = await self._connection.fetchrow(sql.SERVER)
            relations = await self._connection.fetch(sql.RELATIONS)
            oids = [row["oid"] for row in relations]
            columns = _grouped(await self._connection.fetch(sql.COLUMNS, oids))
            indexes = _grouped(await self._connection.fetch(sql.INDEXES, oids))
            keys = _grouped(await self._connection.fetch(sql.FOREIGN_KEYS, oids))
        assert server is not None
        return DatabaseCatalog(
            ServerFacts(**dict(server)),
            tuple(
                _relation(
                    row, columns.get(row["oid"], ()), indexes.get(row["oid"], ()), keys.get(row["oid"], ())
                )
                for row in relations
            ),
        )

    async def functions(self, names: Sequence[str]) -> tuple[FunctionFacts, ...]:
        """The functions among the names that exist."""
        rows = await self._connection.fetch(sql.FUNCTIONS, list(names))
        return tuple(FunctionFacts(**dict(row)) for row in rows)

    async def describe(self, statements: Sequence[str]) -> tuple[Described, ...]:
        """Types of the columns of each statement. PostgreSQL parses and checks it, and does not run it."""
        found: list[Described | list[int]] = []
        for statement in statements:
            try:
                prepared = await self._connection.prepare(statement)
            except asyncpg.PostgresError as error:
                found.append(
                    Described(error="; ".join(filter(None, (error.args[0], getattr(error, "hint", None)))))
                )
            else:
                found.append([attribute.type.oid for attribute in prepared.get_attributes()])
        oids = {oid for entry in found if isinstance(entry, list) for oid in entry}
        rows = await self._connection.fetch(sql.TYPES, list(oids))
        types = {row["oid"]: _type(row, -1) for row in rows}
        return tuple(
            entry if isinstance(entry, Described) else Described(tuple(types[oid] for oid in entry))
            for entry in found
        )

    async def exists(self, statement: str) -> bool | None:
        """Whether a statement returns a row; None when that takes too long to find out."""
        try:
            async with self._connection.transaction(readonly=True):
                await self._connection.execute(
                    f"SET LOCAL statement_timeout = {round(self._patience * 1000)}"
                )
                return bool(await self._connection.fetchval(f"SELECT EXISTS ({statement})"))
        except asyncpg.QueryCanceledError:
            return None


def _grouped(rows: Sequence[asyncpg.Record]) -> Mapping[int, Sequence[asyncpg.Record]]:
    groups: dict[int, list[asyncpg.Record]] = {}
    for row in rows:
        groups.setdefault(row["relation"], []).append(row)
    return groups


def _relation(
    row: asyncpg.Record,
    columns: Sequence[asyncpg.Record],
    indexes: Sequence[asyncpg.Record],
    keys: Sequence[asyncpg.Record],
) -> Relation:
    rows = max(int(row["rows"]), 0)
    return Relation(
        schema=row["schema"],
        name=row["name"],
        kind=_KINDS[row["kind"]],
        columns=tuple(_column(column, rows) for column in columns),
        primary_key=next((tuple(index["columns"]) for index in indexes if index["primary"]), ()),
        foreign_keys=tuple(
            ForeignKey(tuple(key["columns"]), key["schema"], key["name"], tuple(key["referenced"]))
            for key in keys
        ),
        unique_keys=tuple(tuple(index["columns"]) for index in indexes if index["unique"]),
        indexed=frozenset(index["first"] for index in indexes if index["first"] is not None),
        ranged_by=row["ranged_by"] or "",
        rows=rows,
        readable=row["readable"],
        secured=row["secured"],
        comment=row["comment"],
    )


def _column(row: asyncpg.Record, rows: int) -> RelationColumn:
    """A column; ``n_distinct`` is negative where it counts in shares of the rows."""
    distinct = row["n_distinct"]
    return RelationColumn(
        name=row["name"],
        sql_type=_type(row, row["modifier"]),
        nullable=row["nullable"],
        distinct=-distinct * rows if distinct is not None and distinct < 0 else distinct or None,
        comment=row["comment"],
        folding=row["folding"],
    )


def _type(row: asyncpg.Record, modifier: int) -> SqlType:
    base = row["base"]
    scale = None
    if base == "numeric" and modifier >= _HEADER:
        # Eleven bits, signed: numeric(5, -2) rounds to hundreds.
        scale = ((modifier - _HEADER) & 0x7FF ^ 0x400) - 0x400
    return SqlType(
        name=row["type_name"],
        type=DataType.STRING if row["enum"] else _TYPES.get(base),
        scale=scale,
        zoned=base != "timestamp",
    )
