"""What is noted of every answer: metrics of the rollups that had a part in it or were passed over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from broker.pipeline.stage import Question
from broker.pipeline.status import Sources
from broker.policy.rollups.reasons import own
from broker.telemetry.instruments import Telemetry


@dataclass(frozen=True, slots=True)
class RollupNotes:
    """Counts answers by rollup. A rollup that could have answered and did not is counted with the rule that failed.

    ``answers`` are those that a rollup had a part in, by the names of dataset and rollup; their questions are offered
    for verification.
    """

    telemetry: Telemetry
    answers: Counter[tuple[str, str]]
    offer: Callable[[Question], None]

    def __call__(self, question: Question, sources: Sources) -> None:
        """Notes one answer."""
        route, name = question.route, question.plan.main.dataset.name
        if route is None or not route.rolled:
            return
        outcome = "part" if sources.live else "whole"
        for rollup in sources.used:
            self.telemetry.rollup_answer(name, rollup, outcome)
            self.answers[name, rollup] += 1
        able = {rollup.name for scan in route.scans for rollup in scan.rollups}.difference(sources.used)
        if able:
            passed = [each for cover in sources.covers for each in own(cover.rejected)]
            for rejected in {each.rollup: each for each in passed}.values():
                if rejected.rollup in able:
                    self.telemetry.rollup_answer(name, rejected.rollup, "rejected", rejected.rules[0].value)
        if sources.used:
            self.telemetry.rollup_live_share(name, sources.live_share if outcome == "part" else 0.0)
            self.offer(question)
