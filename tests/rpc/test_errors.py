"""What callers are told when a call fails."""

from __future__ import annotations

import logging

import grpc
import pytest
from google.rpc import error_details_pb2 as details

from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.request import CallContext, DashboardAsk, DashboardOutcome
from broker.transport.status import RULES, Retry
from querybroker.v1 import query_pb2, query_service_pb2
from tests.rpc.raw import detail, reason, refused, status, trailers
from tests.rpc.serving import Serving

DASHBOARD = "/querybroker.v1.QueryService/Dashboard"
SECRET = "password=hunter2 at /srv/broker/secrets.py"
REQUEST = query_service_pb2.DashboardRequest(
    request_id="123e4567-e89b-42d3-a456-426614174000",
    panels=[query_service_pb2.Panel(query=query_pb2.Query(dataset="flights", measures=["flights"]))],
).SerializeToString()


def raising(broker: Serving, error: BaseException) -> None:
    """Makes every dashboard fail."""

    async def fail(_context: CallContext, _ask: DashboardAsk) -> DashboardOutcome:
        raise error

    broker.queries.on_dashboard = fail


@pytest.mark.parametrize(
    "error",
    [RuntimeError(SECRET), KeyError(SECRET), TimeoutError(SECRET), ExceptionGroup("g", [OSError(SECRET)])],
)
async def test_an_unexpected_exception_never_shows_its_text(
    broker: Serving, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    raising(broker, error)
    caught = await refused(broker.channel, DASHBOARD, REQUEST)
    assert caught.code() is grpc.StatusCode.INTERNAL
    found = status(caught)
    assert reason(found) == "INTERNAL"
    info = detail(found, details.RequestInfo)
    assert info is not None
    assert info.request_id == "123e4567-e89b-42d3-a456-426614174000"
    seen = f"{caught.details()} {found} {trailers(caught)}"
    assert "hunter2" not in seen
    assert type(error).__name__ not in seen
    (record,) = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert record.exc_info is not None
    assert record.exc_info[1] is error


async def test_text_of_an_internal_error_stays_inside_too(broker: Serving) -> None:
    raising(broker, BrokerError(ErrorReason.INTERNAL, SECRET, metadata={"path": SECRET}))
    caught = await refused(broker.channel, DASHBOARD, REQUEST)
    assert "hunter2" not in f"{caught.details()} {status(caught)}"


@pytest.mark.parametrize("kind", list(ErrorReason))
async def test_every_reason_has_its_code_and_retry_advice(broker: Serving, kind: ErrorReason) -> None:
    raising(broker, BrokerError(kind, "It failed.", resource="datasets/x"))
    caught = await refused(broker.channel, DASHBOARD, REQUEST)
    rule, found = RULES[kind], status(caught)
    assert caught.code() is rule.code
    assert found.code == rule.code.value[0]
    assert reason(found) == kind.value
    assert found.message == caught.details()
    pushback = trailers(caught).get("grpc-retry-pushback-ms")
    retry = detail(found, details.RetryInfo)
    if rule.retry is Retry.BACKOFF:
        assert retry is not None
        assert rule.delay is not None
        assert int(str(pushback)) == round(rule.delay * 1000)  # the fake's random number is the middle
        assert retry.retry_delay.ToTimedelta().total_seconds() == rule.delay
    else:
        assert pushback == ("-1" if rule.retry is Retry.HINTED else None)
        assert retry is None
    missing = detail(found, details.ResourceInfo)
    assert (missing is not None) == (rule.code is grpc.StatusCode.NOT_FOUND)
    failed = detail(found, details.PreconditionFailure)
    assert (failed is not None) == (rule.code is grpc.StatusCode.FAILED_PRECONDITION)


async def test_a_quota_is_told_with_its_hint_and_is_not_retried_by_libraries(broker: Serving) -> None:
    metadata = {"tenant": "acme", "quota_metric": "requests", "quota_id": "per-minute", "quota_value": "600"}
    raising(broker, BrokerError(ErrorReason.TENANT_QUOTA, "Over quota.", retry_after=10.0, metadata=metadata))
    caught = await refused(broker.channel, DASHBOARD, REQUEST)
    found = status(caught)
    quota, retry = detail(found, details.QuotaFailure), detail(found, details.RetryInfo)
    assert quota is not None
    assert retry is not None
    (violation,) = quota.violations
    assert (violation.subject, violation.quota_value) == ("tenant:acme", 600)
    assert retry.retry_delay.seconds == 10
    assert trailers(caught)["grpc-retry-pushback-ms"] == "-1"
    info = detail(found, details.ErrorInfo)
    assert info is not None
    assert dict(info.metadata) == metadata


async def test_long_errors_fit_into_trailers(broker: Serving) -> None:
    metadata = {f"key{i}": "ü" * 10_000 for i in range(100)}
    raising(broker, BrokerError(ErrorReason.STORE_REJECTED, "ü" * 100_000, metadata=metadata))
    caught = await refused(broker.channel, DASHBOARD, REQUEST)
    assert caught.code() is grpc.StatusCode.FAILED_PRECONDITION
    sent = {**trailers(caught), "grpc-message": caught.details() or ""}
    size = sum(len(k) + len(v) * (4 / 3 if k.endswith("-bin") else 6) + 32 for k, v in sent.items())
    assert size < 8_192


async def test_unknown_methods_are_refused_with_a_reason(broker: Serving) -> None:
    for method in ("/querybroker.v1.QueryService/DropEverything", "/made.up.Service/Call"):
        caught = await refused(broker.channel, method, b"")
        assert caught.code() is grpc.StatusCode.UNIMPLEMENTED
        assert reason(status(caught)) == "NOT_OFFERED"
