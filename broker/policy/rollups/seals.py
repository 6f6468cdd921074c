"""Which rows of a source the tables may no longer have, by what is known of its rollups."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from broker.domain.model import Dataset
from broker.domain.rollup import Coverage, Span

Seals = Mapping[str, tuple[Span, ...]]
"""Sealed spans by time dimension, ascending."""


def seals_of(dataset: Dataset, coverage: Iterable[Coverage]) -> Seals:
    """The sealed spans of the dataset's rollups, of those too that may not be used at the moment."""
    found: dict[str, set[Span]] = {}
    for each in coverage:
        if each.sealed and (rollup := dataset.rollups.get(each.rollup)) is not None:
            found.setdefault(rollup.time, set()).update(each.sealed)
    return {time: tuple(sorted(spans)) for time, spans in found.items()}
