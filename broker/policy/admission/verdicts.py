"""Writes decisions down: every refusal with its reason, its numbers, and when another try makes sense."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from broker.domain.pool import PoolName
from broker.policy.admission.fair_queue import Entry
from broker.policy.admission.pool import Pool
from broker.policy.admission.tenants import Excess
from broker.policy.admission.values import AdmissionRequest, RefusalReason, Refused, Stage, Tuning


class Verdicts:
    """Makes refusals. ``seed`` decides the jitter of pushbacks and nothing else."""

    def __init__(self, seed: int, tuning: Tuning) -> None:
        self._shortest, self._longest = tuning.min_pushback, tuning.max_pushback
        self._random = Random(seed)  # noqa: S311 - jitter, not a secret

    def pushback(self, seconds: float) -> float:
        """The hint, within bounds and 20 % to either side, so that those refused together do not return together."""
        return min(self._longest, max(self._shortest, seconds)) * self._random.uniform(0.8, 1.2)

    def draining(self, id: str, pool: PoolName, stage: Stage, wait: float = 0.0) -> Refused:
        """This server is stopping; another one answers at once."""
        return Refused(id, pool, RefusalReason.DRAINING, stage, "draining", 0.0, wait, pushback=0.0)

    def infeasible(self, request: AdmissionRequest, stage: Stage, now: float, wait: float = 0.0) -> Refused:
        """The deadline is too short even for a fast run."""
        left = max(0.0, request.deadline_at - now)
        return Refused(
            request.id, request.pool, RefusalReason.DEADLINE_TOO_SHORT, stage, "deadline", left, wait
        )

    def over_quota(self, id: str, pool: PoolName, excess: Excess) -> Refused:
        """The tenant has what it may have."""
        again = None if excess.again is None else self.pushback(excess.again)
        return Refused(
            id, pool, RefusalReason.TENANT_QUOTA, Stage.ARRIVAL, excess.factor, excess.limit, pushback=again
        )

    def alike(self, refused: Refused, entry: Entry) -> Refused:
        """The same for another request of the load group, hint included: they return as they came, together."""
        return replace(refused, id=entry.request.id, pool=entry.request.pool, wait=0.0)

    def over_budget(self, entry: Entry, limit: int, budget: float) -> Refused:
        """The wait would take more of the deadline than may be spent on it."""
        request, expected = entry.request, entry.expected
        return Refused(
            request.id, request.pool, RefusalReason.OVERLOADED, Stage.ARRIVAL, "wait_budget", limit, 0.0, expected,
            budget, self.pushback(expected - budget),
        )  # fmt: skip

    def foregone(self, pool: Pool, limit: int, expected: float, budget: float) -> Refused:
        """The same for whatever a tenant may ask; no request is named."""
        return Refused(
            "", pool.name, RefusalReason.OVERLOADED, Stage.ARRIVAL, "wait_budget", limit, 0.0, expected, budget,
            self.pushback(expected - budget),
        )  # fmt: skip

    def full(self, entry: Entry, bound: tuple[RefusalReason, str, int], budget: float) -> Refused:
        """A queue is as long as it may be."""
        reason, factor, limit = bound
        request, expected = entry.request, entry.expected
        again = self.pushback(expected - budget)
        return Refused(
            request.id, request.pool, reason, Stage.ARRIVAL, factor, limit, 0.0, expected, budget, again
        )

    def pushed_out(self, entry: Entry, pool: Pool, expected: float, now: float) -> Refused:
        """A waiter makes room for one of a tenant that has fewer."""
        request = entry.request
        return Refused(
            request.id, request.pool, RefusalReason.OVERLOADED, Stage.QUEUE, "queue", pool.limits.queue,
            now - entry.since, expected, pushback=self.pushback(expected),
        )  # fmt: skip

    def too_late(self, entry: Entry, stage: Stage, limit: int, expected: float, now: float) -> Refused:
        """The wait took longer than it was expected to and may."""
        request, wait = entry.request, now - entry.since
        if now + request.predicted.p10 >= request.deadline_at:
            return self.infeasible(request, stage, now, wait)
        return Refused(
            request.id, request.pool, RefusalReason.QUEUE_TIMEOUT, stage, "wait_budget", limit, wait, expected,
            entry.until - entry.since, self.pushback(expected),
        )  # fmt: skip
