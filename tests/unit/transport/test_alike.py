"""A request that is like one before is read as it would be by itself, and as nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.errors import BrokerError
from broker.domain.request import DashboardAsk
from broker.domain.terms import AnswerPolicy
from broker.transport.alike import LARGEST, MOST, Alike, lift
from broker.transport.decode_request import decode_dashboard
from querybroker.v1 import policy_pb2, query_pb2, query_service_pb2

DEFAULTS = AnswerPolicy()
EQ = query_pb2.FILTER_OPERATOR_EQ
Request = query_service_pb2.DashboardRequest


def request(start: int = 0, end: int = 86_400, *texts: str, limit: int = 0, nanos: int = 0) -> Request:
    query = query_pb2.Query(dataset="rides", measures=["rides"], limit=limit)
    query.time.grain = query_pb2.TIME_GRAIN_DAY
    query.time.absolute.start_time.CopyFrom(Timestamp(seconds=start, nanos=nanos))
    query.time.absolute.end_time.CopyFrom(Timestamp(seconds=end))
    nodes = [query.filter] if len(texts) == 1 else [query.filter.all_of.filters.add() for _ in texts]
    for i, (node, text) in enumerate(zip(nodes, texts, strict=False)):
        node.condition.member, node.condition.operator = f"d{i}", EQ
        node.condition.values.add().string_value = text
    return Request(panels=[query_service_pb2.Panel(query=query)])


def read(alike: Alike, message: Request) -> DashboardAsk:
    """As the servicer reads it."""
    raw = message.SerializeToString()
    own = Request.FromString(raw)
    lifted = lift(own, own.request_id, len(raw))
    if lifted is None:
        assert own == message, "it is as it was"
        return decode_dashboard(own, DEFAULTS)
    return alike.ask(lifted) or alike.read(lifted, decode_dashboard(message, DEFAULTS))


def shape(ask: DashboardAsk) -> bytes:
    return ask.panels[0].shape


instants = st.integers(-62_135_596_800, 253_402_300_799)


@given(st.data(), st.integers(0, 3), instants, instants, st.integers(0, 999_999_999))
def test_what_is_alike_is_read_the_same(
    data: st.DataObject, count: int, one: int, other: int, nanos: int
) -> None:
    alike = Alike()
    first = read(alike, request(0, 60, *["x"] * count))
    texts = [data.draw(st.text()) for _ in range(count)]
    message = request(one, other, *texts, nanos=nanos)
    expected, found = (
        outcome(lambda: decode_dashboard(message, DEFAULTS)),
        outcome(lambda: read(alike, message)),
    )
    assert found == expected
    if isinstance(found, DashboardAsk):
        assert shape(found) == shape(first) != b""


def outcome(make: Callable[[], DashboardAsk]) -> object:
    """What is asked, or what is wrong with it."""
    try:
        return make()
    except BrokerError as error:
        return error.violations


def test_whatever_else_differs_is_not_alike() -> None:
    alike = Alike()
    others = [request(), request(limit=1), request(0, 60, "x"), request(0, 60, "x", "y")]
    for policy in (
        policy_pb2.AnswerPolicy(cache_mode=policy_pb2.CACHE_MODE_BYPASS),
        policy_pb2.AnswerPolicy(),
    ):
        message = request()
        message.policy.CopyFrom(policy)
        others.append(message)
    message = request()
    message.panels[0].panel_id = "mine"
    others.append(message)
    shapes = [shape(read(alike, each)) for each in others]
    assert b"" not in shapes
    assert len(set(shapes)) == len(shapes)


def _two_values(message: Request) -> None:
    _operator(message, query_pb2.FILTER_OPERATOR_IN)
    message.panels[0].query.filter.condition.values.add().string_value = "y"


def _number(message: Request) -> None:
    message.panels[0].query.filter.condition.values[0].int64_value = 1


def _operator(
    message: Request, wanted: query_pb2.FilterOperator.ValueType = query_pb2.FILTER_OPERATOR_NE
) -> None:
    message.panels[0].query.filter.condition.operator = wanted


def _range(message: Request) -> None:
    message.panels[0].query.time.relative.count = 3
    message.panels[0].query.time.relative.unit = query_pb2.TIME_GRAIN_DAY


def _panels(message: Request) -> None:
    message.panels.add(panel_id="other").query.CopyFrom(message.panels[0].query)


def _same_member(message: Request) -> None:
    one = query_pb2.Filter(condition=message.panels[0].query.filter.condition)
    message.panels[0].query.filter.all_of.filters.extend([one, one])


def _long(message: Request) -> None:
    message.panels[0].query.filter.condition.values[0].string_value = "x" * LARGEST


@pytest.mark.parametrize(
    "change",
    [_two_values, _number, _operator, _range, _panels, _same_member, _long],
    ids=lambda each: each.__name__,
)
def test_other_requests_are_left_alone(change: object) -> None:
    message = request(0, 60, "x")
    assert callable(change)
    change(message)
    ask = read(Alike(), message)
    assert not any(panel.shape for panel in ask.panels)


def test_a_request_id_that_the_call_does_not_go_by_is_judged() -> None:
    message = request()
    message.request_id = "nobody's"
    assert lift(message, "another", 10) is None
    assert message.request_id == "nobody's"


def test_the_oldest_are_forgotten() -> None:
    alike, message = Alike(), request(limit=1)
    lifted = lift(Request.FromString(message.SerializeToString()), "", 10)
    assert lifted is not None
    for limit in range(1, MOST + 2):
        read(alike, request(limit=limit))
    assert alike.ask(lifted) is None
