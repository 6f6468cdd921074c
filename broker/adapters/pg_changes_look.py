"""One look at all sources that are tracked: which of their changes are new, in one statement.

A look is about one *history* of the database. Two looks are of one history where every transaction that the first one
saw is seen by the second: not across a promotion or a restore, which begin a timeline, nor across a crash, which may
lose transactions that were not written yet and give their numbers away again. A crash is told by the server's
statistics, which it empties; a restart in good order keeps them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import starmap
from typing import TypeAlias

import asyncpg

from broker.adapters.pg_changes_seen import MOST_SEEN, Mark
from broker.adapters.pg_rollup_ddl import OUTSIDE
from broker.adapters.pg_rollup_visibility import TransactionView

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Key: TypeAlias = tuple[str, str]
"""A source: a dataset and one of its time dimensions."""
# Marks are read by the index, from the first transaction that the last look had not seen to be over. Of those that were
# in progress then, each is looked for.
_LOOK = """
SELECT l.snapshot, l.history, s.id, s.dataset, s.time, s.collected, s.version, s.names, s.definitions, s.intact,
       s.outside, m.lows, m.highs, m.xids
FROM (
    SELECT pg_current_snapshot()::text AS snapshot,
           CASE WHEN pg_is_in_recovery() THEN '' ELSE concat_ws('.',
               (SELECT oid FROM pg_database WHERE datname = current_database()),
               left(pg_walfile_name(pg_current_wal_lsn()), 8),
               (extract(epoch FROM pg_stat_get_bgwriter_stat_reset_time()) * 1000000)::bigint) END AS history
) AS l LEFT JOIN (
    SELECT o.id, o.dataset, o.time, o.collected, r.names, r.definitions,
           md5(concat_ws(' ', o.id, o.fingerprint, r.names, r.definitions)) AS version,
           o.fingerprint = broker.rollup_catalog(o.tables, o.owners, o.columns, o.tag) AS intact,
           EXISTS (SELECT FROM pg_proc AS p WHERE p.pronamespace = to_regnamespace('broker')
                   AND p.proname = o.tag || '_rows' AND strpos(p.prosrc, $6) > 0) AS outside
    FROM unnest($1::text[], $2::text[]) AS w (dataset, time)
    JOIN broker.rollup_source AS o ON o.dataset = w.dataset AND o.time = w.time
    LEFT JOIN LATERAL (
        SELECT array_agg(k.name ORDER BY k.id) AS names, array_agg(k.definition ORDER BY k.id) AS definitions
        FROM broker.rollup AS k WHERE k.source = o.id) AS r ON true
) AS s ON true LEFT JOIN LATERAL (
    SELECT array_agg(g.lo) AS lows, array_agg(g.hi) AS highs, array_agg(g.xid) AS xids FROM (
        SELECT DISTINCT n.lo, n.hi, n.xid FROM (
            SELECT a.lo, a.hi, a.xid FROM broker.rollup_mark AS a WHERE a.source = s.id AND a.xid >= $3
            UNION ALL
            SELECT b.lo, b.hi, b.xid FROM broker.rollup_mark AS b WHERE b.source = s.id AND b.xid = ANY ($4::xid8[])
        ) AS n LIMIT $5) AS g
) AS m ON true
"""


@dataclass(frozen=True, slots=True)
class SourceLook:
    """A source in one look.

    ``version`` changes with everything that decides which changes are marked. ``definitions`` are those that its
    rollups were installed with, by name. ``marks`` is None when there are more than are remembered. Marks of
    transactions before ``collected`` may be gone. ``outside`` says whether rows are marked that no segment can hold:
    without a time, or with one that is infinite or out of range.
    """

    version: str
    definitions: Mapping[str, str]
    collected: int
    marks: tuple[Mark, ...] | None
    outside: bool


@dataclass(frozen=True, slots=True)
class Look:
    """What one statement saw; ``sources`` lacks those that are not installed, or not intact."""

    history: str
    snapshot: str
    view: TransactionView
    sources: Mapping[Key, SourceLook]


async def look(connection: Connection, keys: Sequence[Key], last: TransactionView | None) -> Look | None:
    """Looks for the marks that the last look did not see, without one for all; None on a standby.

    A standby does not tell which transactions are in progress. Raises what asyncpg raises.
    """
    since, running = (0, []) if last is None else (last.xmax, list(last.running))
    names, times = [key[0] for key in keys], [key[1] for key in keys]
    rows = await connection.fetch(_LOOK, names, times, since, running, MOST_SEEN + 1, OUTSIDE)
    history, text = rows[0]["history"], rows[0]["snapshot"]
    if not history:
        return None
    found = {(row["dataset"], row["time"]): _source(row) for row in rows if row["intact"]}
    return Look(history, text, TransactionView.parse(text), found)


def _source(row: asyncpg.Record) -> SourceLook:
    lows = row["lows"] or ()
    marks = tuple(starmap(Mark, zip(lows, row["highs"] or (), row["xids"] or (), strict=True)))
    definitions = dict(zip(row["names"] or (), row["definitions"] or (), strict=True))
    return SourceLook(
        row["version"],
        definitions,
        row["collected"],
        None if len(marks) > MOST_SEEN else marks,
        row["outside"],
    )
