"""Dashboards of one panel that are alike: they differ in nothing but the ends of the range and texts to be equal to.

Whoever looks at one carrier after another asks a new question every time, in the same words. So the request is read
once; of one that is alike only what differs is read, with the same checks, and put in its place. What is alike is told
by the request's own bytes without what differs, so nothing can be overlooked.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from broker.domain.errors import Violation
from broker.domain.query import AbsoluteRange, AllOf, Condition, Filter, Operator, Query, TimeSelection
from broker.domain.request import DashboardAsk, PanelAsk
from broker.domain.values import Scalar
from broker.transport.decode_values import bound, scalar
from querybroker.v1 import query_pb2, query_service_pb2

MOST, LARGEST = 1_024, 4 * 1024
"""Kinds of requests that are remembered, and the bytes of the largest."""
MOST_CONDITIONS = 16


class Lifted:
    """A request without what differs: its ``shape``, the range, and the texts in the order of their conditions."""

    __slots__ = ("range", "shape", "texts")

    def __init__(self, shape: bytes, range: AbsoluteRange, texts: Sequence[Scalar]) -> None:
        self.shape, self.range, self.texts = shape, range, texts


class Alike:
    """The requests that were read, latest used last."""

    def __init__(self) -> None:
        self._asks: OrderedDict[bytes, DashboardAsk] = OrderedDict()

    def ask(self, lifted: Lifted) -> DashboardAsk | None:
        """The ask, if one that is alike was read before."""
        known = self._asks.get(lifted.shape)
        if known is None:
            return None
        self._asks.move_to_end(lifted.shape)
        (panel,) = known.panels
        query = _filled(panel.query, lifted)
        return DashboardAsk(
            (PanelAsk(panel.panel_id, query, panel.policy, panel.path, lifted.shape),),
            known.consistency,
            known.format,
            known.dashboard_id,
        )

    def read(self, lifted: Lifted, ask: DashboardAsk) -> DashboardAsk:
        """Takes note of what a request has been read as; the ask says what it is alike to."""
        (panel,) = ask.panels
        if _filled(panel.query, lifted) != panel.query:
            return ask
        self._asks[lifted.shape] = ask
        if len(self._asks) > MOST:
            self._asks.popitem(last=False)
        alike = PanelAsk(panel.panel_id, panel.query, panel.policy, panel.path, lifted.shape)
        return DashboardAsk((alike,), ask.consistency, ask.format, ask.dashboard_id)


def lift(message: query_service_pb2.DashboardRequest, request_id: str, size: int) -> Lifted | None:
    """What differs, which is taken out of the message; None, with the message as it was, for all other requests.

    ``request_id`` is the one that the call goes by, ``size`` the bytes of the request.
    """
    if size > LARGEST or len(message.panels) != 1 or message.request_id not in ("", request_id):
        return None
    query = message.panels[0].query
    time = query.time
    if time.WhichOneof("range") != "absolute":
        return None
    absolute, conditions = time.absolute, _conditions(query)
    if conditions is None or not (absolute.HasField("start_time") and absolute.HasField("end_time")):
        return None
    found: list[Violation] = []
    start, end = bound(absolute.start_time, "", found), bound(absolute.end_time, "", found)
    texts = [scalar(condition.values[0], "", found) for condition in conditions]
    if found or start >= end:
        return None
    message.ClearField("request_id")
    time.ClearField("absolute")
    time.absolute.SetInParent()
    for condition in conditions:
        condition.ClearField("values")
    return Lifted(message.SerializeToString(), AbsoluteRange(start, end), texts)


def _conditions(query: query_pb2.Query) -> Sequence[query_pb2.Condition] | None:
    """The conditions of a filter that asks one text of every member it names; none without a filter."""
    match query.filter.WhichOneof("node") if query.HasField("filter") else "":
        case "":
            return ()
        case "condition":
            nodes = [query.filter]
        case "all_of" if len(query.filter.all_of.filters) <= MOST_CONDITIONS:
            nodes = list(query.filter.all_of.filters)
        case _:
            return None
    found = [node.condition for node in nodes if node.WhichOneof("node") == "condition"]
    if len(found) < len(nodes) or not all(map(_lifts, found)):
        return None
    return found if len({each.member for each in found}) == len(found) else None


def _lifts(condition: query_pb2.Condition) -> bool:
    return (
        condition.operator == query_pb2.FILTER_OPERATOR_EQ
        and len(condition.values) == 1
        and condition.values[0].WhichOneof("kind") == "string_value"
    )


def _filled(query: Query, lifted: Lifted) -> Query:
    """The query with other ends of its range and other texts."""
    time = query.time
    assert time is not None, "it has a range"
    return Query(
        query.dataset,
        query.measures,
        query.dimensions,
        TimeSelection(time.dimension, time.grain, time.zone, lifted.range, time.gap_fill),
        _with_texts(query.filter, lifted.texts),
        query.having,
        query.order,
        query.limit,
        query.calculations,
    )


def _with_texts(node: Filter | None, texts: Sequence[Scalar]) -> Filter | None:
    match node:
        case Condition():
            return Condition(node.member, Operator.EQ, (texts[0],))
        case AllOf(children):
            parts = [
                (each, text)
                for each, text in zip(children, texts, strict=True)
                if isinstance(each, Condition)
            ]
            return AllOf(tuple([Condition(each.member, Operator.EQ, (text,)) for each, text in parts]))
        case _:
            return None
