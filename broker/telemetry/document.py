"""The page about metrics and spans, made from the lists that the code uses: ``python -m broker.telemetry.document``."""

from __future__ import annotations

import sys

from broker.telemetry import names as n
from broker.telemetry.catalog import METRICS
from broker.telemetry.names import Metric, MetricKind

_UNITS = {"s": "seconds", "By": "bytes"}

_HEAD = """\
# Metrics and spans

This page is made from the code by `python -m broker.telemetry.document`; a test fails when the two differ.

Metrics are exported by OTLP under their OpenTelemetry names, and served to Prometheus under the names beside them;
dots become underscores in attributes too (`querybroker.pool` is the label `querybroker_pool`). Histograms have the
suffixes `_bucket`, `_sum` and `_count` there. Values of attributes come from closed lists or from the configuration:
no tenant, query text, request or job id is ever an attribute of a metric.

## Metrics
"""

_SPANS = """\

## Spans

A call's span is named by its method and belongs to the trace of the caller, when the call's metadata brings a W3C
`traceparent`. Stages of the broker are spans below it, and statements are spans below their stage, named by operation
and tables (`SELECT flights`), never by values. Worker processes report their times back, and their work appears
below the stage that waited for it. The span of a job's attempt, in another process and perhaps
hours later, belongs to the trace that submitted the job and is linked to the submission.

A refusal or another error of the broker ends its spans with status ERROR and `error.type` = the error's reason. A
cancelled call is no error: its spans carry `querybroker.cancelled`. The request id is on the call's span only.
"""


def prometheus_name(metric: Metric) -> str:
    """The metric's name at the Prometheus endpoint, without the suffixes of histograms."""
    parts = [metric.name.replace(".", "_")]
    if metric.unit in _UNITS:
        parts.append(_UNITS[metric.unit])
    if metric.kind is MetricKind.COUNTER:
        parts.append("total")
    return "_".join(parts)


def page() -> str:
    """The page as Markdown."""
    rows = [
        "| Metric | At Prometheus | Kind | Unit | Attributes | Meaning |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for metric in METRICS:
        attributes = ", ".join(f"`{name}`" for name in metric.attributes) or "none"
        kind = metric.kind.value.replace("_", "-")
        rows.append(
            f"| `{metric.name}` | `{prometheus_name(metric)}` | {kind} | `{metric.unit}` | {attributes} "
            f"| {metric.description} |"
        )
    spans = ["", "| Span | When |", "| --- | --- |"]
    spans += [f"| `{name}` | {_WHEN[name]} |" for name in n.SpanName]
    return _HEAD + "\n" + "\n".join(rows) + "\n" + _SPANS + "\n".join(spans) + "\n"


_WHEN = {
    n.SpanName.RESOLVE: "The query is checked against the model and becomes a plan.",
    n.SpanName.CLASSIFY: "The request gets its class and its predicted cost.",
    n.SpanName.QUEUE: "The request asks for a seat, waits, and is admitted or refused.",
    n.SpanName.FOLLOW: "The request waits for the same question of another one, to whose span it has a link.",
    n.SpanName.REFRESH: "A held answer is read again behind one that was given out, to which it is linked.",
    n.SpanName.AGGREGATE: "A task waits for a worker process and for its result.",
    n.SpanName.WORKER: "A worker process computes.",
    n.SpanName.JOB_ATTEMPT: "A worker process runs a job's attempt.",
    n.SpanName.JOB_EXPORT: "An attempt writes its result.",
}

if __name__ == "__main__":
    sys.stdout.write(page())
