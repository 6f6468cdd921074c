"""One executor pool of the core: its share of the seats, its fair queue, and what its work has taken of late."""

from __future__ import annotations

import math

from broker.domain.pool import PoolLimits, PoolName, TenantLimits
from broker.domain.principal import Criticality
from broker.policy.admission.fair_queue import Entry, Flow
from broker.policy.admission.levels import Levels
from broker.policy.admission.shard import EXACT_TENANTS, hand
from broker.policy.admission.values import AdmissionRequest, Outcome, Quantiles, RefusalReason, Tuning
from broker.policy.admission.work_ledger import WorkLedger

LEARNING_RATE = 0.1
"""Weight of the newest sample in the mean work: about the last twenty requests count."""
UNKNOWN_TAIL = 3.0
"""How many times the mean a request may take of which nothing is known."""


def mean_time(predicted: Quantiles) -> float:
    """Mean of a prediction by Swanson's rule: sums of work, as in a queue, go by means and not by medians."""
    middle = predicted.p50
    mean = 0.3 * predicted.p10 + 0.4 * middle + 0.3 * predicted.p90
    return mean if mean > middle else middle  # noqa: FURB136 - a call costs more than comparing


class Pool:
    """Seats used, waiters and speed of a pool. It decides nothing; the scheduler asks and moves.

    ``waiting`` counts those in its queue, at all levels. ``entitled`` is the number of seats that the pool owns,
    ``guard`` the part that stays free for it while it does not use them, ``start`` its tag of virtual time among the
    pools of its backend. ``mean_work`` is what its work takes on an idle backend, like a prediction: a wait is work
    over the speed at which it is done now, in which what slows it down is counted already.
    """

    def __init__(self, name: PoolName, limits: PoolLimits, tuning: Tuning) -> None:
        self.name = name
        self.limits = limits
        self.own_seats = limits.share == 0
        """Whether the pool stands outside its backend's seats."""
        self.queue = Levels(tuning.max_debt)
        self.waiting = 0
        self.entitled = limits.in_flight
        self.guard = 0
        self.start = 0.0
        self.running: dict[str, Entry] = {}
        self.seats_used = 0
        self.mean_work = 0.0
        self.admitted_count = 0
        self.refused_count = 0
        self.ledger = WorkLedger()

    def flow_of(self, tenant: str, limits: TenantLimits, level: Criticality = Criticality.CRITICAL) -> Flow:
        """Where a tenant's requests of a level wait: a flow of its own, a shared one when there are too many."""
        queue = self.queue.levels[level]
        if (known := queue.flows.get(tenant)) is not None:
            return known
        if queue.waiting_flows < EXACT_TENANTS:
            return queue.flow(tenant, limits.weight)
        least = min(hand(tenant), key=lambda name: queue.flows[name].work if name in queue.flows else 0.0)
        return queue.flow(least, 1.0)

    def known_flow(self, tenant: str, limits: TenantLimits, level: Criticality) -> Flow | None:
        """The flow that :meth:`flow_of` would give, without making one; None where it depends on others."""
        queue = self.queue.levels[level]
        known = queue.flows.get(tenant)
        if known is not None or queue.waiting_flows >= EXACT_TENANTS:
            return known
        return Flow(tenant, limits.weight, queue)

    def size(self, entry: Entry, memory_share: float) -> None:
        """Predicts the work of a request. ``memory_share`` is what its memory is worth in seats."""
        request: AdmissionRequest = entry.request
        width = 1.0
        if request.seats > 1.0:  # but never so wide that it has to wait for most others
            entry.seats = min(max(1, int(0.15 * self.entitled)), round(request.seats))
            width = float(entry.seats)
        if memory_share > width:  # noqa: PLR1730 - a call costs more than comparing
            width = memory_share  # of two resources the dominant one is charged
        entry.width = width
        predicted = request.predicted
        if predicted.p50 > 0.0:
            entry.work = entry.cost = mean_time(predicted) * width
            entry.p90 = predicted.p90
            if entry.flow.pessimistic:
                entry.cost = predicted.p90 * width
        else:
            entry.work = self.mean_work * width
            entry.cost = entry.work or width  # a turn costs something even before anything is known
            entry.p90 = UNKNOWN_TAIL * self.mean_work if self.mean_work else math.inf

    def budget(self, request: AdmissionRequest, now: float) -> float:
        """Seconds that a request may wait: a fraction of what its deadline leaves beside the work itself.

        The work is taken at about its third quartile. With the median, work that ends too late fills a few percent of
        the seats when everybody has to wait; with the 90th percentile, new questions could hardly ever wait.
        """
        predicted = request.predicted
        work = math.sqrt(predicted.p50 * predicted.p90) if predicted.p90 > predicted.p50 else predicted.p50
        slack = request.deadline_at - now - work
        return self.limits.wait_fraction * slack if slack > 0.0 else 0.0

    def full(self, entry: Entry) -> tuple[RefusalReason, str, int] | None:
        """Which bound on memory keeps another waiter out: reason, name and value of the bound."""
        if len(entry.flow.waiters) >= self.limits.tenant_queue:
            return RefusalReason.TENANT_QUOTA, "tenant_queue", self.limits.tenant_queue
        if self.waiting >= self.limits.queue and self.crowded_by(entry) is None:
            return RefusalReason.OVERLOADED, "queue", self.limits.queue
        return None

    def crowded_by(self, entry: Entry) -> Entry | None:
        """The waiter that makes room for another one in a queue that is full.

        It is the last of the flow with most waiters at the lowest level, if that level is lower, or if that flow still
        has as many as the newcomer's afterwards: a noisy tenant fills the queue with its own requests and not with
        other tenants' refusals.
        """
        if (victim := self.queue.crowd()) is None:
            return None
        lowest, own = victim.flow.queue.level, entry.flow.queue.level
        if lowest != own:
            return victim if lowest < own else None
        return victim if len(victim.flow.waiters) - 1 > len(entry.flow.waiters) else None

    def occupy(self, entry: Entry, now: float) -> None:
        """Gives a request its seats."""
        seats = entry.seats
        entry.since = now
        self.running[entry.request.id] = entry
        self.seats_used += seats
        entry.flow.seats_used += seats
        self.admitted_count += 1

    def release(self, entry: Entry, outcome: Outcome, seconds: float, now: float, progress: float) -> float:
        """Takes the seats back and learns from how the work ended; returns the work that was done.

        ``progress`` is the speed of queries relative to an idle backend.
        """
        request, flow, seats = entry.request, entry.flow, entry.seats
        del self.running[request.id]
        self.seats_used -= seats
        flow.seats_used -= seats
        work = seconds * entry.width
        flow.queue.correct(flow, entry.cost, work)
        self.ledger.add(request.tenant, work, now)
        known, alone = self.mean_work, work * progress
        if outcome is Outcome.SUCCESS:
            self.mean_work = known + LEARNING_RATE * (alone - known) if known else alone
            flow.learn(entry.work, work)
        elif known and alone > known and outcome is Outcome.DROPPED:
            self.mean_work = known + LEARNING_RATE * (alone - known)
        return work
