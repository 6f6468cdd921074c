"""Requests of QueryService: protobuf to asks. Every function raises one error that names all violations."""

from __future__ import annotations

from broker.domain.errors import Violation, invalid
from broker.domain.query import Query, SqlQuery
from broker.domain.request import DashboardAsk, ExplainAsk, ExploreAsk, PanelAsk, RequestKind
from broker.domain.terms import AnswerPolicy, DeadlineAction
from broker.domain.values import ResultFormat
from broker.transport.decode_filter import Budget, request_budget
from broker.transport.decode_policy import NO_PATCH, PolicyPatch, decode_policy, merge_policy
from broker.transport.decode_query import decode_query, decode_sql
from broker.transport.decode_values import Found, at_least, choice, count, request_id, short_text
from broker.transport.enums import REQUEST_KIND, RESULT_FORMAT
from querybroker.v1 import job_pb2, policy_pb2, query_service_pb2

MAX_PANELS = 64


def decode_dashboard(
    message: query_service_pb2.DashboardRequest, defaults: AnswerPolicy, max_panels: int = MAX_PANELS
) -> DashboardAsk:
    """The panels of a dashboard, each with its merged policy.

    Raises:
        BrokerError: INVALID_REQUEST.
    """
    found: Found = []
    request_id(message.request_id, "request_id", found)
    name = short_text(message.dashboard_id, "dashboard_id", found, 256)
    patch = decode_policy(message.policy, "policy", found) if message.HasField("policy") else NO_PATCH
    _no_job(patch, "policy", found)
    encoding = choice(RESULT_FORMAT, message.format, "format", found, ResultFormat.COLUMNS)
    count(len(message.panels), max_panels, "panels", found, "panels", minimum=1)
    panels = []
    seen: dict[str, int] = {}
    budget = request_budget()
    for i, panel in enumerate(message.panels[:max_panels]):
        ask = _panel(panel, i, patch, defaults, found, budget)
        first = seen.setdefault(ask.panel_id, i)
        if first != i:
            text = f"{ask.panel_id!r} is the id of panels[{first}] already"
            found.append(Violation(f"panels[{i}].panel_id", text, "DUPLICATE"))
        panels.append(ask)
    consistency = patch.consistency or defaults.consistency
    if found:
        raise invalid(found)
    return DashboardAsk(tuple(panels), consistency, encoding, name)


def _panel(
    message: query_service_pb2.Panel,
    position: int,
    patch: PolicyPatch,
    defaults: AnswerPolicy,
    found: Found,
    budget: Budget,
) -> PanelAsk:
    path = f"panels[{position}]"
    panel_id = short_text(message.panel_id, f"{path}.panel_id", found) or str(position)
    own = NO_PATCH
    if message.HasField("policy"):
        own = decode_policy(message.policy, f"{path}.policy", found)
        _no_job(own, f"{path}.policy", found)
        if own.consistency is not None:
            text = "is a matter of the whole dashboard; set it in the request's policy"
            found.append(Violation(f"{path}.policy.consistency", text, "NOT_ALLOWED"))
    query = Query("")
    if message.HasField("query"):
        query = decode_query(message.query, f"{path}.query", found, budget)
    else:
        found.append(Violation(f"{path}.query", "is required", "REQUIRED"))
    return PanelAsk(panel_id, query, merge_policy(patch, own, defaults), path)


def _no_job(patch: PolicyPatch, path: str, found: Found) -> None:
    if patch.on_deadline is DeadlineAction.JOB:
        text = "DEADLINE_ACTION_JOB is for Explore only"
        found.append(Violation(f"{path}.on_deadline", text, "NOT_ALLOWED"))


def decode_explore(message: query_service_pb2.ExploreRequest, defaults: AnswerPolicy) -> ExploreAsk:
    """An exploration.

    Raises:
        BrokerError: INVALID_REQUEST.
    """
    found: Found = []
    request_id(message.request_id, "request_id", found)
    ask = ExploreAsk(
        source=decode_source(message, "", found),
        policy=terms(message.HasField("policy"), message.policy, defaults, found),
        format=choice(RESULT_FORMAT, message.format, "format", found, ResultFormat.COLUMNS),
        max_row_count=at_least(message.max_row_count, 0, "max_row_count", found),
        max_byte_count=at_least(message.max_byte_count, 0, "max_byte_count", found),
    )
    if found:
        raise invalid(found)
    return ask


def decode_explain(message: query_service_pb2.ExplainRequest, defaults: AnswerPolicy) -> ExplainAsk:
    """A question about a query.

    Raises:
        BrokerError: INVALID_REQUEST.
    """
    found: Found = []
    ask = ExplainAsk(
        source=decode_source(message, "", found),
        policy=terms(message.HasField("policy"), message.policy, defaults, found),
        kind=choice(REQUEST_KIND, message.request_kind, "request_kind", found, RequestKind.EXPLORE),
    )
    if isinstance(ask.source, SqlQuery) and ask.kind is RequestKind.DASHBOARD:
        found.append(Violation("request_kind", "a dashboard takes no SQL; send a query", "NOT_ALLOWED"))
    if found:
        raise invalid(found)
    return ask


def decode_source(
    message: query_service_pb2.ExploreRequest | query_service_pb2.ExplainRequest | job_pb2.ExportJob,
    path: str,
    found: Found,
) -> Query | SqlQuery:
    """The query or the SQL of a message with the alternative ``source``."""
    match message.WhichOneof("source"):
        case "query":
            return decode_query(message.query, f"{path}.query" if path else "query", found)
        case "sql":
            return decode_sql(message.sql, f"{path}.sql" if path else "sql", found)
        case _:
            found.append(Violation(path or "source", "set query or sql", "REQUIRED"))
            return Query("")


def terms(
    given: bool, message: policy_pb2.AnswerPolicy, defaults: AnswerPolicy, found: Found
) -> AnswerPolicy:
    """The policy of a request without panels."""
    patch = decode_policy(message, "policy", found) if given else NO_PATCH
    return merge_policy(patch, NO_PATCH, defaults)
