"""The rollups of a broker as operators see them."""

from __future__ import annotations

from broker.app.rollups import Rollups
from broker.domain.model import Model
from broker.domain.pool import PoolName
from broker.domain.rollup import Rollup
from broker.ports.aggregator import Aggregator
from broker.ports.store import QueryStore
from broker.rollups.examine import Examiner
from broker.rollups.seats import rollup_seats
from broker.rollups.service import RollupService
from broker.runtime.admission import Admission


def rollup_admin(
    model: Model, rollups: Rollups, store: QueryStore, aggregator: Aggregator, admission: Admission
) -> RollupService | None:
    """What operates the rollups; None where the model declares none."""
    if rollups.store is None:
        return None
    pool = PoolName.EXPLORATION
    examiner = Examiner(store, rollups.rolled, aggregator, rollup_seats(admission, pool), pool)

    def answers(rollup: Rollup) -> int:
        return rollups.answers[rollup.dataset, rollup.name]

    return RollupService(model.datasets, rollups.store, examiner.examine, answers)
