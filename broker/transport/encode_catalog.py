"""The semantic model as callers see it: domain to protobuf."""

from __future__ import annotations

from broker.domain.measures import ADDITIVE, mergeable, result_type
from broker.domain.model import Dataset, Dimension, JoinKind, Measure
from broker.transport.enums import DATA_TYPE, MEASURE_KIND
from querybroker.v1 import catalog_service_pb2, query_pb2


def encode_dataset(dataset: Dataset, *, members: bool) -> catalog_service_pb2.Dataset:
    """A dataset, with its dimensions and measures when ``members`` is set."""
    return catalog_service_pb2.Dataset(
        name=f"datasets/{dataset.name}",
        title=dataset.title,
        description=dataset.description,
        dimensions=[_dimension(dataset, d) for d in dataset.dimensions.values()] if members else (),
        measures=[_measure(dataset, m) for m in dataset.measures.values()] if members else (),
        default_time_dimension=dataset.default_time,
        rollups=list(dataset.rollups),
        version=dataset.version,
    )


def example_query(dataset: Dataset) -> query_pb2.Query:
    """A query that works: the first measure by the first plain dimension, largest first."""
    measures = list(dataset.measures)[:1]
    dimensions = [d.name for d in dataset.dimensions.values() if not d.time and not fans_out(dataset, d)][:1]
    order = [query_pb2.OrderKey(member=m, direction=query_pb2.SORT_DIRECTION_DESC) for m in measures]
    return query_pb2.Query(
        dataset=dataset.name, measures=measures, dimensions=dimensions, order=order, limit=10
    )


def fans_out(dataset: Dataset, dimension: Dimension) -> bool:
    """Whether a one-to-many join lies between the dataset's table and the dimension."""
    return any(_many(dataset, table) for table in dimension.tables)


def _many(dataset: Dataset, table: str) -> bool:
    while (join := dataset.joins.get(table)) is not None:
        if join.kind is JoinKind.ONE_TO_MANY:
            return True
        table = join.parent
    return False


def _merges(dataset: Dataset, measure: Measure) -> bool:
    made = dataset.materialised
    return mergeable(dataset, measure.name) if made is None else measure.name in made.mergeable


def _dimension(dataset: Dataset, dimension: Dimension) -> catalog_service_pb2.Dimension:
    return catalog_service_pb2.Dimension(
        name=dimension.name,
        title=dimension.title,
        description=dimension.description,
        type=DATA_TYPE.proto(dimension.type),
        time=dimension.time,
        fans_out=fans_out(dataset, dimension),
    )


def _measure(dataset: Dataset, measure: Measure) -> catalog_service_pb2.Measure:
    return catalog_service_pb2.Measure(
        name=measure.name,
        title=measure.title,
        description=measure.description,
        kind=MEASURE_KIND.proto(measure.kind),
        type=DATA_TYPE.proto(result_type(measure)[0]),
        unit=measure.unit,
        mergeable=_merges(dataset, measure),
        additive=measure.kind in ADDITIVE,
    )
