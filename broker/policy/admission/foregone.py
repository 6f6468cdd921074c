"""Whether a request of a tenant would be refused for its wait, whatever it asks: the door need not have it read.

Under ten times the load nine of ten requests are refused, and reading, planning and classifying a request costs many
times what refusing it does. While no seat is free, the wait of a newcomer depends on what waits already, and on the
request only by its place among its tenant's own: the less of the time that is left is work, the longer it may wait, and
the more of them go before it. So all that it may ask comes down to a few cases, one for each of them::

    work of its own tenant before it    what it may wait at most             refused unless it starts in that time
    none                                until the first's latest start       (0 + others + 1) / rate
    the first's                         until the second's                   (first + others + 1) / rate
    ...                                 its budget, if all of it is wait     ...

The waits are those that :meth:`Backend.wait` tells a request that has been read. Where seats are free, and before the
pool knows what its work is like, the request itself decides.
"""

from __future__ import annotations

from broker.domain.principal import Criticality
from broker.policy.admission.backend import Backend
from broker.policy.admission.fair_queue import Flow
from broker.policy.admission.pool import Pool


def foregone(
    pool: Pool, backend: Backend, flow: Flow, level: Criticality, budget: float, now: float
) -> float | None:
    """Seconds that it would wait, more than it may; None when it is to be read.

    ``budget`` is what it may wait in seconds if it takes no time itself.
    """
    rate = backend.rate(pool)
    if rate <= 0.0 or not backend.full(pool):
        return None
    if not (first := backend.first(pool, rate)):
        return None
    if pool.waiting >= pool.limits.queue or len(flow.waiters) >= pool.limits.tenant_queue:
        return None  # there is more to be told than that the wait is too long
    levels = pool.queue.levels
    queue = levels[level]
    above = first + sum([higher.work for higher in levels[level + 1 :]])
    own = 0.0
    for (attempt, latest, _), waiter in flow.waiters:
        wait = (queue.behind(flow, own) + above) / rate
        if wait > budget:
            return wait
        if attempt or wait <= latest - now:
            return None
        own += waiter.work
    wait = (queue.behind(flow, own) + above) / rate
    return wait if wait > budget else None
