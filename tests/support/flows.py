"""Flows of a fair queue, filled and served without a scheduler."""

from broker.domain.pool import PoolName
from broker.policy.admission.fair_queue import Entry, FairQueue, Flow, Rank
from broker.policy.admission.values import AdmissionRequest

numbers = iter(range(1_000_000))


def entry(flow: Flow, cost: float, urgency: float = 0.0, work: float | None = None) -> Entry:
    number = next(numbers)
    rank: Rank = (0, urgency, number)
    made = Entry(AdmissionRequest(str(number), flow.name, PoolName.DASHBOARD, 1e9), flow, rank, 0.0)
    made.cost, made.work = cost, cost if work is None else work
    return made


def backlog(queue: FairQueue, name: str, count: int, cost: float = 1.0, weight: float = 1.0) -> Flow:
    flow = queue.flow(name, weight)
    for _ in range(count):
        queue.push(entry(flow, cost))
    return flow


def serve(queue: FairQueue) -> Entry:
    """Takes out whoever is next."""
    served = queue.heads[0][2].waiters[0][1]
    queue.take(served)
    return served
