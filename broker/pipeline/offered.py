"""Offers explorations that are too heavy for a caller who waits as jobs, before they take a seat."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.request import ExploreEvent
from broker.pipeline.stage import Group, StreamHandler
from broker.policy.classify import Classified


def job_offer(classified: Classified) -> BrokerError | None:
    """USE_SUBMIT_JOB with what decided it, or None for work that may run."""
    if not classified.job:
        return None
    cost, basis = classified.predicted, classified.classification.basis
    text = f"{classified.job}. Submit it as a job (SubmitJob), or narrow the query."
    metadata = {
        "predicted_p50_seconds": f"{cost.duration_p50:.3f}",
        "predicted_p90_seconds": f"{cost.duration_p90:.3f}",
        "basis": basis.value,
        "confidence": f"{classified.classification.confidence:.2f}",
    }
    return BrokerError(ErrorReason.USE_SUBMIT_JOB, text, metadata=metadata)


def offered_stream(inner: StreamHandler) -> StreamHandler:
    """Passes on what may run."""

    async def handle(group: Group) -> AsyncGenerator[ExploreEvent, None]:
        (question,) = group.questions
        if (offer := job_offer(question.classified)) is not None:
            raise offer
        async with aclosing(inner(group)) as events:
            async for event in events:
                yield event

    return handle
