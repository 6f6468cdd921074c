"""The rungs of the ladder below the cache, over the open parts."""

from __future__ import annotations

import itertools

from broker.app.database import Database
from broker.app.estimates import estimated
from broker.app.process import Process
from broker.app.query import while_up
from broker.app.rollups import Rollups, stale_rollup
from broker.pipeline.admitted import admin_seats
from broker.pipeline.ladder import LowerRung
from broker.ports.aggregator import Aggregator
from broker.runtime.admission import Admission

FIRST = 1 << 40
"""Number of the first seat that a rung takes: those of the live path are counted from 0."""


def lower_rungs(
    database: Database,
    rollups: Rollups,
    aggregator: Aggregator,
    admission: Admission,
    own: Process,
) -> list[LowerRung]:
    """From the best down; which of them may answer decides each for itself."""
    seats = while_up(admin_seats(admission, itertools.count(FIRST)), database.pools.down)
    stale = stale_rollup(rollups, aggregator, own.clock)
    estimates = estimated(database.store, aggregator, seats, own, rollups.sealed.last, rollups.kept)
    return [estimates] if stale is None else [stale, estimates]
