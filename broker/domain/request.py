"""What crosses between the transport and the application: calls, asks, and their outcomes, all as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from broker.domain.answer import (
    Answer,
    AnswerKind,
    AnswerPart,
    AnswerStatus,
    Batch,
    Cost,
    CostClass,
    ErrorBound,
    Exactness,
    Interval,
    LadderStep,
)
from broker.domain.deadline import Deadline
from broker.domain.errors import BrokerError
from broker.domain.pool import PoolName
from broker.domain.principal import Principal
from broker.domain.query import Query, SqlQuery
from broker.domain.terms import AnswerPolicy, Consistency
from broker.domain.values import Column, ResultFormat
from broker.domain.work import JobAsk


@dataclass(frozen=True, slots=True)
class CallContext:
    """One call: who asks, how long they listen, and what names the call in logs.

    ``received`` is the wall clock at arrival, against which relative ranges are resolved. ``attempt`` counts the
    client library's earlier tries of this call. ``trace`` holds the W3C headers of the server's span, for work that
    outlives the call. ``method`` is ``package.Service/Method``. ``payload`` is the size of the request in bytes, 0
    where it is not known.
    """

    request_id: str
    principal: Principal
    deadline: Deadline
    received: datetime
    method: str = ""
    attempt: int = 0
    trace: Mapping[str, str] = field(default_factory=dict)
    payload: int = 0


class RequestKind(StrEnum):
    """The call that carries a query."""

    DASHBOARD = "dashboard"
    EXPLORE = "explore"
    JOB = "job"


@dataclass(frozen=True, slots=True)
class PanelAsk:
    """One panel. ``path`` is its place in the request, such as ``panels[2]``; its query is at ``{path}.query``.

    Panels of one ``shape`` differ in nothing but the ends of an absolute range, and in texts to which dimensions are to
    be equal; without one nothing is known of others.
    """

    panel_id: str
    query: Query
    policy: AnswerPolicy
    path: str = ""
    shape: bytes = field(default=b"", compare=False)


@dataclass(frozen=True, slots=True)
class DashboardAsk:
    """1 to 64 panels that share a consistency and a format; ``dashboard_id`` is the caller's text."""

    panels: tuple[PanelAsk, ...]
    consistency: Consistency
    format: ResultFormat = ResultFormat.COLUMNS
    dashboard_id: str = ""


@dataclass(frozen=True, slots=True)
class PanelOutcome:
    """What came of one panel: an answer, or the error that this panel alone ended with.

    By its ``token``, the application finds an answer again that it held; None where it was read.
    """

    panel_id: str
    result: Answer | BrokerError
    token: object | None = None


@dataclass(frozen=True, slots=True)
class DashboardOutcome:
    """One outcome for each panel, in the order of the ask; ``snapshot_time`` is None when no panel was read live."""

    panels: tuple[PanelOutcome, ...]
    snapshot_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class ExploreAsk:
    """One query, or SQL, whose rows are streamed; limits of 0 mean the server's own.

    ``job`` is what becomes of it when the deadline comes first, None where it is cancelled then.
    """

    source: Query | SqlQuery
    policy: AnswerPolicy
    format: ResultFormat = ResultFormat.COLUMNS
    max_row_count: int = 0
    max_byte_count: int = 0
    job: JobAsk | None = None


@dataclass(frozen=True, slots=True)
class ExploreHeader:
    """What is known before the first row."""

    columns: tuple[Column, ...]
    as_of: datetime
    cost_class: CostClass | None = None
    predicted: Cost | None = None
    plan: tuple[AnswerPart, ...] = ()
    classification: Classification | None = None


ExploreEvent = ExploreHeader | Batch | AnswerStatus
"""The header first, then batches in order, the status last."""


@dataclass(frozen=True, slots=True)
class ExplainAsk:
    """A query, or SQL, that is not to be answered; ``kind`` is the call that would carry it."""

    source: Query | SqlQuery
    policy: AnswerPolicy
    kind: RequestKind = RequestKind.EXPLORE


class Basis(StrEnum):
    """What a classification rests on, best first."""

    HISTORY = "history"
    PLAN = "plan"
    CLASS_MEDIAN = "class_median"
    REQUEST = "request"


@dataclass(frozen=True, slots=True)
class Factor:
    """One thing that was weighed: its name with the unit, its value, and what it did to the decision."""

    name: str
    value: float
    effect: str = ""


@dataclass(frozen=True, slots=True)
class Classification:
    """The class of a request and what decided it; ``confidence`` from 0 to 1, ``samples`` counts earlier runs."""

    cost_class: CostClass
    pool: PoolName
    basis: Basis
    confidence: float = 0.0
    samples: int = 0
    factors: tuple[Factor, ...] = ()


@dataclass(frozen=True, slots=True)
class Explanation:
    """How a query would be answered. ``statements`` is empty for principals that may not see them; seconds."""

    columns: tuple[Column, ...]
    classification: Classification
    predicted: Cost
    expected_kind: AnswerKind
    expected_exactness: Exactness
    fingerprint: str
    plan: tuple[AnswerPart, ...] = ()
    candidates: tuple[LadderStep, ...] = ()
    expected_staleness: float = 0.0
    bounds: tuple[ErrorBound, ...] = ()
    resolved_range: Interval | None = None
    statements: tuple[str, ...] = ()
