"""A server that is put together wrongly is not started."""

from __future__ import annotations

import pytest

from broker.transport.call import Call, Service, unary
from querybroker.v1 import catalog_service_pb2 as pb

DESCRIPTOR = pb.DESCRIPTOR.services_by_name["CatalogService"]


async def answer(_call: Call, _request: object) -> bytes:
    return b""


def test_a_method_without_a_handler_is_found() -> None:
    service = Service(DESCRIPTOR, {"ListDatasets": unary(pb.ListDatasetsRequest, answer)})
    with pytest.raises(ValueError, match="GetDataset"):
        service.check()


def test_a_handler_of_another_request_is_found() -> None:
    endpoints = {
        "ListDatasets": unary(pb.GetDatasetRequest, answer),
        "GetDataset": unary(pb.GetDatasetRequest, answer),
    }
    with pytest.raises(ValueError, match="the contract says"):
        Service(DESCRIPTOR, endpoints).check()
