"""Rows without a time: in no bucket of a rollup that the broker keeps, but external relations may have them.

A piece that reaches an end of time reads them beside its rows, from the tables as from a relation. So the relation is
told not to, unless they are asked for and it is the one of the pieces that is to give them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

from broker.domain.plan import Scan
from broker.domain.query import AllOf, Condition, Operator
from broker.domain.rollup import FAR_FUTURE, FAR_PAST, Piece, Rollup, Storage
from broker.policy.rollups.asked import Asked


def timed(stored: Scan, rollup: Rollup, asked: Asked | None, pieces: Sequence[Piece]) -> Scan:
    """The scan of a rollup that gives one of the pieces of an answer, without rows that are not its own to give."""
    if rollup.storage is not Storage.EXTERNAL or stored.bounds is not None:
        return stored
    if (asked is None or asked.nulls) and _giver(pieces) == rollup.name:
        return stored
    known = Condition(rollup.time, Operator.IS_NOT_NULL, ())
    return replace(stored, filter=known if stored.filter is None else AllOf((stored.filter, known)))


def _giver(pieces: Sequence[Piece]) -> str:
    """The source of the rows without a time: the tables, which always read them at an end of time, or a relation."""
    ends = {FAR_PAST, FAR_FUTURE}
    return min((piece.rollup for piece in pieces if not ends.isdisjoint(chain(*piece.spans))), default="")
