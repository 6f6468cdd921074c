"""The load in a decision log: who asked when for what, and how long it took."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from broker.domain.pool import PoolName
from broker.policy.admission.events import Asked, Cancelled, Configuration, Entry, Finished, Offered
from broker.policy.admission.values import AdmissionRequest, Admitted, Killed, Outcome, Refused

UNSEEN = "unseen/"
"""Begins the ids of requests that were refused before anyone looked at them."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request; instants are those of the log.

    It began at ``started`` and held its seats until ``ended``, of which it worked ``seconds``, and so it ended; DROPPED
    was cut short, and None never ran. ``left`` is when its caller went away, before the deadline and without an answer.
    """

    at: float
    request: AdmissionRequest
    started: float | None = None
    ended: float | None = None
    seconds: float = 0.0
    outcome: Outcome | None = None
    left: float = math.inf


@dataclass(frozen=True, slots=True)
class Trace:
    """The arrivals of a log in order of time, and the configuration of the broker that wrote it."""

    configuration: Configuration
    arrivals: tuple[Arrival, ...]

    @property
    def begin(self) -> float:
        """The first arrival; 0 without any."""
        return self.arrivals[0].at if self.arrivals else 0.0

    @property
    def seconds(self) -> float:
        """From the first arrival to the last, at least one second."""
        return max(1.0, self.arrivals[-1].at - self.begin) if self.arrivals else 1.0


def gather(configuration: Configuration, entries: Iterable[Entry]) -> Trace:
    """The load of a log.

    The control plane is left out. A request that was refused unseen stands for one like the last that the same tenant,
    or else anybody, sent to the pool. What still ran when the log ends was cut short there.
    """
    open_: dict[str, Arrival] = {}
    known: dict[tuple[PoolName, str], Arrival] = {}
    killed: set[str] = set()
    done: list[Arrival] = []
    at = 0.0
    for entry in entries:
        at, event = entry.at, entry.event
        match event:
            case Offered(request) if not request.exempt:
                arrival = open_[request.id] = Arrival(at, request)
                known[request.pool, request.tenant] = known[request.pool, ""] = arrival
            case Finished(id, outcome, seconds) if id in open_:
                done.append(_ended(open_.pop(id), at, seconds, outcome))
            case Cancelled(id) if id in open_:
                gone = open_.pop(id)
                if id not in killed and at < gone.request.deadline_at:
                    gone = replace(gone, left=at)
                done.append(_cut(gone, at))
            case Asked(pool, tenant) if entry.decisions:
                like = known.get((pool, tenant)) or known.get((pool, ""))
                if like is not None:
                    done.append(_unseen(at, like, tenant, len(done)))
        for decision in entry.decisions:
            if isinstance(decision, Killed):
                killed.add(decision.id)
            elif isinstance(decision, Admitted) and decision.id in open_:
                open_[decision.id] = replace(open_[decision.id], started=at)
            elif isinstance(decision, Refused) and decision.id in open_:
                done.append(open_.pop(decision.id))
    done += [_cut(arrival, at) for arrival in open_.values()]
    return Trace(configuration, tuple(sorted(done, key=lambda arrival: (arrival.at, arrival.request.id))))


def merged(traces: Sequence[Trace]) -> Trace:
    """The load of several brokers before the same databases, on the clock of calendars; the first one's configuration.

    Each process of a fleet writes a log of its own, and monotonic clocks of several machines have nothing in common.
    """
    if len(traces) == 1:
        return traces[0]
    arrivals = [
        _shifted(arrival, trace.configuration.unix - trace.configuration.monotonic)
        for trace in traces
        for arrival in trace.arrivals
    ]
    return Trace(
        traces[0].configuration,
        tuple(sorted(arrivals, key=lambda arrival: (arrival.at, arrival.request.id))),
    )


def _shifted(arrival: Arrival, by: float) -> Arrival:
    return replace(
        arrival,
        at=arrival.at + by,
        request=replace(arrival.request, deadline_at=arrival.request.deadline_at + by),
        started=None if arrival.started is None else arrival.started + by,
        ended=None if arrival.ended is None else arrival.ended + by,
        left=arrival.left + by,
    )


def _ended(arrival: Arrival, at: float, seconds: float, outcome: Outcome) -> Arrival:
    return replace(arrival, ended=at, seconds=seconds, outcome=outcome)


def _cut(arrival: Arrival, at: float) -> Arrival:
    if arrival.started is None:
        return arrival
    return _ended(arrival, at, at - arrival.started, Outcome.DROPPED)


def _unseen(at: float, like: Arrival, tenant: str, number: int) -> Arrival:
    allowed = like.request.deadline_at - like.at
    return Arrival(
        at,
        replace(like.request, id=f"{UNSEEN}{number}", tenant=tenant, deadline_at=at + allowed, load_group=""),
    )
