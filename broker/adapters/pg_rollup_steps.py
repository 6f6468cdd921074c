"""The statements that bring the triggers of a source from what is there to what should be."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import asyncpg

from broker.adapters.pg_rollup_catalog import Changes, Relation
from broker.adapters.pg_rollup_database import Connection
from broker.adapters.pg_rollup_ddl import (
    body_of,
    functions,
    mark_all,
    mark_extent,
    quoted,
    stem,
    triggers,
    written_tables,
)
from broker.adapters.pg_rollup_tracked import TrackedSource
from broker.domain.errors import BrokerError, ErrorReason

_TRIGGERS = """
SELECT g.tgrelid AS relation, quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS name, g.tgname AS trigger,
       g.tgenabled = 'A' AS always, p.proname AS function, g.tgtype::int AS type
FROM pg_trigger AS g JOIN pg_class AS c ON c.oid = g.tgrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_proc AS p ON p.oid = g.tgfoid
WHERE starts_with(g.tgname::text, $1) AND NOT g.tgisinternal
ORDER BY name, trigger
"""
_FUNCTIONS = """
SELECT p.proname AS name, p.prosrc AS body, p.prosecdef AND p.proconfig = $2 AS safe
FROM pg_proc AS p WHERE p.pronamespace = to_regnamespace('broker') AND starts_with(p.proname::text, $1)
ORDER BY name
"""
_CONFIG = ["search_path=pg_catalog, pg_temp", "TimeZone=UTC", "extra_float_digits=1"]
_TYPES = {"insert": 4, "delete": 8, "update": 16, "truncate": 32}
"""Bits of pg_trigger.tgtype of a statement trigger that fires after its event."""


async def steps(
    connection: Connection,
    source: TrackedSource,
    number: int | None,
    relations: Sequence[Relation],
    changed: Changes,
) -> tuple[str, ...]:
    """What is to be done for a source; reads the catalog and changes nothing."""
    wanted = functions(source, number) if source.written else {}
    present = {r["name"]: r for r in await connection.fetch(_FUNCTIONS, source.tag, _CONFIG)}
    made = [text for name, text in wanted.items() if not _same(present.get(name), text)]
    existing = await connection.fetch(_TRIGGERS, source.tag)
    locks = []
    if made and any(name in present for name in wanted):
        # A writer that ran the old function may not have committed yet. It must have before anything is built.
        names = ", ".join(r.name for r in relations if r.root and _written(source, r))
        locks = [f"LOCK TABLE {names} IN SHARE ROW EXCLUSIVE MODE"]
    ddl = [*locks, *made, *_triggers(source, relations, existing)]
    ddl += [f"DROP FUNCTION broker.{quoted(name)}()" for name in present if name not in wanted]
    return (*ddl, *_marks(source, number, relations, changed))


async def check_functions(
    connection: Connection, source: TrackedSource, relations: Sequence[Relation]
) -> None:
    """Raises ROLLUP_STATE when the time dimension cannot be read with the search path of the triggers."""
    own = next(r.name for r in relations if r.root and r.table.alias == source.dataset.name)
    path = await connection.fetchval("SELECT current_setting('search_path')")
    try:
        await connection.execute("SET LOCAL search_path = pg_catalog, pg_temp")
        await connection.fetch(f"SELECT * FROM ({mark_extent(source, 0, own)}) AS probe LIMIT 0")  # noqa: S608 - quoted
    except (asyncpg.UndefinedFunctionError, asyncpg.UndefinedObjectError) as error:
        text = (
            f"The time dimension {source.time.name!r} of {source.dataset.name!r} names a function, a type or an "
            "operator that triggers cannot find. Write it with its schema."
        )
        raise BrokerError(ErrorReason.ROLLUP_STATE, text) from error
    await connection.execute("SELECT set_config('search_path', $1, true)", path)


def _same(present: asyncpg.Record | None, text: str) -> bool:
    return present is not None and present["safe"] and present["body"] == body_of(text)


def _written(source: TrackedSource, relation: Relation) -> bool:
    return stem(source, relation.table) in {stem(source, table) for table in source.written}


def _triggers(
    source: TrackedSource, relations: Sequence[Relation], existing: Iterable[asyncpg.Record]
) -> list[str]:
    there = {(r["relation"], r["trigger"]): r for r in existing}
    by_stem = {stem(source, table): table for table in written_tables(source)}
    found, kept = [], set()
    for relation in relations:
        table = by_stem.get(stem(source, relation.table))
        for name, (create, enable) in (triggers(source, table, relation.name) if table else {}).items():
            key = relation.oid, name
            if key in kept:
                continue
            kept.add(key)
            known = there.get(key)
            right = known is not None and _fits(known)
            if not right:
                if known is not None:
                    found.append(f"DROP TRIGGER {quoted(name)} ON {relation.name}")
                found.append(create)
            if known is None or not right or not known["always"]:
                found.append(enable)
    found += [
        f"DROP TRIGGER {quoted(r['trigger'])} ON {r['name']}" for key, r in there.items() if key not in kept
    ]
    return found


def _fits(known: asyncpg.Record) -> bool:
    """Whether a trigger of that name fires at its event, and calls its function."""
    name, _, event = known["trigger"].rpartition("_")
    body = {"update": "update", "truncate": "all"}.get(event, "rows")
    expected = f"{name}_{body}"
    if body == "all":
        expected = "_".join([*name.split("_")[:2], "all"])
    return bool(known["type"] == _TYPES.get(event) and known["function"] == expected)


def _marks(
    source: TrackedSource, number: int | None, relations: Sequence[Relation], changed: Changes
) -> list[str]:
    """Marks for what happened while it was not followed: all of it, unless only partitions were added."""
    if not source.written or (not changed.unknown and not changed.attached):
        return []
    added = [r for r in relations if r.oid in changed.attached]
    own = all(r.table.alias == source.dataset.name for r in added)
    if changed.unknown or not own:
        return [mark_all(number)]
    return [mark_extent(source, number, r.name, insert=True) for r in added if r.kind == "r"]
