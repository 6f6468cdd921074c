"""Enumerations of the contract and of the domain, matched by name in both directions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

from broker.domain.answer import (
    AnswerKind,
    CostClass,
    DegradationReason,
    Exactness,
    Guarantee,
    PartSource,
    Rung,
    Verdict,
)
from broker.domain.job import ExportFormat, JobStage, JobState
from broker.domain.model import MeasureKind
from broker.domain.query import Grain, Operator
from broker.domain.request import Basis, RequestKind
from broker.domain.rollup import Storage, Tracking
from broker.domain.state import Breaker
from broker.domain.terms import (
    CacheMode,
    Consistency,
    DeadlineAction,
    EdgeMode,
    FallbackMode,
    PartialMode,
    RollupMode,
)
from broker.domain.values import ColumnRole, DataType, ResultFormat
from querybroker.v1 import (
    admin_service_pb2,
    answer_pb2,
    catalog_service_pb2,
    job_pb2,
    policy_pb2,
    query_pb2,
    query_service_pb2,
)

E = TypeVar("E", bound=Enum)
V = TypeVar("V", bound=int)


@dataclass(frozen=True, slots=True)
class EnumPair(Generic[E, V]):
    """One enumeration on both sides; the contract's zero stands for "not set" and has no counterpart."""

    to_domain: Mapping[int, E]
    to_proto: Mapping[E, V]
    unset: V
    names: str

    def proto(self, member: E | None) -> V:
        """The contract's number; zero for None and for members that the contract expresses by not setting the field."""
        return self.unset if member is None else self.to_proto.get(member, self.unset)


def pair(items: Iterable[tuple[str, V]], prefix: str, members: type[E]) -> EnumPair[E, V]:
    """Matches ``{prefix}{NAME}`` with the member ``NAME``.

    Raises:
        KeyError: A name of the contract has no member; found at import, so by any test.
    """
    listed = list(items)
    values = {members[name.removeprefix(prefix)]: number for name, number in listed if number != 0}
    (unset,) = (number for _, number in listed if number == 0)
    names = ", ".join(f"{prefix}{member.name}" for member in values)
    return EnumPair({number: member for member, number in values.items()}, values, unset, names)


GRAIN = pair(query_pb2.TimeGrain.items(), "TIME_GRAIN_", Grain)
OPERATOR = pair(query_pb2.FilterOperator.items(), "FILTER_OPERATOR_", Operator)

ANSWER_KIND = pair(answer_pb2.AnswerKind.items(), "ANSWER_KIND_", AnswerKind)
EXACTNESS = pair(answer_pb2.Exactness.items(), "EXACTNESS_", Exactness)
DEGRADATION = pair(answer_pb2.DegradationReason.items(), "DEGRADATION_REASON_", DegradationReason)
GUARANTEE = pair(answer_pb2.FreshnessGuarantee.items(), "FRESHNESS_GUARANTEE_", Guarantee)
PART_SOURCE = pair(answer_pb2.PartSource.items(), "PART_SOURCE_", PartSource)
RUNG = pair(answer_pb2.LadderRung.items(), "LADDER_RUNG_", Rung)
VERDICT = pair(answer_pb2.LadderVerdict.items(), "LADDER_VERDICT_", Verdict)
COST_CLASS = pair(answer_pb2.CostClass.items(), "COST_CLASS_", CostClass)
DATA_TYPE = pair(answer_pb2.DataType.items(), "DATA_TYPE_", DataType)
COLUMN_ROLE = pair(answer_pb2.ColumnRole.items(), "COLUMN_ROLE_", ColumnRole)

FALLBACK = pair(policy_pb2.FallbackMode.items(), "FALLBACK_MODE_", FallbackMode)
ROLLUP = pair(policy_pb2.RollupMode.items(), "ROLLUP_MODE_", RollupMode)
CACHE = pair(policy_pb2.CacheMode.items(), "CACHE_MODE_", CacheMode)
EDGE = pair(policy_pb2.EdgeMode.items(), "EDGE_MODE_", EdgeMode)
CONSISTENCY = pair(policy_pb2.Consistency.items(), "CONSISTENCY_", Consistency)
PARTIAL = pair(policy_pb2.PartialMode.items(), "PARTIAL_MODE_", PartialMode)
DEADLINE_ACTION = pair(policy_pb2.DeadlineAction.items(), "DEADLINE_ACTION_", DeadlineAction)

RESULT_FORMAT = pair(query_service_pb2.ResultFormat.items(), "RESULT_FORMAT_", ResultFormat)
REQUEST_KIND = pair(query_service_pb2.RequestKind.items(), "REQUEST_KIND_", RequestKind)
BASIS = pair(query_service_pb2.ClassificationBasis.items(), "CLASSIFICATION_BASIS_", Basis)

JOB_STAGE = pair(job_pb2.JobStage.items(), "JOB_STAGE_", JobStage)
JOB_STATE = pair(job_pb2.JobState.items(), "JOB_STATE_", JobState)
EXPORT_FORMAT = pair(job_pb2.ExportFormat.items(), "EXPORT_FORMAT_", ExportFormat)

MEASURE_KIND = pair(catalog_service_pb2.MeasureKind.items(), "MEASURE_KIND_", MeasureKind)
BREAKER = pair(admin_service_pb2.BreakerState.items(), "BREAKER_STATE_", Breaker)
STORAGE = pair(admin_service_pb2.RollupStorage.items(), "ROLLUP_STORAGE_", Storage)
TRACKING = pair(admin_service_pb2.RollupTracking.items(), "ROLLUP_TRACKING_", Tracking)
