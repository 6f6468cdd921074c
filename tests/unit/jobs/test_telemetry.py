"""Spans and metrics of jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from broker.domain.attempts import AttemptOutcome
from broker.domain.job import Job, JobState
from broker.domain.state import JobQueueState
from broker.jobs.gauges import QueueGauges
from broker.jobs.tracing import traced
from broker.runtime.clock import SystemClock
from broker.telemetry.instruments import Telemetry

NOW = datetime(2026, 1, 2, tzinfo=UTC)
JOB = Job(
    id="j1",
    tenant="acme",
    owner="ada",
    kind="export",
    spec=b"",
    state=JobState.RUNNING,
    request_id="r",
    priority=5,
    revision=3,
    attempt=2,
    max_attempts=3,
    create_time=NOW,
    update_time=NOW,
    start_time=NOW + timedelta(seconds=4),
)


class Recorded:
    """Telemetry that is kept in memory."""

    def __init__(self) -> None:
        self.spans = InMemorySpanExporter()
        self.reader = InMemoryMetricReader()
        tracers = TracerProvider()
        tracers.add_span_processor(SimpleSpanProcessor(self.spans))
        self.telemetry = Telemetry(tracers, MeterProvider([self.reader]))

    def points(self, name: str) -> Sequence[Any]:
        data = self.reader.get_metrics_data()
        if data is None:
            return []
        metrics = data.resource_metrics[0].scope_metrics[0].metrics
        return [point for metric in metrics if metric.name == name for point in metric.data.data_points]


def test_an_attempt_is_a_consumer_span_in_the_trace_of_its_submission_and_linked_to_it() -> None:
    recorded = Recorded()
    with recorded.telemetry.span("submit") as submission:
        trace = recorded.telemetry.inject()
    scope = traced(recorded.telemetry, SystemClock())
    with scope(replace(JOB, trace=trace)) as tell:
        with recorded.telemetry.span("inside"):
            pass
        tell(AttemptOutcome.SUCCEEDED)
    spans = {span.name: span for span in recorded.spans.get_finished_spans()}
    attempt, inside = spans["querybroker.job.attempt"], spans["inside"]
    context = submission.get_span_context()
    assert attempt.kind is SpanKind.CONSUMER
    assert [link.context.span_id for link in attempt.links] == [context.span_id]
    assert attempt.parent is not None
    assert attempt.parent.span_id == context.span_id
    assert inside.parent is not None
    assert inside.parent.span_id == attempt.context.span_id
    assert attempt.attributes == {
        "querybroker.job.id": "j1",
        "querybroker.job.attempt": 2,
        "querybroker.job.kind": "export",
        "querybroker.queue.duration": 4.0,
        "querybroker.outcome": "succeeded",
    }
    (point,) = recorded.points("querybroker.job.duration")
    assert point.attributes == {"querybroker.job.kind": "export", "querybroker.outcome": "succeeded"}


def test_an_attempt_that_tells_nothing_counts_as_lost() -> None:
    recorded = Recorded()
    scope = traced(recorded.telemetry, SystemClock())
    with pytest.raises(ZeroDivisionError), scope(JOB):
        raise ZeroDivisionError
    (span,) = recorded.spans.get_finished_spans()
    assert span.attributes is not None
    assert span.attributes["querybroker.outcome"] == "lost"
    assert span.links == ()


class Store:
    """A store of which only the queue's state is read."""

    def __init__(self) -> None:
        self.read = asyncio.Event()

    async def queue_state(self) -> JobQueueState:
        self.read.set()
        return JobQueueState(3, 2, 1, 12.5)


async def test_the_queue_is_read_for_gauges_and_forgotten_after() -> None:
    recorded, store = Recorded(), Store()
    gauges = QueueGauges(store, recorded.telemetry)  # type: ignore[arg-type]  # a stand-in
    async with gauges.running(3600.0, Random(1)):
        await store.read.wait()
        await asyncio.sleep(0)
        counts = {
            p.attributes["querybroker.job.state"]: p.value for p in recorded.points("querybroker.job.count")
        }
        assert counts == {"queued": 3, "running": 2, "dead_lettered": 1}
        (age,) = recorded.points("querybroker.job.queue.age")
        assert age.value == 12.5
    assert recorded.points("querybroker.job.count") == []
