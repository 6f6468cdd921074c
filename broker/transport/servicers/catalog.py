"""CatalogService."""

from __future__ import annotations

from dataclasses import dataclass

from broker.domain.errors import BrokerError, ErrorReason, invalid
from broker.domain.model import Dataset
from broker.domain.request import CallContext
from broker.transport.call import Call, Service, unary
from broker.transport.decode_list import dataset_name, page
from broker.transport.decode_values import Found
from broker.transport.encode_catalog import encode_dataset, example_query
from broker.transport.services import CatalogApp, MadeApp
from querybroker.v1 import catalog_service_pb2


@dataclass(frozen=True, slots=True)
class CatalogServicer:
    """Lists what can be asked: of the model, and ``made`` by jobs for the caller."""

    app: CatalogApp
    made: MadeApp | None = None

    def service(self) -> Service:
        """The service with its handlers."""
        return Service(
            catalog_service_pb2.DESCRIPTOR.services_by_name["CatalogService"],
            {
                "ListDatasets": unary(catalog_service_pb2.ListDatasetsRequest, self.list_datasets),
                "GetDataset": unary(catalog_service_pb2.GetDatasetRequest, self.get_dataset),
            },
        )

    async def list_datasets(self, call: Call, request: catalog_service_pb2.ListDatasetsRequest) -> bytes:
        """A page of datasets by name."""
        found: Found = []
        asked = page(request, request.page_size, request.page_token, found, positions=1)
        if found:
            raise invalid(found)
        datasets = list(self.app.datasets(call.context.principal))
        if self.made is not None:
            datasets = sorted([*datasets, *await self.made.every(call.context)], key=lambda d: d.name)
        rest = [d for d in datasets if not asked.after or d.name > asked.after[0]]
        shown = rest[: asked.size]
        response = catalog_service_pb2.ListDatasetsResponse(
            datasets=[encode_dataset(dataset, members=False) for dataset in shown],
            next_page_token=asked.token([shown[-1].name]) if len(rest) > len(shown) else "",
        )
        return response.SerializeToString()

    async def get_dataset(self, call: Call, request: catalog_service_pb2.GetDatasetRequest) -> bytes:
        """One dataset with its members and an example."""
        dataset = await self._dataset(dataset_name(request.name, "name"), call.context)
        response = catalog_service_pb2.GetDatasetResponse(
            dataset=encode_dataset(dataset, members=True), example=example_query(dataset)
        )
        return response.SerializeToString()

    async def _dataset(self, name: str, context: CallContext) -> Dataset:
        try:
            return self.app.dataset(name, context.principal)
        except BrokerError as error:
            if self.made is None or error.reason is not ErrorReason.DATASET_NOT_FOUND:
                raise
            if (made := await self.made.one(context, name)) is None:
                raise
            return made
