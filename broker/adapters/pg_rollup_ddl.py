"""The functions and triggers that mark what writers change, as SQL.

A statement on a tracked table leaves marks in its own transaction: for the dataset's own table the buckets of the time
dimension that its rows are in, as runs of adjacent ones; for a joined table everything, since any row may join to it.

- A trigger on a parent sees what is written through the parent, so every partition has triggers of its own; what is
  written to it directly fires those, and nothing fires both.
- TRUNCATE marks everything; its trigger fires for each table that is emptied.
- Rows whose time is null, infinite or outside the years 1 to 9999 leave a mark past the end of time: no segment can
  hold them, and an answer that counts them reads them from the table itself. The mark is for who holds such answers.
- An update leaves marks for rows that differ before and after in a column that some rollup reads, and at both times.
  Rows are compared as text and as a whole, not paired: what is the same set of rows as before has the same states.
- Writers never fail for a rollup: where what is read of a row cannot be computed, everything is marked.
- The functions run with the rights of whoever installed them: writers need none on the marks.
"""

from __future__ import annotations

import re

from broker.adapters.pg_rollup_tracked import TrackedSource, TrackedTable
from broker.adapters.sql.dataset import DatasetSql
from broker.adapters.sql.values import DIALECT
from broker.domain.fingerprint import fingerprint
from broker.domain.rollup import FAR_FUTURE, FAR_PAST
from broker.domain.values import DataType

_PLACE = re.compile(r"\{(\w+)\}")
OUTSIDE = f"ELSE {FAR_FUTURE} END"
"""In the body of every function that marks rows which no segment can hold; earlier ones did not."""
NEW_SOURCE = ":source"
"""Stands for the number of a source that is not registered yet."""
_DAY = 86_400_000_000
# Only names of pg_catalog mean what they say while others may make objects. The rest is what the broker's own sessions
# read with, so that a text or a date means the same; and digits enough that no two values look the same.
_FUNCTION = """\
CREATE OR REPLACE FUNCTION broker.{name}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET extra_float_digits = '1' AS $rollup$
{body}
END
$rollup$"""
_MARK_ALL = "INSERT INTO broker.rollup_mark (source, lo, hi) VALUES ({source}, {lo}, {hi})"
# What reads the rows stands in a block of its own. Where it fails, since the time of a row cannot be computed, or a
# column is gone, everything is marked, and the writer goes on. A block that only reads takes no transaction number,
# unlike one that would write the marks as well.
_TRY = """\
  BEGIN
    {read}
  EXCEPTION WHEN OTHERS THEN
    {all}
    RETURN NULL;
  END;
"""
_ROWS_OF_OTHERS = """\
BEGIN
  IF EXISTS (SELECT FROM changed) THEN
    {all}
  END IF;
  RETURN NULL;"""
_UPDATE_OF_OTHERS = """\
DECLARE
  differs boolean;
BEGIN
{try}  IF differs THEN
    {all}
  END IF;
  RETURN NULL;"""
_DIFFERS = "differs := EXISTS ({rows});"
# OFFSET 0 keeps the condition outside, where it is asked of every bucket instead of every row.
_RUNS = """\
(SELECT min(m.lo) AS lo, max(m.lo) + {width} AS hi
    FROM (SELECT b.lo, b.lo - {width} * row_number() OVER (ORDER BY b.lo) AS run
      FROM (SELECT CASE WHEN d.t >= {first} AND d.t < {last} THEN {lo} ELSE {nowhere} END AS lo
        FROM (SELECT DISTINCT r.t FROM (
          {rows}
        ) AS r OFFSET 0) AS d
      ) AS b
    ) AS m
    GROUP BY m.run)"""
# Most statements write to one bucket. Finding that out costs a fifth of what finding all buckets does.
_ROWS = """\
#variable_conflict use_column
DECLARE
  earliest {type};
  latest {type};
  timed boolean;
  start bigint;
BEGIN
{try}  IF timed AND earliest >= {first} AND latest < {last} AND {early} = {late} THEN
    SELECT {lo} INTO start FROM (SELECT {early} AS t) AS d;
    INSERT INTO broker.rollup_mark (source, lo, hi) VALUES ({source}, start, start + {width});
    RETURN NULL;
  END IF;
  INSERT INTO broker.rollup_mark (source, lo, hi)
  SELECT {source}, e.lo, e.hi FROM {runs} AS e;
  RETURN NULL;"""
_ENDS = """\
SELECT min({instant}), max({instant}), count({instant}) = count(*) INTO earliest, latest, timed
    FROM changed AS {alias};"""
_UPDATE = """\
#variable_conflict use_column
DECLARE
  starts bigint[];
  ends bigint[];
BEGIN
{try}  INSERT INTO broker.rollup_mark (source, lo, hi)
  SELECT {source}, e.lo, e.hi FROM unnest(starts, ends) AS e (lo, hi);
  RETURN NULL;"""
_COLLECT = "SELECT array_agg(e.lo), array_agg(e.hi) INTO starts, ends FROM {runs} AS e;"
_CHANGED = "SELECT {bin} AS t FROM changed AS {alias}"
_SIDE = "SELECT {time} AS t, {used}::text AS used, {n} AS n FROM {rows} AS {alias}"
# The rows of an update that are not on both sides, by what is read of them.
_DIFFERING = """\
SELECT min(c.t) AS t FROM (
          {new}
          UNION ALL
          {old}
        ) AS c GROUP BY c.used HAVING sum(c.n) <> 0"""
# Instants are counted from 2000, where PostgreSQL's begin: none is too far from it.
_BIN = "date_bin('{seconds} seconds', {instant}, '2000-01-01 00:00:00+00')"
_EXTENT = """\
SELECT {source}, min({lo}), max({lo}) + 1
FROM (SELECT {instant} AS t FROM ONLY {relation} AS {alias}) AS d
WHERE d.t >= {first} AND d.t < {last}
HAVING count(*) > 0"""
_EVENTS = (
    ("insert", "INSERT", "REFERENCING NEW TABLE AS changed", "rows"),
    ("delete", "DELETE", "REFERENCING OLD TABLE AS changed", "rows"),
    ("update", "UPDATE", "REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows", "update"),
    ("truncate", "TRUNCATE", "", "all"),
)


def quoted(name: str) -> str:
    """An identifier as SQL."""
    return '"' + name.replace('"', '""') + '"'


def stem(source: TrackedSource, table: TrackedTable) -> str:
    """What begins the names for one table."""
    return (
        source.tag if table.alias == source.dataset.name else f"{source.tag}_{fingerprint(table.table)[:8]}"
    )


def functions(source: TrackedSource, number: int | None) -> dict[str, str]:
    """The statements that make the functions, by name. ``number`` is that of the source; None before it has one."""
    shown, everything = _shown(number), f"{mark_all(number)};"
    made = {f"{source.tag}_all": f"BEGIN\n  {everything}\n  RETURN NULL;"}
    for table in written_tables(source):
        name, alias = stem(source, table), quoted(table.alias)
        if table.alias == source.dataset.name:
            names = _names(source, shown)
            ends = _fill(_TRY, read=_fill(_ENDS, alias=alias, **names), all=everything)
            runs = _fill(_RUNS, rows=_fill(_CHANGED, alias=alias, **names), **names)
            made[f"{name}_rows"] = _fill(_ROWS, **{"try": ends}, runs=runs, **names)
            runs = _fill(_RUNS, rows=_differing(table, str(names["bin"])), **names)
            collect = _fill(_TRY, read=_fill(_COLLECT, runs=runs), all=everything)
            made[f"{name}_update"] = _fill(_UPDATE, **{"try": collect}, **names)
        else:
            made[f"{name}_rows"] = _fill(_ROWS_OF_OTHERS, all=everything)
            differs = _fill(_DIFFERS, rows=_differing(table, "1"))
            block = _fill(_TRY, read=differs, all=everything)
            made[f"{name}_update"] = _fill(_UPDATE_OF_OTHERS, **{"try": block}, all=everything)
    return {name: _fill(_FUNCTION, name=quoted(name), body=body) for name, body in made.items()}


def triggers(source: TrackedSource, table: TrackedTable, relation: str) -> dict[str, tuple[str, str]]:
    """By name, the two statements that make a trigger of a relation, given as SQL, and let it always fire."""
    made = {}
    name = stem(source, table)
    for event, word, referencing, body in _EVENTS:
        trigger = quoted(f"{name}_{event}")
        function = quoted(f"{source.tag}_all" if body == "all" else f"{name}_{body}")
        parts = [f"CREATE TRIGGER {trigger} AFTER {word} ON {relation}", referencing]
        parts.append(f"FOR EACH STATEMENT EXECUTE FUNCTION broker.{function}()")
        enable = f"ALTER TABLE {relation} ENABLE ALWAYS TRIGGER {trigger}"
        made[f"{name}_{event}"] = " ".join(part for part in parts if part), enable
    return made


def written_tables(source: TrackedSource) -> tuple[TrackedTable, ...]:
    """The tables that need triggers, each once: aliases of one joined table have its columns together."""
    found: dict[str, TrackedTable] = {}
    for table in source.written:
        key = stem(source, table)
        known = found.get(key, table)
        both = None
        if known.columns is not None and table.columns is not None:
            both = tuple(sorted({*known.columns, *table.columns}))
        found[key] = TrackedTable(table.table, known.alias, both)
    return tuple(found.values())


def _differing(table: TrackedTable, time: str) -> str:
    alias = quoted(table.alias)
    used = f"({alias}.*)"
    if table.columns is not None:
        used = f"ROW({', '.join(f'{alias}.{quoted(name)}' for name in table.columns)})"
    side = _fill(_SIDE, time=time, used=used, alias=alias)
    new, old = _fill(side, n=1, rows="new_rows"), _fill(side, n=-1, rows="old_rows")
    return _fill(_DIFFERING, new=new, old=old)


def mark_all(number: int | None) -> str:
    """The statement that marks everything of a source."""
    return _fill(_MARK_ALL, source=_shown(number), lo=FAR_PAST, hi=FAR_FUTURE)


def mark_extent(source: TrackedSource, number: int | None, relation: str, *, insert: bool = False) -> str:
    """The statement that finds, or with ``insert`` marks, all from the first to the last instant in a relation."""
    query = _fill(
        _EXTENT, source=_shown(number), relation=relation, alias=quoted(source.dataset.name), **_time(source)
    )
    return f"INSERT INTO broker.rollup_mark (source, lo, hi)\n{query}" if insert else query


def body_of(statement: str) -> str:
    """The text of a function between its quotes, as PostgreSQL keeps it."""
    return statement.split("$rollup$")[1]


def _shown(number: int | None) -> str:
    return NEW_SOURCE if number is None else str(number)


def _time(source: TrackedSource) -> dict[str, str]:
    """The instant of a row; ``lo``, microseconds of it as ``d.t``; and the ends of what segments can hold."""
    instant = DatasetSql(source.dataset).dimension(source.time).sql(dialect=DIALECT)
    if source.time.type is DataType.DATE:  # a date counts as its midnight in UTC
        lo, midnight = f"(d.t - '1970-01-01'::date)::bigint * {_DAY}", ""
    else:
        lo, midnight = "(extract(epoch FROM d.t) * 1000000)::bigint", " 00:00:00+00"
    ends = {
        "first": f"'0001-01-01{midnight}'",
        "last": f"'10000-01-01{midnight}'",
        "nowhere": str(FAR_FUTURE),
    }
    return {"instant": instant, "lo": lo, **ends}


def _names(source: TrackedSource, shown: str) -> dict[str, object]:
    """What fills the functions over the dataset's own table."""
    names: dict[str, object] = {"source": shown, **_time(source)}
    if source.time.type is DataType.DATE:
        more = {"type": "date", "width": _DAY, "bin": names["instant"], "early": "earliest", "late": "latest"}
        return {**names, **more}
    bins = {
        place: _fill(_BIN, seconds=source.width // 1_000_000, instant=instant)
        for place, instant in (("bin", names["instant"]), ("early", "earliest"), ("late", "latest"))
    }
    return {**names, "type": "timestamptz", "width": source.width, **bins}


def _fill(template: str, **values: object) -> str:
    """The template with some of its places filled; what is put in is not looked at again."""
    parts = _PLACE.split(template)
    filled = [f"{values.get(name, '{' + name + '}')}" for name in parts[1::2]]
    return parts[0] + "".join(text for pair in zip(filled, parts[2::2], strict=True) for text in pair)
