"""Coverage: what of each rollup a snapshot may use, read in one round trip while nothing was built anew."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

import asyncpg

from broker.adapters.pg_rollup_marks import NEVER, MarkMemory, Marks, SegmentList, merged, within
from broker.adapters.pg_rollup_records import REDEFINED, SEGMENTS, State, list_of, marks_of, rows_of
from broker.adapters.pg_rollup_visibility import TransactionView
from broker.adapters.sql.compiler import Recent
from broker.domain.model import Dataset
from broker.domain.rollup import (
    ALWAYS,
    FAR_FUTURE,
    Coverage,
    Rollup,
    Rule,
    Segment,
    Span,
    Storage,
    Tracking,
    micros,
)
from broker.policy.rollups.definition import definition

STATE = "SELECT * FROM broker.rollup_state($1, $2, $3, $4)"
SNAPSHOT = "SELECT pg_current_snapshot()::text"
MISSING = (
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedFunctionError,
    asyncpg.UndefinedColumnError,
    asyncpg.InvalidSchemaNameError,
    asyncpg.InsufficientPrivilegeError,
)
"""What is raised where the tables of rollups are missing or old, or may not be read."""
ABSENT = 1.0
"""Seconds in which tables of rollups that were missing are not looked for again: asking for them is an error there."""
_LISTS = 2_000
"""Rollups whose segments are remembered."""
_INSTALL = "Run `broker rollup install`."
Connection: TypeAlias = (
    "asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"
)


@dataclass(frozen=True, slots=True)
class Asked:
    """The values of :data:`STATE` for one rollup, and the list of segments that they were chosen for."""

    values: tuple[object, ...]
    known: SegmentList


class CoverageReading:
    """Reads coverage in snapshots of one database, and remembers the segments of each rollup between them.

    A list of segments is known by the version of its rollup, which every change of it changes in the same transaction;
    so what is remembered is what the snapshot would find. Marks are remembered for each connection.
    """

    def __init__(self) -> None:
        self._absent = -math.inf
        self._lists: Recent[tuple[str, str, str], SegmentList] = Recent(_LISTS)
        self._definitions: Recent[tuple[int, str], tuple[Dataset, str]] = Recent(_LISTS)
        self._memories: WeakKeyDictionary[object, dict[tuple[str, str], MarkMemory]] = WeakKeyDictionary()

    def absent(self, now: float) -> bool:
        """Whether the tables were missing a moment ago, by the monotonic clock."""
        return now < self._absent

    def missed(self, now: float) -> None:
        """The tables are missing."""
        self._absent = now + ABSENT

    async def read(
        self, connection: Connection, dataset: Dataset, rollups: Sequence[Rollup], span: Span, as_of: datetime
    ) -> tuple[tuple[Coverage, ...], str]:
        """What of each rollup the connection's snapshot, taken at ``as_of``, may use within the span; and its text.

        Raises what asyncpg raises, one of :data:`MISSING` when the tables of rollups are not there.
        """
        found: dict[str, Coverage] = {}
        text = ""
        for time in dict.fromkeys(rollup.time for rollup in rollups):
            own = [rollup for rollup in rollups if rollup.time == time]
            text, coverages = await self._source(connection, dataset, own, span, as_of)
            found |= coverages
        if not text:
            text = await connection.fetchval(SNAPSHOT)
        return tuple(found[rollup.name] for rollup in rollups), text

    def asked(self, dataset: Dataset, rollup: Rollup) -> Asked | None:
        """What a statement has to ask for, to read a rollup's coverage beside its rows; None if it cannot."""
        known = self._lists.get((dataset.name, rollup.time, rollup.name))
        if known is None or rollup.tracking is not Tracking.TRIGGERS or rollup.storage is Storage.EXTERNAL:
            return None
        return Asked((dataset.name, rollup.time, known.since, list(known.running)), known)

    def told(
        self, dataset: Dataset, rollup: Rollup, span: Span, asked: Asked, state: State
    ) -> Coverage | None:
        """The coverage that the statement found; None when there are other segments by now, which it cannot tell."""
        row = state.rows.get(rollup.name)
        refused = self._refused(dataset, rollup, row, intact=state.intact)
        if row is None:
            return refused
        known = asked.known
        if row["versions"] != known.version:
            return None
        if refused is not None:
            return replace(refused, sealed=known.sealed(span))
        return _covered(rollup, known, state.marks, span, "")

    async def _source(
        self, connection: Connection, dataset: Dataset, rollups: Sequence[Rollup], span: Span, as_of: datetime
    ) -> tuple[str, dict[str, Coverage]]:
        """The rollups over one time dimension."""
        time = rollups[0].time
        keys = {r.name: (dataset.name, time, r.name) for r in rollups if r.storage is not Storage.EXTERNAL}
        lists = {name: known for name, key in keys.items() if (known := self._lists.get(key)) is not None}
        memory = self._memory(connection, dataset.name, time)
        since, running = _needed(lists.values())
        state = await self._state(connection, dataset.name, time, memory, since, running)
        rows = rows_of(state)
        changed = {
            name: rows[name] for name in keys
            if name in rows and (name not in lists or lists[name].version != rows[name]["versions"])
        }  # fmt: skip
        if changed:
            lists |= await self._read_lists(connection, changed)
            for name in changed:
                self._lists.put(keys[name], lists[name])
            since, running_then = _needed(lists.values())
            if not memory.covers(since) or not running_then <= running:
                state = await self._state(connection, dataset.name, time, memory, since, running_then)
        marks = Marks(memory.last, marks_of(state).running)
        found = {}
        for rollup in rollups:
            row = rows.get(rollup.name)
            refused = self._refused(dataset, rollup, row, intact=bool(state["intact"]))
            if refused is not None:
                own = lists.get(rollup.name) if row is not None else None
                found[rollup.name] = replace(refused, sealed=own.sealed(span) if own is not None else ())
            elif rollup.storage is Storage.EXTERNAL:
                found[rollup.name] = external(rollup, as_of)
            else:
                token = await _token(connection, rollup)
                found[rollup.name] = _covered(rollup, lists[rollup.name], marks, span, token)
        return state["snapshot"], found

    def _refused(
        self, dataset: Dataset, rollup: Rollup, row: Mapping[str, Any] | None, *, intact: bool
    ) -> Coverage | None:
        """Why nothing of a rollup may be used, if so. An external one needs no installation to be used."""
        kept = rollup.storage is not Storage.EXTERNAL
        if row is None:
            text = f"Nothing is installed for the rollup. {_INSTALL}"
            return Coverage(rollup.name, unusable=Rule.COVER, message=text) if kept else None
        if row["definitions"] != self._definition(dataset, rollup):
            return Coverage(rollup.name, unusable=Rule.DEF, message=REDEFINED) if kept else None
        if row["quarantines"]:
            return Coverage(rollup.name, unusable=Rule.QUARANTINE, message=row["quarantines"])
        if kept and not intact:
            text = f"Tables, partitions, columns or triggers of the source have changed. {_INSTALL}"
            return Coverage(rollup.name, unusable=Rule.DEF, message=text)
        return None

    def _definition(self, dataset: Dataset, rollup: Rollup) -> str:
        """The hash of a rollup's definition. Found by identity; the entry keeps the dataset, and so its id."""
        key = id(dataset), rollup.name
        return self._definitions.setdefault(key, lambda: (dataset, definition(dataset, rollup)))[1]

    def _memory(self, connection: Connection, dataset: str, time: str) -> MarkMemory:
        """What the connection itself, not one use of it, has read of a source."""
        held = getattr(connection, "_con", connection)
        if held is None:  # the pool has taken back a connection that was lost
            raise asyncpg.InterfaceError("the connection is closed")
        own = self._memories.setdefault(held, {})
        return own.setdefault((dataset, time), MarkMemory())

    @staticmethod
    async def _state(
        connection: Connection,
        dataset: str,
        time: str,
        memory: MarkMemory,
        since: int,
        running: frozenset[int],
    ) -> asyncpg.Record:
        """The state of a source; the memory then has all marks from ``since`` on, unless that is never."""
        learned = False
        state = None
        while not learned:
            asked = memory.ask(since)
            state = await connection.fetchrow(STATE, dataset, time, asked, list(running))
            assert state is not None, "the function returns a row"
            view = TransactionView.parse(state["snapshot"])
            learned = memory.learn(view, asked, marks_of(state).last, since)
        assert state is not None, "it was read"
        return state

    @staticmethod
    async def _read_lists(
        connection: Connection, rows: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, SegmentList]:
        found: dict[int, list[asyncpg.Record]] = {row["ids"]: [] for row in rows.values()}
        for record in await connection.fetch(SEGMENTS, list(found)):
            found[record["rollup"]].append(record)
        return {name: list_of(row["versions"], found[row["ids"]]) for name, row in rows.items()}


def external(rollup: Rollup, as_of: datetime) -> Coverage:
    """Coverage of a relation that somebody else keeps: all of it, with what was promised of its lateness.

    What its change token was when it was last filled is not known, so a token promises nothing either.
    """
    whole = (Segment(0, ALWAYS, 0, as_of, 0, 0),)
    if rollup.tracking is Tracking.APPEND_ONLY:
        late = Span(micros(as_of) - round(rollup.lateness * 1_000_000), FAR_FUTURE)
        return Coverage(rollup.name, whole, (late,), lateness=rollup.lateness)
    return Coverage(rollup.name, whole, lateness=math.inf)


def not_installed(rollups: Iterable[Rollup], as_of: datetime) -> tuple[Coverage, ...]:
    """Coverage where the tables of rollups are missing."""
    text = (
        "The tables of rollups are missing or old, or the role may not read them. "
        "Run `broker migrate`, then `broker rollup install`; or grant SELECT on all tables of the schema `broker`."
    )
    return tuple(
        external(r, as_of) if r.storage is Storage.EXTERNAL
        else Coverage(r.name, unusable=Rule.COVER, message=text)
        for r in rollups
    )  # fmt: skip


def _covered(rollup: Rollup, known: SegmentList, marks: Marks, span: Span, token: str) -> Coverage:
    positions = known.overlapping(span)
    segments = known.segments[positions.start : positions.stop]
    match rollup.tracking:
        case Tracking.TRIGGERS:
            return Coverage(rollup.name, segments, known.dirty(marks, span), sealed=known.sealed(span))
        case Tracking.APPEND_ONLY:
            # A row may come so long after its own time: only what was older at the build is complete.
            late = round(rollup.lateness * 1_000_000)
            tails = (
                Span(max(s.span.lo, micros(s.as_of) - late), s.span.hi) for s in segments if not s.sealed
            )
            dirty = merged(within(tail, span) for tail in tails)
            seals = known.sealed(span)
            return Coverage(rollup.name, segments, dirty, lateness=rollup.lateness, sealed=seals)
        case _:
            stale = (
                within(known.segments[p].span, span)
                for p in positions if known.tokens[p] != token and not known.segments[p].sealed
            )  # fmt: skip
            seals = known.sealed(span)
            return Coverage(rollup.name, segments, merged(stale), lateness=0.0, token=token, sealed=seals)


async def _token(connection: Connection, rollup: Rollup) -> str:
    if rollup.tracking is not Tracking.CHANGE_TOKEN:
        return ""
    # An empty result is a value like any other, but not that of a build from before there were tokens.
    found = await connection.fetchval(f"SELECT coalesce(({rollup.token})::text, 'null')")
    return str(found)


def _needed(lists: Iterable[SegmentList]) -> tuple[int, frozenset[int]]:
    """From which transaction on marks are needed, and of which ones before."""
    known = list(lists)
    running: frozenset[int] = frozenset().union(*(each.running for each in known))
    return min((each.since for each in known), default=NEVER), running
