"""From a question to a plan, as one caller may see the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from broker.domain.errors import BrokerError, invalid
from broker.domain.model import Dataset
from broker.domain.plan import Plan
from broker.domain.query import Query
from broker.domain.request import CallContext
from broker.pipeline.alike import Plans
from broker.pipeline.catalog import Beside, Catalog
from broker.pipeline.grids import GridCache
from broker.policy.materialised import way
from broker.policy.resolve import resolve_query
from broker.telemetry.instruments import Telemetry
from broker.telemetry.names import DATASET, SpanName


@dataclass(frozen=True, slots=True)
class Planner:
    """Makes plans; relative ranges are resolved against the moment at which the call was received."""

    catalog: Catalog
    grids: GridCache
    telemetry: Telemetry
    plans: Plans = field(default_factory=Plans)

    def knows(self, names: Sequence[str]) -> bool:
        """Whether all of these are datasets of the model."""
        return self.catalog.model.datasets.keys() >= {*names}

    def __call__(self, query: Query, context: CallContext, path: str = "query", shape: bytes = b"") -> Plan:
        """The plan of a query; ``path`` is the query's place in the request, ``shape`` what it has in common.

        Raises:
            BrokerError: DATASET_NOT_FOUND, or INVALID_REQUEST with every violation under the path.
        """
        dataset = self.catalog.dataset(query.dataset, context.principal)
        if not shape:
            return self.over(dataset, query, context, path)
        with self.telemetry.span(SpanName.RESOLVE):
            plan = self.plans.make(shape, query, dataset, context.principal, self.grids)
        return plan or self.plans.keep(shape, self.over(dataset, query, context, path))

    def over(self, dataset: Dataset, query: Query, context: CallContext, path: str = "query") -> Plan:
        """The plan of a query over a dataset, whatever its name is; raises INVALID_REQUEST.

        What a job made may not tell what is asked of it, which is found out here as well.
        """
        with self.telemetry.span(SpanName.RESOLVE, attributes={DATASET: dataset.name}):
            try:
                plan = resolve_query(query, dataset, context.principal, context.received, self.grids)
                if dataset.materialised is not None:
                    way(plan, (), self.grids)
                return plan
            except BrokerError as error:
                raise invalid([v.under(path) for v in error.violations]) from None

    def with_beside(self, beside: Beside) -> Planner:
        """The same for one principal, who has datasets of their own."""
        return replace(self, catalog=self.catalog.with_beside(beside))
