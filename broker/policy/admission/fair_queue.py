"""Start-time fair queuing between flows: who has had least of late, by weight, goes first.

Every flow (a tenant, or a pool) has a start tag in virtual time. The waiting flow with the smallest tag is served;
serving it moves its tag on by cost over weight, and virtual time to the tag that it had. A flow that was idle begins at
the current virtual time, so nobody saves up credit by staying away. The cost is a prediction; when the work has ended,
:meth:`FairQueue.correct` moves the tag by what it was wrong.

Source: Goyal, Vin, Cheng, "Start-time fair queueing" (SIGCOMM 1996); correction at completion as in the API server of
Kubernetes. Tags are kept in a sorted list: with thousands of flows an insertion moves some kilobytes, which takes about
a microsecond, and the rank of a tag, which estimates of waiting need, is a binary search.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Sequence
from operator import itemgetter

from broker.policy.admission.entry import Entry, Flow, Rank

_flow_of = itemgetter(2)

SAMPLED_FLOWS = 12
"""Flows that an estimate of waiting looks at, at most."""
FORGET_ABOVE = 1024
"""Idle flows that are remembered before those whose tag says nothing any more are swept out."""


class FairQueue:
    """Flows that wait for the seats of one pool."""

    def __init__(self, max_debt: float, level: int = 0, above: Sequence[FairQueue] = ()) -> None:
        self.level = level
        self.above = above
        """The queues of more critical levels, which are served first."""
        self._max_debt = max_debt
        self.virtual = 0.0
        self.flows: dict[str, Flow] = {}
        self.length = 0
        self.work = 0.0
        self.weight = 0.0
        """Sum of the weights of the flows that wait."""
        self._heads: list[tuple[float, int, Flow]] = []
        self._orders = 0
        self._sweep_at = FORGET_ABOVE

    @property
    def waiting_flows(self) -> int:
        """How many flows wait."""
        return len(self._heads)

    def flow(self, name: str, weight: float) -> Flow:
        """The flow of a tenant, a new one when it is not known."""
        flow = self.flows.get(name)
        if flow is None:
            if len(self.flows) >= self._sweep_at:
                self._sweep()
            flow = self.flows[name] = Flow(name, weight, self)
        return flow

    def push(self, entry: Entry) -> None:
        """Lets a request wait in its flow."""
        flow, rank, work = entry.flow, entry.rank, entry.work
        waiters = flow.waiters
        if not waiters:
            flow.start = max(flow.start, self.virtual)
            self._orders += 1
            flow.order = self._orders
            self.weight += flow.weight
            insort(self._heads, (flow.start, flow.order, flow))
            waiters.append((rank, entry))
        elif rank > waiters[-1][0]:
            waiters.append((rank, entry))
        else:
            insort(waiters, (rank, entry))
        flow.work = total = flow.work + work
        flow.mean = total / len(waiters)
        self.work += work
        self.length += 1

    def remove(self, entry: Entry) -> None:
        """Takes a request out that was not served."""
        flow = entry.flow
        waiters = flow.waiters
        del waiters[0 if waiters[0][1] is entry else bisect_left(waiters, (entry.rank,))]
        self.length -= 1
        if waiters:
            work = entry.work
            flow.work = total = flow.work - work
            flow.mean = total / len(waiters)
            self.work -= work
        else:
            self._leave(flow)
            self.work -= flow.work
            flow.work = 0.0
        if not self.length:
            self.work = 0.0  # sums of floats do not come back to nothing by themselves

    def charge(self, flow: Flow, cost: float) -> None:
        """Books work that begins; virtual time follows the flow that is served."""
        start, virtual = flow.start, self.virtual
        if start < virtual and not flow.waiters:
            start = virtual
        elif start > virtual:
            self.virtual = start
        self._move(flow, start + cost / flow.weight)

    def take(self, entry: Entry) -> None:
        """Takes a request out that is served now, and charges its flow."""
        flow, virtual = entry.flow, self.virtual
        start = flow.start
        if start > virtual:
            self.virtual = start
        elif start < (least := virtual - self._max_debt / flow.weight):
            start = least
        self.remove(entry)
        self._move(flow, start + entry.cost / flow.weight)

    def correct(self, flow: Flow, predicted: float, actual: float) -> None:
        """Moves a flow by what the prediction of its work was wrong."""
        weight, virtual = flow.weight, self.virtual
        bound = self._max_debt / weight
        start = flow.start + (actual - predicted) / weight
        if start < (least := virtual - bound):
            start = least
        elif start > (most := virtual + bound):
            start = most
        self._move(flow, start)

    def ahead(self, flow: Flow, rank: Rank, more: float = 0.0) -> float:
        """Predicted work that is served before a request of the given rank that joins the flow now.

        Its own flow's work before it, with what comes ``more``, all that waits at levels above, and of every flow with
        an earlier tag what it is served until virtual time has come as far: the way from its tag, by weight, and one
        request begun on the way; never more than waits there. Where many flows are earlier, some of them stand for the
        others.
        """
        waiters = flow.waiters
        last = not waiters or rank > waiters[-1][0]
        work = self.behind(flow, (flow.work if last else flow.work_before(rank)) + more)
        for queue in self.above:
            work += queue.work
        return work

    def behind(self, flow: Flow, own: float) -> float:
        """The same within the level, for a request with ``own`` work of its flow before it, whatever its rank."""
        start, virtual = flow.start, self.virtual
        if start < virtual:  # noqa: PLR1730 - a call costs more than comparing
            start = virtual
        start += own / flow.weight
        passed = bisect_right(self._heads, (start, math.inf))
        if not passed:
            return own
        heads = self._heads[: passed : -(-passed // SAMPLED_FLOWS)]
        others = 0.0
        for tag, _, other in heads:
            if other is not flow:
                reach = (start - tag) * other.weight + other.mean
                others += reach if reach < other.work else other.work  # noqa: FURB136 - a call costs more than comparing
        return own + others * (passed / len(heads))

    def head(self) -> Entry:
        """The request that is served next. Somebody must wait."""
        return self._heads[0][2].waiters[0][1]

    def first(self, count: int) -> Iterator[Flow]:
        """The flows that are served next, in order, while nothing moves."""
        return map(_flow_of, self._heads[:count])

    def crowd(self) -> Entry | None:
        """The last request of the flow with most waiters."""
        if not self._heads:
            return None
        return max((flow for _, _, flow in self._heads), key=lambda f: (len(f.waiters), f.order)).waiters[-1][
            1
        ]

    def oldest(self) -> float | None:
        """Since when the one who has waited longest waits."""
        waiting = (entry.since for _, _, flow in self._heads for _, entry in flow.waiters)
        return min(waiting, default=None)

    def _move(self, flow: Flow, start: float) -> None:
        if flow.waiters:
            heads, order = self._heads, flow.order
            del heads[0 if heads[0][2] is flow else bisect_left(heads, (flow.start, order))]
            insort(heads, (start, order, flow))
        flow.start = start

    def _leave(self, flow: Flow) -> None:
        del self._heads[bisect_left(self._heads, (flow.start, flow.order))]
        self.weight -= flow.weight
        if not self._heads:
            self.weight = 0.0

    def _sweep(self) -> None:
        idle = [
            name
            for name, flow in self.flows.items()
            if not flow.waiters and not flow.seats_used and flow.start <= self.virtual
        ]
        for name in idle:
            del self.flows[name]
        self._sweep_at = max(FORGET_ABOVE, 2 * len(self.flows))
