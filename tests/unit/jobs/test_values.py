"""Values of the domain as JSON and back."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from broker.adapters.pg_jobs_values import dump, load
from broker.domain.answer import (
    AnswerKind,
    AnswerPart,
    AnswerStatus,
    Cost,
    CostClass,
    DegradationReason,
    ErrorBound,
    Exactness,
    Interval,
    LadderStep,
    PartSource,
    Rung,
    Verdict,
)
from broker.domain.job import ExportFormat, JobFailure, JobProgress, JobResult, ResultPart
from broker.domain.principal import Criticality, Principal
from broker.domain.values import Column, ColumnRole, DataType

NOW = datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC)
STATUS = AnswerStatus(
    kind=AnswerKind.LIVE,
    exactness=Exactness.BOUNDED,
    as_of=NOW,
    staleness=1.5,
    reasons=(DegradationReason.BROWNOUT,),
    data_watermark=NOW,
    parts=(AnswerPart(PartSource.LIVE, "primary", NOW, Interval(NOW, None), replica_lag=0.25),),
    bounds=(ErrorBound("m", "HLL", 0.01, 0.95),),
    ladder=(LadderStep(Rung.LIVE, Verdict.ANSWERED, codes=("A", "B")),),
    actual=Cost(1.0, 2.0, 3, 4),
    cost_class=CostClass.JOB,
)
VALUES = [
    Principal("ada", "acme", frozenset({"sql", "admin"}), Criticality.SHEDDABLE, {"region": "EU"}),
    Principal("", ""),
    JobProgress("reading", 0.5, 10, 20, 30, 1.25, "half"),
    JobProgress(),
    JobFailure("X", 'text with "quotes" and é', {"a": "b"}),
    JobResult(
        parts=(ResultPart(0, "k", "f", "t", 1, 2, bytes(range(32))),),
        columns=(Column("a", DataType.DECIMAL, ColumnRole.MEASURE, 2, "", "USD"),),
        row_count=3,
        byte_count=4,
        format=ExportFormat.CSV,
        status=STATUS,
        inline=b"\x00\xff",
        expire_time=NOW,
    ),
    JobResult(),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_values_come_back_equal(value: object) -> None:
    assert load(type(value), dump(value)) == value


def test_defaults_take_no_room() -> None:
    assert dump(JobProgress()) == "{}"
    assert dump(JobProgress(row_count=3)) == '{"row_count":3}'


def test_fields_of_a_newer_version_are_passed_over() -> None:
    text = json.dumps({"phase": "reading", "invented": [1, 2]})
    assert load(JobProgress, text) == JobProgress("reading")


def test_what_json_cannot_say_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        dump(JobProgress(row_rate=float("nan")))
    with pytest.raises(TypeError):
        dump(object())
