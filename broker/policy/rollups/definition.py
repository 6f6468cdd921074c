"""Hashes of what stored states were made from: a changed definition disqualifies everything built for the old one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from broker.domain.fingerprint import fingerprint
from broker.domain.measures import ORDERED
from broker.domain.model import Dataset, Dimension, Join
from broker.domain.query import conditions
from broker.domain.rollup import LAYOUT, Rollup


def definition(dataset: Dataset, rollup: Rollup) -> str:
    """Hash of everything that decides the rollup's states: expressions, joins, filter, grains, storage and its layout.

    The default time is part of it where first and last go by it. Titles and descriptions, retention and the refresh
    policy are left out: they change no state.
    """
    dimensions = [dataset.dimensions[name] for name in _dimensions(rollup)]
    measures = [dataset.measures[name] for name in rollup.measures]
    order = dataset.dimensions.get(dataset.default_time) if ORDERED & {m.kind for m in measures} else None
    return fingerprint(
        LAYOUT,
        dataset.table,
        dataset.primary_key,
        [_join(join) for join in joins(dataset, [rollup])],
        [_dimension(dimension) for dimension in dimensions],
        [(m.name, m.kind, m.sql, m.type, m.scale, m.filter, m.percentile) for m in measures],
        (rollup.time, rollup.dimensions, rollup.grains, rollup.zone, rollup.partition, rollup.filter),
        (rollup.storage, rollup.tracking, rollup.relation, rollup.columns, rollup.token, rollup.lateness),
        *([_dimension(order)] if order is not None else []),
    )


def source_definition(dataset: Dataset, time: str, rollups: Iterable[Rollup]) -> str:
    """Hash of what decides which marks are written for the rollups over one time dimension of a dataset."""
    dimension = dataset.dimensions[time]
    found = [_join(join) for join in joins(dataset, rollups)]
    return fingerprint(dataset.table, found, (dimension.sql, dimension.type, dimension.stored_zone))


def joins(dataset: Dataset, rollups: Iterable[Rollup]) -> tuple[Join, ...]:
    """The joins that the rollups read, parents included, in the order of the dataset."""
    wanted = {alias for rollup in rollups for alias in _tables(dataset, rollup)}
    while missing := {dataset.joins[name].parent for name in wanted if name in dataset.joins} - wanted:
        wanted |= missing
    return tuple(join for name, join in dataset.joins.items() if name in wanted)


def _dimensions(rollup: Rollup) -> list[str]:
    filtered = [condition.member for _, condition in conditions(rollup.filter)]
    return sorted({rollup.time, *rollup.dimensions, *filtered})


def _tables(dataset: Dataset, rollup: Rollup) -> Iterator[str]:
    for name in _dimensions(rollup):
        yield from dataset.dimensions[name].tables
    for name in rollup.measures:
        yield from dataset.measures[name].tables


def _dimension(dimension: Dimension) -> tuple[object, ...]:
    return dimension.name, dimension.sql, dimension.type, dimension.scale, dimension.stored_zone


def _join(join: Join) -> tuple[str, ...]:
    return join.name, join.table, join.on, join.parent, join.kind.value
