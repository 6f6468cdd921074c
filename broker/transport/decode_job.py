"""Requests for jobs: protobuf to domain, and back from the bytes that are stored with a job."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import datetime

from google.protobuf import json_format

from broker.domain.answer import Interval
from broker.domain.errors import Violation, invalid
from broker.domain.job import ExportFormat
from broker.domain.query import Query
from broker.domain.terms import AnswerPolicy
from broker.domain.work import (
    CustomWork,
    ExportWork,
    JobAsk,
    MaterializeWork,
    ReportSection,
    ReportWork,
    RollupBuildWork,
    RollupRefreshWork,
    Work,
)
from broker.transport.decode_filter import request_budget
from broker.transport.decode_query import decode_query
from broker.transport.decode_request import decode_source, terms
from broker.transport.decode_values import (
    MAX_NAME,
    Found,
    at_least,
    bound,
    choice,
    count,
    instant,
    request_id,
    required_name,
    seconds,
    short_text,
)
from broker.transport.enums import EXPORT_FORMAT
from querybroker.v1 import answer_pb2, job_pb2, job_service_pb2

MAX_SECTIONS = 64
MAX_LABELS = 32
MAX_LABEL = 256
MAX_PARAMETERS = 65_536
DEFAULT_PRIORITY = 5
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_IDENTIFIER = re.compile(r"[a-z][a-z0-9_]{0,62}")
_ROLLUP = re.compile(r"datasets/([^/]{1,128})/rollups/([^/]{1,128})")


def decode_submission(
    message: job_service_pb2.SubmitJobRequest, defaults: AnswerPolicy, fallback_id: str
) -> JobAsk:
    """The job that is asked for; ``fallback_id`` is its request id when the caller gave none.

    Raises:
        BrokerError: INVALID_REQUEST.
    """
    found: Found = []
    given_id = request_id(message.request_id, "request_id", found)
    path, work = _work(message.spec, found) if message.HasField("spec") else _no_work(found)
    policy = terms(message.HasField("policy"), message.policy, defaults, found)
    priority = DEFAULT_PRIORITY
    if message.HasField("priority"):
        priority = at_least(message.priority, 0, "priority", found, 9)
    labels = _labels(message.labels, found)
    start_by: datetime | None = None
    if message.HasField("start_by_time"):
        start_by = instant(message.start_by_time, "start_by_time", found)
    if found:
        raise invalid(found)
    spec = canonical_spec(message)
    return JobAsk(
        work=work,
        policy=policy,
        request_id=given_id or fallback_id,
        spec=spec,
        spec_hash=hashlib.sha256(spec).hexdigest(),
        path=path,
        priority=priority,
        labels=labels,
        start_by_time=start_by,
        validate_only=message.validate_only,
    )


def canonical_spec(message: job_service_pb2.SubmitJobRequest) -> bytes:
    """The bytes that are stored: equal for requests that ask for the same, whatever their request id."""
    kept = job_service_pb2.SubmitJobRequest()
    kept.CopyFrom(message)
    kept.ClearField("request_id")
    kept.ClearField("validate_only")
    return kept.SerializeToString(deterministic=True)


def decode_job_spec(spec: bytes, defaults: AnswerPolicy) -> JobAsk:
    """The ask that was stored with a job; its request id is left empty, the job has it.

    Raises:
        BrokerError: INVALID_REQUEST; only when limits have become narrower since the job was stored.
    """
    return decode_submission(job_service_pb2.SubmitJobRequest.FromString(spec), defaults, "")


def _no_work(found: Found) -> tuple[str, Work]:
    found.append(Violation("spec", "is required", "REQUIRED"))
    return "spec", ExportWork(Query(""))


def _work(spec: job_pb2.JobSpec, found: Found) -> tuple[str, Work]:
    match spec.WhichOneof("work"):
        case "export":
            return "spec.export", _export(spec.export, found)
        case "report":
            return "spec.report", _report(spec.report, found)
        case "rollup_build":
            path = "spec.rollup_build"
            dataset, rollup = rollup_name(spec.rollup_build.rollup, f"{path}.rollup", found)
            return path, RollupBuildWork(dataset, rollup, _interval(spec.rollup_build, path, found))
        case "rollup_refresh":
            path = "spec.rollup_refresh"
            dataset, rollup = rollup_name(spec.rollup_refresh.rollup, f"{path}.rollup", found)
            return path, RollupRefreshWork(dataset, rollup, _interval(spec.rollup_refresh, path, found))
        case "materialize":
            return "spec.materialize", _materialize(spec.materialize, found)
        case "custom":
            return "spec.custom", _custom(spec.custom, found)
        case _:
            text = "set export, report, rollup_build, rollup_refresh, materialize or custom"
            found.append(Violation("spec.work", text, "REQUIRED"))
            return "spec", ExportWork(Query(""))


def _export(message: job_pb2.ExportJob, found: Found) -> ExportWork:
    source = decode_source(message, "spec.export", found)
    encoding = choice(EXPORT_FORMAT, message.format, "spec.export.format", found, ExportFormat.PARQUET)
    return ExportWork(source, encoding)


def _report(message: job_pb2.ReportJob, found: Found) -> ReportWork:
    path = "spec.report.sections"
    count(len(message.sections), MAX_SECTIONS, path, found, "sections", minimum=1)
    encoding = choice(EXPORT_FORMAT, message.format, "spec.report.format", found, ExportFormat.PARQUET)
    sections: list[ReportSection] = []
    budget = request_budget()
    seen: set[str] = set()
    for i, section in enumerate(message.sections[:MAX_SECTIONS]):
        where = f"{path}[{i}]"
        name = section.section_id
        if not _FILE.fullmatch(name):
            text = "must be a file name of letters, digits, '.', '_' and '-', at most 64 characters"
            found.append(Violation(f"{where}.section_id", text, "INVALID_NAME"))
        elif name.lower() in seen:
            found.append(Violation(f"{where}.section_id", f"{name!r} is used already", "DUPLICATE"))
        seen.add(name.lower())  # archives are unpacked on file systems that do not tell case apart
        query = Query("")
        if section.HasField("query"):
            query = decode_query(section.query, f"{where}.query", found, budget)
        else:
            found.append(Violation(f"{where}.query", "is required", "REQUIRED"))
        sections.append(ReportSection(name, query))
    return ReportWork(tuple(sections), encoding)


def rollup_name(name: str, path: str, found: Found) -> tuple[str, str]:
    """Dataset and rollup of a resource name."""
    match = _ROLLUP.fullmatch(name)
    if match is None:
        text = "must be a resource name such as datasets/flights/rollups/daily"
        found.append(Violation(path, text, "INVALID_NAME"))
        return "", ""
    return match[1], match[2]


def _interval(
    message: job_pb2.RollupBuildJob | job_pb2.RollupRefreshJob, path: str, found: Found
) -> Interval | None:
    return interval(message.interval, f"{path}.interval", found) if message.HasField("interval") else None


def interval(message: answer_pb2.TimeInterval, path: str, found: Found) -> Interval:
    """A half-open interval whose ends may be open."""
    known = len(found)
    start = bound(message.start_time, f"{path}.start_time", found) if message.HasField("start_time") else None
    end = bound(message.end_time, f"{path}.end_time", found) if message.HasField("end_time") else None
    if len(found) == known and start is not None and end is not None and start >= end:
        found.append(Violation(f"{path}.end_time", "must be after start_time", "EMPTY_RANGE"))
    return Interval(start, end)


def _materialize(message: job_pb2.MaterializeJob, found: Found) -> MaterializeWork:
    path = "spec.materialize"
    query = Query("")
    if message.HasField("query"):
        query = decode_query(message.query, f"{path}.query", found)
    else:
        found.append(Violation(f"{path}.query", "is required", "REQUIRED"))
    if not _IDENTIFIER.fullmatch(message.dataset):
        text = "must be a name of lower-case letters, digits and '_', beginning with a letter, at most 63 characters"
        found.append(Violation(f"{path}.dataset", text, "INVALID_NAME"))
    retention: float | None = None
    if message.HasField("retention"):
        retention = seconds(message.retention, f"{path}.retention", found)
    return MaterializeWork(query, message.dataset, retention)


def _custom(message: job_pb2.CustomJob, found: Found) -> CustomWork:
    kind = required_name(message.kind, "spec.custom.kind", found)
    if message.parameters.ByteSize() > MAX_PARAMETERS:
        text = f"has {message.parameters.ByteSize()} bytes; at most {MAX_PARAMETERS} are allowed"
        found.append(Violation("spec.custom.parameters", text, "TOO_LONG"))
        return CustomWork(kind)
    return CustomWork(kind, json_format.MessageToDict(message.parameters))


def _labels(labels: Mapping[str, str], found: Found) -> dict[str, str]:
    count(len(labels), MAX_LABELS, "labels", found, "labels")
    for key, value in sorted(labels.items())[:MAX_LABELS]:
        shown = key if len(key) <= MAX_NAME else f"{key[:MAX_NAME]}…"
        required_name(key, f'labels["{shown}"]', found)
        short_text(value, f'labels["{shown}"]', found, MAX_LABEL)
    return dict(labels)
