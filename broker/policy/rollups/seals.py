"""Which rows of a source the tables may no longer have, by what is known of its rollups."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from broker.domain.model import Dataset
from broker.domain.rollup import ALWAYS, Coverage, Rollup, Span

Seals = Mapping[str, tuple[Span, ...]]
"""Sealed spans by time dimension, ascending."""


def seals_of(dataset: Dataset, coverage: Iterable[Coverage]) -> Seals:
    """The sealed spans of the dataset's rollups, of those too that may not be used at the moment."""
    found: dict[str, set[Span]] = {}
    for each in coverage:
        if each.sealed and (rollup := dataset.rollups.get(each.rollup)) is not None:
            found.setdefault(rollup.time, set()).update(each.sealed)
    return {time: tuple(sorted(spans)) for time, spans in found.items()}


def untrusted(rollups: Sequence[Rollup], seals: Seals) -> Sequence[Span]:
    """Where neither the tables nor segments that are not sealed are known to have all rows, for rollups over one time.

    Along another time dimension nobody knows where the rows were that are gone.
    """
    if not rollups or not seals:
        return ()
    time = rollups[0].time
    return seals[time] if seals.keys() == {time} else (ALWAYS,)
