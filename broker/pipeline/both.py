"""Answers a question twice in one snapshot, from rollups and from the tables, so that the two can be compared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from broker.domain.deadline import Deadline
from broker.domain.pool import PoolName
from broker.domain.principal import Criticality
from broker.pipeline.rolled import Rolled
from broker.pipeline.sealed import missing
from broker.pipeline.seen import Seen
from broker.pipeline.stage import Question
from broker.policy.admission.values import AdmissionRequest, Outcome
from broker.ports.aggregator import Aggregator
from broker.ports.rollups import BothWays
from broker.ports.store import QueryStore
from broker.runtime.admission import Admission

TENANT = "querybroker"
"""Whose work comparisons are."""


@dataclass(frozen=True, slots=True)
class Twice:
    """The comparer. It takes a seat of ``pool``, as the first that is shed when there is a queue."""

    store: QueryStore
    rolled: Rolled
    aggregator: Aggregator
    admission: Admission
    ids: Iterator[int]
    pool: PoolName = PoolName.EXPLORATION

    async def __call__(self, question: Question, deadline: Deadline) -> BothWays | None:
        """Both answers compared; None when rollups have no part in it any more.

        Raises:
            BrokerError: What the store, the workers or the admission refuse with.
        """
        request = AdmissionRequest(
            id=f"verify/{next(self.ids)}",
            tenant=TENANT,
            pool=self.pool,
            deadline_at=deadline.at,
            criticality=Criticality.SHEDDABLE,
            predicted=(question.live or question.classified).quantiles,
        )
        async with self.admission.permit(request) as permit:
            found = await self._compared(question, deadline)
            permit.close(Outcome.SUCCESS)
        return found

    async def _compared(self, question: Question, deadline: Deadline) -> BothWays | None:
        plan = question.plan
        async with self.store.snapshot(self.pool, deadline) as snapshot:
            seen = Seen(snapshot)
            if missing(plan, await seen.seals(plan.main.dataset)):
                return None  # rows of partitions that were sealed may be gone: they would differ from a right rollup
            reading = await self.rolled.read(snapshot, question, seen, deadline)
            sources = reading.sources(snapshot.as_of, snapshot.replica_lag)
            if not sources.used:
                return None
            finish = replace(plan.finish, pushed_down=False)
            live = tuple([await snapshot.read_scan(scan, finish) for scan in plan.scans])
        comparison = await self.aggregator.compare(self.pool, reading.results, live, finish, deadline)
        rollups = tuple(plan.main.dataset.rollups[name] for name in sources.used)
        spans = tuple(span for cover in sources.covers for piece in cover.rollups for span in piece.spans)
        return BothWays(comparison, rollups, spans, exact=sources.lateness is None)
