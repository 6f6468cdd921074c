"""Explanations: domain to protobuf."""

from __future__ import annotations

from broker.domain.request import Classification, Explanation
from broker.transport.encode_status import (
    duration,
    encode_bound,
    encode_columns,
    encode_cost,
    encode_interval,
    encode_part,
    encode_step,
)
from broker.transport.enums import ANSWER_KIND, BASIS, COST_CLASS, EXACTNESS
from querybroker.v1 import query_service_pb2


def encode_explanation(explanation: Explanation) -> query_service_pb2.ExplainResponse:
    """How a query would be answered."""
    return query_service_pb2.ExplainResponse(
        schema=encode_columns(explanation.columns),
        classification=encode_classification(explanation.classification),
        predicted_cost=encode_cost(explanation.predicted),
        plan=[encode_part(part) for part in explanation.plan],
        candidates=[encode_step(step) for step in explanation.candidates],
        expected_kind=ANSWER_KIND.proto(explanation.expected_kind),
        expected_exactness=EXACTNESS.proto(explanation.expected_exactness),
        expected_staleness=duration(explanation.expected_staleness),
        bounds=[encode_bound(bound) for bound in explanation.bounds],
        resolved_range=encode_interval(explanation.resolved_range),
        fingerprint=explanation.fingerprint,
        statements=explanation.statements,
    )


def encode_classification(classification: Classification) -> query_service_pb2.Classification:
    """The class, what it rests on, and every factor."""
    return query_service_pb2.Classification(
        cost_class=COST_CLASS.proto(classification.cost_class),
        pool=classification.pool.value,
        confidence=classification.confidence,
        basis=BASIS.proto(classification.basis),
        sample_count=classification.samples,
        factors=[
            query_service_pb2.ClassificationFactor(name=f.name, value=f.value, effect=f.effect)
            for f in classification.factors
        ],
    )
