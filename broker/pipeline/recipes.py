"""The stacks of stages, from the outside in, one under the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from broker.pipeline.admitted import admitted, admitted_stream
from broker.pipeline.execute import SnapshotAnswers
from broker.pipeline.offered import offered_stream
from broker.pipeline.routed import routed, routed_stream
from broker.pipeline.sized import sized
from broker.pipeline.stage import Handler, StreamHandler, compose, compose_stream
from broker.pipeline.streamed import SnapshotStream
from broker.runtime.admission import Admission


@dataclass(frozen=True, slots=True)
class Recipes:
    """The request path of each kind of call. Jobs read through the store's snapshots, under the worker's own seats."""

    dashboard: Handler
    explore: StreamHandler


@dataclass(frozen=True, slots=True)
class PanelLimits:
    """Largest answer of a panel: rows, and encoded bytes."""

    max_rows: int
    max_bytes: int


def build(
    admission: Admission,
    ids: Iterator[int],
    answers: SnapshotAnswers,
    stream: SnapshotStream,
    panel: PanelLimits,
) -> Recipes:
    """Puts the stacks together."""
    return Recipes(
        dashboard=compose(
            [sized(panel.max_rows, panel.max_bytes), routed, admitted(admission, ids)], answers
        ),
        explore=compose_stream([routed_stream, offered_stream, admitted_stream(admission, ids)], stream),
    )
