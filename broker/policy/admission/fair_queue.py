"""Start-time fair queuing between flows: who has had least of late, by weight, goes first.

Every flow (a tenant, or a pool) has a start tag in virtual time. The waiting flow with the smallest tag is served;
serving it moves its tag on by cost over weight, and virtual time to the tag that it had. A flow that was idle begins at
the current virtual time, so nobody saves up credit by staying away. The cost is a prediction; when the work has ended,
:meth:`FairQueue.correct` moves the tag by what it was wrong.

An :class:`Entry` is what the core remembers of a request from its arrival to its end, a :class:`Flow` what it remembers
of the tenant that it belongs to.

Source: Goyal, Vin, Cheng, "Start-time fair queueing" (SIGCOMM 1996); correction at completion as in the API server of
Kubernetes. Tags are kept in a sorted list: with thousands of flows an insertion moves some kilobytes, which takes about
a microsecond, and the rank of a tag, which estimates of waiting need, is a binary search.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Sequence
from operator import itemgetter

from broker.policy.admission.values import AdmissionRequest

_flow_of = itemgetter(2)

SAMPLED_FLOWS = 12
"""Flows that an estimate of waiting looks at, at most."""
FORGET_ABOVE = 1024
"""Idle flows that are remembered before those whose tag says nothing any more are swept out."""

Rank = tuple[int, float, int]
"""Order of the requests of one tenant and criticality: later attempts behind first ones, then the latest start, then
arrival."""

PESSIMISM_ABOVE = 1.0
"""Mean error of predictions, as a logarithm, above which a tenant is charged the 90th percentile in advance."""
LEARNING_RATE = 0.1


class Flow:
    """The requests of one tenant that wait in a queue, in the tenant's own order, and what the tenant has had.

    ``work`` is the predicted work of all that wait, ``mean`` that of one of them. ``waiters`` are sorted by rank;
    no two ranks are equal, so comparing pairs, or a pair with a rank alone in a tuple, never comes to an entry.
    """

    __slots__ = (
        "error", "mean", "name", "order", "pessimistic", "queue", "seats_used", "start", "waiters", "weight",
        "work",
    )  # fmt: skip

    def __init__(self, name: str, weight: float, queue: FairQueue) -> None:
        self.name = name
        self.queue = queue
        self.weight = weight
        self.start = queue.virtual
        self.order = 0
        self.waiters: list[tuple[Rank, Entry]] = []
        self.work = 0.0
        self.mean = 0.0
        self.seats_used = 0
        self.error = 0.0
        self.pessimistic = False
        """Whether predictions have been so wrong that the high one is charged (2DFQ's pessimism)."""

    def work_before(self, rank: Rank) -> float:
        """Predicted work of this flow that goes before a request of the given rank."""
        return sum([entry.work for _, entry in self.waiters[: bisect_left(self.waiters, (rank,))]])

    def learn(self, predicted: float, actual: float) -> None:
        """Remembers how wrong predictions for the tenant are."""
        if predicted > 0.0 and actual > 0.0:
            self.error += LEARNING_RATE * (abs(math.log(actual / predicted)) - self.error)
            self.pessimistic = self.error > PESSIMISM_ABOVE


class Entry:
    """A request with what was decided about it. State, not a value: it waits, runs, and ends.

    ``since`` is when it began to wait, or else to run; it is ``waiting`` while it stands in a queue. ``expected`` is
    the wait in seconds that was told. Its pool predicts the rest (:meth:`Pool.size`): ``cost`` is the work in
    seat-seconds that its tenant is charged when it starts, ``work`` the same without pessimism, for estimates, of
    ``width`` seats; ``p90`` is the duration that lending reckons with.
    """

    __slots__ = (
        "cost", "expected", "flow", "killed", "memory", "p90", "rank", "request", "seats", "since", "until",
        "waiting", "width", "work",
    )  # fmt: skip

    width: float
    work: float
    cost: float
    p90: float

    def __init__(self, request: AdmissionRequest, flow: Flow, rank: Rank, now: float) -> None:
        self.request = request
        self.flow = flow
        self.rank = rank
        self.since = now
        self.until = now
        self.expected = 0.0
        self.seats = 1
        self.memory = request.memory
        self.waiting = self.killed = False


class FairQueue:
    """Flows that wait for the seats of one pool."""

    def __init__(self, max_debt: float, level: int = 0, above: Sequence[FairQueue] = ()) -> None:
        self.level = level
        self.above = above
        """The queues of more critical levels, which are served first."""
        self._max_debt = max_debt
        self.virtual = 0.0
        self.flows: dict[str, Flow] = {}
        self.work = 0.0
        self.heads: list[tuple[float, int, Flow]] = []
        """The flows that wait, in the order of service: the tag of each, and what tells equal tags apart."""
        self._orders = 0
        self._sweep_at = FORGET_ABOVE

    @property
    def waiting_flows(self) -> int:
        """How many flows wait."""
        return len(self.heads)

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
            insort(self.heads, (flow.start, flow.order, flow))
            waiters.append((rank, entry))
        elif rank > waiters[-1][0]:
            waiters.append((rank, entry))
        else:
            insort(waiters, (rank, entry))
        flow.work = total = flow.work + work
        flow.mean = total / len(waiters)
        self.work += work

    def remove(self, entry: Entry) -> None:
        """Takes a request out that was not served."""
        self._take_out(entry, entry.flow.start)

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
        self._take_out(entry, start + entry.cost / flow.weight)

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
        passed = bisect_right(self.heads, (start, math.inf))
        if not passed:
            return own
        heads = self.heads[: passed : -(-passed // SAMPLED_FLOWS)]
        others = 0.0
        for tag, _, other in heads:
            if other is not flow:
                reach = (start - tag) * other.weight + other.mean
                others += reach if reach < other.work else other.work  # noqa: FURB136 - a call costs more than comparing
        return own + others * (passed / len(heads))

    def first(self, count: int) -> Iterator[Flow]:
        """The flows that are served next, in order, while nothing moves."""
        return map(_flow_of, self.heads[:count])

    def crowd(self) -> Entry | None:
        """The last request of the flow with most waiters."""
        if not self.heads:
            return None
        return max((flow for _, _, flow in self.heads), key=lambda f: (len(f.waiters), f.order)).waiters[-1][
            1
        ]

    def oldest(self) -> float | None:
        """Since when the one who has waited longest waits."""
        waiting = (entry.since for _, _, flow in self.heads for _, entry in flow.waiters)
        return min(waiting, default=None)

    def _take_out(self, entry: Entry, start: float) -> None:
        """Takes a request out whose flow stands at ``start`` from now on."""
        flow, heads, work = entry.flow, self.heads, entry.work
        waiters, order = flow.waiters, flow.order
        del waiters[0 if waiters[0][1] is entry else bisect_left(waiters, (entry.rank,))]
        del heads[0 if heads[0][2] is flow else bisect_left(heads, (flow.start, order))]
        flow.start = start
        if waiters:
            insort(heads, (start, order, flow))
            flow.work = total = flow.work - work
            flow.mean = total / len(waiters)
        else:
            work, flow.work = flow.work, 0.0
        # sums of floats do not come back to nothing by themselves
        self.work = self.work - work if heads else 0.0

    def _move(self, flow: Flow, start: float) -> None:
        if flow.waiters:
            heads, order = self.heads, flow.order
            del heads[0 if heads[0][2] is flow else bisect_left(heads, (flow.start, order))]
            insort(heads, (start, order, flow))
        flow.start = start

    def _sweep(self) -> None:
        idle = [
            name
            for name, flow in self.flows.items()
            if not flow.waiters and not flow.seats_used and flow.start <= self.virtual
        ]
        for name in idle:
            del self.flows[name]
        self._sweep_at = max(FORGET_ABOVE, 2 * len(self.flows))
