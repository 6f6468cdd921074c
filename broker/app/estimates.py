"""The rung of estimates over the open parts."""

from __future__ import annotations

from functools import partial

from broker.adapters.pg_samples import PgSamples
from broker.adapters.pg_store import PgStore
from broker.app.process import Process
from broker.pipeline.admitted import Seats
from broker.pipeline.estimated import Estimated
from broker.pipeline.known_seals import Known
from broker.ports.aggregator import Aggregator
from broker.rollups.kept_samples import KeptSamples

_SEEDS = 2**31
"""Seeds of samples are integers below this, which a double holds exactly."""


def estimated(
    store: PgStore,
    aggregator: Aggregator,
    seats: Seats,
    own: Process,
    sealed: Known,
    kept: KeptSamples | None = None,
) -> Estimated:
    """Estimates from samples of the store's tables, in the seats that ``seats`` gives, or from what is kept of them."""
    seeds = partial(own.random.randrange, _SEEDS)
    return Estimated(PgSamples(store), aggregator, seats, own.clock, seeds, sealed, kept)
