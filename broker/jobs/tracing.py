"""A span and a measurement around every attempt."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from opentelemetry.trace import SpanKind

from broker.domain.attempts import AttemptOutcome
from broker.domain.job import Job
from broker.jobs.worker import Scope
from broker.ports.clock import Clock
from broker.telemetry import names as n
from broker.telemetry.instruments import Telemetry, Value
from broker.telemetry.names import SpanName

JOB_ID = "querybroker.job.id"
JOB_ATTEMPT = "querybroker.job.attempt"


def traced(telemetry: Telemetry, clock: Clock) -> Scope:
    """Every attempt as a CONSUMER span in the trace of the job's submission, linked to it as well."""

    @contextmanager
    def scope(job: Job) -> Iterator[Callable[[AttemptOutcome], None]]:
        began = clock.monotonic()
        waited = (job.start_time - job.create_time).total_seconds() if job.start_time is not None else 0.0
        attributes: dict[str, Value] = {
            JOB_ID: job.id,
            JOB_ATTEMPT: job.attempt,
            n.JOB_KIND: job.kind,
            n.QUEUE_SECONDS: waited,
        }
        outcome = AttemptOutcome.LOST

        def tell(ended: AttemptOutcome) -> None:
            nonlocal outcome
            outcome = ended

        span = telemetry.span(
            SpanName.JOB_ATTEMPT,
            kind=SpanKind.CONSUMER,
            attributes=attributes,
            links=telemetry.links(job.trace),
            parent=telemetry.extract(job.trace),
        )
        with span as current:
            try:
                yield tell
            finally:
                current.set_attribute(n.OUTCOME, outcome.value)
                telemetry.job_attempt(job.kind, outcome.value, clock.monotonic() - began)

    return scope
