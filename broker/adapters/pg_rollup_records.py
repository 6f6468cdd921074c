"""What the statements of coverage return, as values."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from broker.adapters.pg_rollup_marks import Marks, SegmentList
from broker.adapters.pg_rollup_visibility import TransactionView
from broker.domain.query import Grain
from broker.domain.rollup import Segment, SegmentFile, Span

SEGMENTS = """
SELECT rollup, id, lo, hi, version, snapshot::text AS snapshot, token, as_of, row_count, byte_count, sealed,
       files::text AS files
FROM broker.rollup_segment WHERE rollup = ANY($1::int[]) AND retire_time IS NULL ORDER BY rollup, lo
"""

REDEFINED = (
    "It was installed for another definition, or by a version of the broker that stores states in another layout. "
    "Run `broker rollup install`: what was built is given up, and built again by a running `broker worker` or by "
    "`broker rollup build`. Until then answers go live."
)
"""What to do about a rollup whose definition is not the one that is installed; its layout is part of that."""


@dataclass(frozen=True, slots=True)
class State:
    """What a snapshot tells of a source: its rollups by name, the marks that were asked for, whether it is intact."""

    rows: Mapping[str, Mapping[str, Any]]
    marks: Marks
    intact: bool


def state_of(record: asyncpg.Record) -> State:
    """The record as values."""
    return State(rows_of(record), marks_of(record), bool(record["intact"]))


def rows_of(state: asyncpg.Record) -> dict[str, dict[str, Any]]:
    """The rollups that are registered, by name."""
    fields = ("ids", "names", "definitions", "versions", "quarantines")
    columns = [state[field] or () for field in fields]
    return {row[1]: dict(zip(fields, row, strict=True)) for row in zip(*columns, strict=True)}


def marks_of(state: asyncpg.Record) -> Marks:
    """The marks that were asked for."""
    last = dict(zip(map(Span, state["lows"] or (), state["highs"] or ()), state["xids"] or (), strict=True))
    running = zip(
        map(Span, state["pending_lows"] or (), state["pending_highs"] or ()),
        state["pending_xids"] or (),
        strict=True,
    )
    return Marks(last, tuple(running))


def list_of(version: str, records: Sequence[asyncpg.Record]) -> SegmentList:
    """The segments of one rollup."""
    segments = tuple(
        Segment(
            r["id"], Span(r["lo"], r["hi"]), r["version"], r["as_of"], r["row_count"], r["byte_count"], r["sealed"],
            tuple(
                SegmentFile(Grain(f["grain"]), f["row_count"], f["byte_count"], f["sha256"])
                for f in json.loads(r["files"])
            ),
        )
        for r in records
    )  # fmt: skip
    views = [TransactionView.parse(r["snapshot"]) for r in records]
    return SegmentList.of(version, segments, views, [r["token"] for r in records])
