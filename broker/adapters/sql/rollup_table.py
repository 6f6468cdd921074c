"""Rollups that are tables: what the table of a managed one looks like, and where a relation keeps what.

A managed table is called ``{dataset}.{rollup}``, which no other pair of names can give. It has the bucket's start in
``t``, the dimensions by their names and the states as ``{measure}.{state}``,
in this order, with the types of their values. Names too long for PostgreSQL are replaced by ones that end in a hash
(tables) or by their position (columns). An external relation has columns of its own naming, which hold what the
expressions of the model would give: a date for a time dimension of dates, a timestamp without zone for one that is
stored so, instants else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from broker.adapters.sql.types import NAME_BYTES, quoted
from broker.adapters.sql.values import DIALECT, sql_type
from broker.domain.fingerprint import fingerprint
from broker.domain.measures import order_keys, states
from broker.domain.model import Dataset
from broker.domain.plan import state_name
from broker.domain.rollup import Rollup, Storage
from broker.domain.values import DataType

SCHEMA = "broker_rollup"
TIME = "t"
"""The column with the beginning of the bucket."""
_HASH = 12
_INDEXED = 32
"""Columns that an index of PostgreSQL may have."""


@dataclass(frozen=True, slots=True)
class TableColumn:
    """A column of a managed table: ``member`` is the dimension or ``{measure}.{state}``, empty for the bucket."""

    name: str
    member: str
    type: DataType
    scale: int = 0

    @property
    def sql(self) -> str:
        """The quoted name."""
        return _identifier(self.name)

    @property
    def definition(self) -> str:
        """Name and type. Text is kept by code point, as every order of the broker is."""
        kind = sql_type(self.type, scale=self.scale).sql(dialect=DIALECT)
        return f"{self.sql} {kind}" + (' COLLATE "C"' if self.type is DataType.STRING else "")


def table_name(dataset: str, rollup: str) -> str:
    """The name of a managed table within its schema, unquoted."""
    return _fitting(f"{dataset}.{rollup}")


def table_sql(dataset: str, rollup: str) -> str:
    """The qualified and quoted name of a managed table."""
    return f"{SCHEMA}.{_identifier(table_name(dataset, rollup))}"


def table_columns(dataset: Dataset, rollup: Rollup) -> tuple[TableColumn, ...]:
    """The columns of a managed table in order: ``t``, dimensions, states."""
    return tuple(
        TableColumn(quoted(name or TIME, i).name, name, kind, scale)
        for i, (name, kind, scale) in enumerate(_members(dataset, rollup))
    )


def table_ddl(dataset: Dataset, rollup: Rollup) -> tuple[str, ...]:
    """The statements that make the table of a managed rollup and its indexes. Safe to run again.

    One value of the first dimension over some time is one range of an index, which has the states as well: the rows of
    the table come by time, so that those of the range are far apart there. Rows of a span are found by ``t``, for
    refreshes and for wide ranges.
    """
    table, columns = table_sql(dataset.name, rollup.name), table_columns(dataset, rollup)
    keys, states = columns[1 : 1 + len(rollup.dimensions)], columns[1 + len(rollup.dimensions) :]
    key = f"({', '.join(c.sql for c in (*keys[:1], columns[0], *keys[1:]))})"
    if keys and states and len(columns) <= _INDEXED and all(c.type is not DataType.STRING for c in states):
        key += f" INCLUDE ({', '.join(c.sql for c in states)})"
    found = [
        f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}",
        f"CREATE TABLE IF NOT EXISTS {table} ({', '.join(c.definition for c in columns)})",
        f"CREATE INDEX IF NOT EXISTS {_index(dataset, rollup, 'key')} ON {table} {key}",
    ]
    if rollup.dimensions:
        found.append(
            f"CREATE INDEX IF NOT EXISTS {_index(dataset, rollup, 'time')} ON {table} ({_identifier(TIME)})"
        )
    return tuple(found)


def relation_sql(dataset: Dataset, rollup: Rollup) -> str:
    """The relation that holds a rollup's rows, as a qualified and quoted name."""
    if rollup.storage is Storage.EXTERNAL:
        return rollup.relation
    return table_sql(dataset.name, rollup.name)


def relation_columns(dataset: Dataset, rollup: Rollup) -> dict[str, str]:
    """The unquoted name of the column that holds each dimension and each ``{measure}.{state}``; the bucket's is ''."""
    if rollup.storage is Storage.EXTERNAL:
        given = dict(rollup.columns)
        members = [(name, name or rollup.time) for name, _, _ in _members(dataset, rollup)]
        return {name: given.get(member, member) for name, member in members}
    return {column.member: column.name for column in table_columns(dataset, rollup)}


def _members(dataset: Dataset, rollup: Rollup) -> Iterator[tuple[str, DataType, int]]:
    yield "", DataType.TIMESTAMP, 0
    for name in rollup.dimensions:
        dimension = dataset.dimensions[name]
        yield name, dimension.type, dimension.scale
    keys = order_keys(dataset)
    for name in rollup.measures:
        for state in states(dataset.measures[name], keys):
            yield state_name(name, state.name), state.type, state.scale


def _identifier(name: str) -> str:
    return quoted(name).sql(dialect=DIALECT)


def _index(dataset: Dataset, rollup: Rollup, suffix: str) -> str:
    return _identifier(_fitting(f"{dataset.name}.{rollup.name}.{suffix}"))


def _fitting(name: str) -> str:
    """The name, if PostgreSQL would not cut it; else its beginning and a hash."""
    if len(name.encode()) <= NAME_BYTES:
        return name
    return f"{name.encode()[: NAME_BYTES - _HASH - 1].decode(errors='ignore')}.{fingerprint(name)[:_HASH]}"
