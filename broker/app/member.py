"""What a process knows of those that were started together with it, to serve on one port."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from broker.domain.pool import PoolLimits, PoolName


def _nobody(_: float | None) -> None:
    """Nobody is told."""


@dataclass(frozen=True, slots=True)
class Member:
    """One of ``count`` processes, the one with ``index``; None for a process on its own.

    ``drained`` is called with the time for running calls when an operator asks this process to drain, so that the
    others follow.
    """

    index: int | None = None
    count: int = 1
    drained: Callable[[float | None], None] = _nobody

    def portion(self, pools: Mapping[PoolName, PoolLimits]) -> dict[PoolName, PoolLimits]:
        """The pools of this process: worker processes follow the processors, which all members use together."""
        return {
            name: replace(limits, workers=math.ceil(limits.workers / self.count))
            for name, limits in pools.items()
        }


ALONE = Member()
"""A process that was started on its own."""
