"""The stacks of stages, from the outside in, one under the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from broker.pipeline.admitted import admitted, admitted_stream
from broker.pipeline.cached import Cached
from broker.pipeline.coalesced import Flights, coalesced
from broker.pipeline.degraded import Degrading, degraded, degraded_stream
from broker.pipeline.execute import SnapshotAnswers
from broker.pipeline.keeping import keeping, keeping_stream
from broker.pipeline.offered import offered_stream
from broker.pipeline.routed import routed, routed_stream
from broker.pipeline.sized import Fits, sized
from broker.pipeline.stage import Handler, Stage, StreamHandler, StreamStage, compose, compose_stream
from broker.pipeline.streamed import SnapshotStream
from broker.runtime.admission import Admission


@dataclass(frozen=True, slots=True)
class Recipes:
    """The request path of each kind of call. Jobs read through the store's snapshots, under the worker's own seats."""

    dashboard: Handler
    explore: StreamHandler


@dataclass(frozen=True, slots=True)
class Beside:
    """What stands beside the live path: the cache with its flights, if there is one, and when to go down the ladder."""

    cached: Cached | None = None
    flights: Flights | None = None
    degrading: Degrading | None = None


def build(
    admission: Admission,
    ids: Iterator[int],
    answers: SnapshotAnswers,
    stream: SnapshotStream,
    fits: Fits,
    beside: Beside | None = None,
) -> Recipes:
    """Puts the stacks together; without a cache nothing is kept, and nobody waits for another's question."""
    beside = beside or Beside()
    dashboard: list[Stage] = [sized(fits)]
    explore: list[StreamStage] = []
    if beside.degrading is not None:
        dashboard.append(degraded(beside.degrading))
        explore.append(degraded_stream(beside.degrading))
    dashboard.append(routed)
    explore += [routed_stream, offered_stream]
    if beside.flights is not None:
        dashboard.append(coalesced(beside.flights))
    dashboard.append(admitted(admission, ids))
    explore.append(admitted_stream(admission, ids))
    if beside.cached is not None:
        dashboard.append(keeping(beside.cached))
        explore.append(keeping_stream(beside.cached))
    return Recipes(compose(dashboard, answers), compose_stream(explore, stream))
