"""Classifies questions and learns from how they went."""

from __future__ import annotations

from dataclasses import dataclass

from broker.domain.request import RequestKind
from broker.policy.classify import Classified, Classifier, PlanEstimate, Run, Subject
from broker.ports.clock import Clock


@dataclass(frozen=True, slots=True)
class Classifying:
    """The classifier with its clock. On the request path it is asked without an estimate, which costs a round trip."""

    classifier: Classifier
    clock: Clock

    def classify(
        self, fingerprint: str, kind: RequestKind, estimate: PlanEstimate | None = None
    ) -> Classified:
        """The class, pool and predicted cost of a question."""
        return self.classifier.classify(Subject(kind, fingerprint, estimate), self.clock.monotonic())

    def observe(self, fingerprint: str, kind: RequestKind, run: Run) -> None:
        """Learns from a run."""
        self.classifier.observe(Subject(kind, fingerprint), run, self.clock.monotonic())
