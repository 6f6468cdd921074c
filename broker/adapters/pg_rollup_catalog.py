"""The catalog of a source: what is asked of it, what has changed since it was accepted, and what cannot be a source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from broker.adapters.pg_rollup_database import Connection
from broker.adapters.pg_rollup_ddl import stem
from broker.adapters.pg_rollup_tracked import TrackedSource, TrackedTable
from broker.domain.errors import BrokerError, ErrorReason

CATALOG = "SELECT broker.rollup_catalog($1, $2, $3, $4)"
STALE = "stale"
# Of every tracked table, by position: the table itself, and what hangs below it, each with a name fit for SQL.
_RELATIONS = """
WITH RECURSIVE tree (position, relation, root) AS (
    SELECT n.position, to_regclass(n.name)::oid, true FROM unnest($1::text[]) WITH ORDINALITY AS n (name, position)
    UNION
    SELECT t.position, i.inhrelid, false FROM tree AS t JOIN pg_inherits AS i ON i.inhparent = t.relation
)
SELECT t.position, t.root, c.oid, c.relkind::text AS kind, c.relpersistence::text AS persistence,
       c.relrowsecurity AS secured, quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS name,
       EXISTS (SELECT FROM pg_subscription_rel AS s WHERE s.srrelid = c.oid) AS subscribed
FROM tree AS t LEFT JOIN pg_class AS c ON c.oid = t.relation LEFT JOIN pg_namespace AS n ON n.oid = c.relnamespace
ORDER BY t.position, NOT t.root, name
"""
# Triggers see no value of a column that is computed when it is read.
_VIRTUAL = """
SELECT u.table_name || '.' || a.attname FROM unnest($1::text[], $2::text[]) AS u (table_name, name)
JOIN pg_attribute AS a ON a.attrelid = to_regclass(u.table_name) AND a.attname = u.name AND a.attgenerated = 'v'
"""
_MODES = (
    "Declare `tracking: append_only` with a lateness, or `tracking: change_token`, which ask nothing of the tables; "
    "answers then say how late they may be"
)
_KINDS = {"v": "a view", "m": "a materialized view", "f": "a foreign table"}


class Request(NamedTuple):
    """The arguments of ``broker.rollup_catalog``: table names, columns by the position of their table, the tag."""

    tables: list[str]
    owners: list[int]
    columns: list[str | None]
    tag: str


@dataclass(frozen=True, slots=True)
class Relation:
    """A table of a source, or what hangs below it; ``name`` is quoted and qualified."""

    table: TrackedTable
    root: bool
    oid: int
    kind: str
    name: str


def request(source: TrackedSource) -> Request:
    """What the fingerprint of a source is made of."""
    owners: list[int] = []
    columns: list[str | None] = []
    for position, table in enumerate(source.tables, 1):
        wanted: Sequence[str | None] = (None,) if table.columns is None else table.columns
        owners += [position] * len(wanted)
        columns += wanted
    return Request([table.table for table in source.tables], owners, columns, source.tag)


async def fingerprint(connection: Connection, wanted: Request) -> str:
    """The catalog as lines of text, as it is now."""
    found: str = await connection.fetchval(CATALOG, *wanted)
    return found


async def relations(connection: Connection, source: TrackedSource) -> tuple[Relation, ...]:
    """The tables that are read, with what hangs below them.

    Raises:
        BrokerError: ROLLUP_STATE, naming everything that keeps them from being a source.
    """
    rows = await connection.fetch(_RELATIONS, [table.table for table in source.tables])
    problems: list[str] = []
    found = []
    written = {stem(source, table) for table in source.written}
    for row in rows:
        table = source.tables[row["position"] - 1]
        name = row["name"] or table.table
        problem = _problem(row, tracked=stem(source, table) in written)
        if problem:
            problems.append(f"{name} {problem}")
        elif row["oid"] is not None:
            found.append(Relation(table, row["root"], row["oid"], row["kind"], name))
    pairs = [(table.table, name) for table in source.written for name in table.columns or ()]
    virtual = await connection.fetch(_VIRTUAL, [pair[0] for pair in pairs], [pair[1] for pair in pairs])
    text = "is a virtual generated column, which triggers cannot read. Make it STORED"
    problems += [f"{row[0]} {text}" for row in virtual]
    if source.time.tables != (source.dataset.name,) and source.written:
        problems.append(f"the time dimension {source.time.name!r} is not one of the dataset's own table")
    if problems:
        listed = "; ".join(dict.fromkeys(problems))
        text = f"The rollups of {source.dataset.name!r} cannot be installed: {listed}."
        raise BrokerError(ErrorReason.ROLLUP_STATE, text, metadata={"dataset": source.dataset.name})
    return tuple(found)


def _problem(row: object, *, tracked: bool) -> str:
    """Why a relation cannot be read or followed; empty when it can."""
    given: dict[str, object] = dict(row)  # type: ignore[call-overload] # a record is a mapping
    if given["oid"] is None:
        return "does not exist, or its schema may not be used"
    if given["secured"]:
        return (
            "has row-level security, so that stored states would hide rows or show them to others. "
            "Use row policies of the dataset in its place"
        )
    if not tracked:
        return ""
    if kind := _KINDS.get(str(given["kind"])):
        return f"is {kind}, where no trigger sees changes. {_MODES}"
    if given["persistence"] != "p":
        return f"is not logged, and is emptied by a crash without a trace. {_MODES}"
    if given["subscribed"]:
        return f"is written by a subscription, which fires no statement triggers. {_MODES}"
    return ""


@dataclass(frozen=True, slots=True)
class Changes:
    """What has happened to an accepted catalog.

    ``attached`` are relations that were not there, by oid; ``unknown`` has a line for anything else.
    """

    attached: frozenset[int]
    unknown: tuple[str, ...]


UNCHANGED = Changes(frozenset(), ())


def changes(accepted: str, now: str) -> Changes:
    """What differs between two fingerprints that were made of the same."""
    before, after = set(accepted.splitlines()), set(now.splitlines()) - {STALE}
    known = {_subject(line) for line in before}
    attached = {line for line in after - before if line.startswith("r ") and _subject(line) not in known}
    # Triggers that are there in addition change nothing, and a new partition may have been another's with some.
    extra = {line for line in after - before if line.startswith(("g ", "f "))}
    unknown = (before - after) | (after - before - attached - extra)
    return Changes(frozenset(int(_subject(line)[2:]) for line in attached), tuple(sorted(unknown)))


def _subject(line: str) -> str:
    """Kind and subject of a line, without what is said of it."""
    return " ".join(line.split(" ")[:2])
