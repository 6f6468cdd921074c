"""The stacks of stages, from the outside in, one under the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from broker.pipeline.admitted import admitted, admitted_stream
from broker.pipeline.cached import Cached
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


def build(
    admission: Admission,
    ids: Iterator[int],
    answers: SnapshotAnswers,
    stream: SnapshotStream,
    fits: Fits,
    cached: Cached | None = None,
) -> Recipes:
    """Puts the stacks together; without a cache nothing is kept."""
    dashboard: list[Stage] = [sized(fits), routed, admitted(admission, ids)]
    explore: list[StreamStage] = [routed_stream, offered_stream, admitted_stream(admission, ids)]
    if cached is not None:
        dashboard.append(keeping(cached))
        explore.append(keeping_stream(cached))
    return Recipes(compose(dashboard, answers), compose_stream(explore, stream))
