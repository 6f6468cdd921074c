"""Every malformed request is refused with one error that names every violation, and never reaches the application."""

from __future__ import annotations

import grpc
import pytest
from google.longrunning import operations_proto_pb2
from google.protobuf.descriptor import MethodDescriptor
from google.rpc import error_details_pb2

from broker.transport.wire import nested
from querybroker.v1 import (
    admin_service_pb2,
    catalog_service_pb2,
    job_service_pb2,
    query_pb2,
    query_service_pb2,
)
from tests.rpc.invalid import Case
from tests.rpc.invalid_queries import QUERIES
from tests.rpc.invalid_requests import REQUESTS
from tests.rpc.raw import detail, reason, refused, status, trailers
from tests.rpc.serving import Serving

CASES = (*QUERIES, *REQUESTS)
DASHBOARD = "/querybroker.v1.QueryService/Dashboard"
FILES = (
    query_service_pb2,
    job_service_pb2,
    catalog_service_pb2,
    admin_service_pb2,
    operations_proto_pb2,
)


def methods() -> dict[str, MethodDescriptor]:
    """The methods of the contract by the type of their requests."""
    services = [s for file in FILES for s in file.DESCRIPTOR.services_by_name.values()]
    return {m.input_type.full_name: m for s in services for m in s.methods}


def test_the_table_is_long_enough_and_names_its_cases_once() -> None:
    assert len(CASES) >= 60
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_every_violation_is_named(broker: Serving, case: Case) -> None:
    method = methods()[case.request.DESCRIPTOR.full_name]
    error = await refused(
        broker.channel,
        f"/{method.containing_service.full_name}/{method.name}",
        case.request.SerializeToString(),
        streaming=method.server_streaming,
    )
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT, error.details()
    found = status(error)
    assert reason(found) == "INVALID_REQUEST"
    bad = detail(found, error_details_pb2.BadRequest)
    assert bad is not None
    shown = [field if len(field) <= 256 else f"{field[:253]}…" for field, _ in case.expected]
    codes = [code for _, code in case.expected]
    assert {(v.field, v.reason) for v in bad.field_violations} == set(zip(shown, codes, strict=True))
    assert len(bad.field_violations) == len(case.expected)
    assert all(v.description for v in bad.field_violations)
    assert broker.queries.asks == []
    assert broker.jobs.asks == []
    assert broker.jobs.listings == []
    assert broker.admin.drains == []


async def test_violations_beyond_the_size_of_trailers_are_counted(broker: Serving) -> None:
    queries = [query_pb2.Query(measures=["x" * 129] * 50) for _ in range(64)]
    panels = [query_service_pb2.Panel(query=query) for query in queries]
    request = query_service_pb2.DashboardRequest(panels=panels)
    error = await refused(broker.channel, DASHBOARD, request.SerializeToString())
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    found = status(error)
    info = detail(found, error_details_pb2.ErrorInfo)
    bad = detail(found, error_details_pb2.BadRequest)
    assert info is not None
    assert bad is not None
    assert info.metadata["violation_count"] == str(64 * 51)
    assert info.metadata["violations_shown"] == str(len(bad.field_violations))
    assert len(bad.field_violations) > 10
    assert "and 3261 more" in (error.details() or "")
    sent = {**trailers(error), "grpc-message": error.details() or ""}
    size = sum(len(k) + len(v) * (4 / 3 if k.endswith("-bin") else 3) + 32 for k, v in sent.items())
    assert size < 8_192


async def test_bytes_that_are_no_message_are_a_malformed_request(broker: Serving) -> None:
    error = await refused(broker.channel, DASHBOARD, b"\xff\xff\xff")
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "querybroker.v1.DashboardRequest" in (error.details() or "")


async def test_a_tree_too_deep_to_be_parsed_is_a_malformed_request(broker: Serving) -> None:
    tree = b""
    for _ in range(500):
        tree = nested(query_pb2.Filter.NOT_FILTER_FIELD_NUMBER, tree)
    panel = nested(
        query_service_pb2.Panel.QUERY_FIELD_NUMBER, nested(query_pb2.Query.FILTER_FIELD_NUMBER, tree)
    )
    request = nested(query_service_pb2.DashboardRequest.PANELS_FIELD_NUMBER, panel)
    error = await refused(broker.channel, DASHBOARD, request)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
