"""Serving from rollups: the store of them, their local copies, the way to them, and an eye on what they cover."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta

from broker.adapters.pg_rollup_database import open_rollup_database
from broker.adapters.pg_rollup_schema import PgRollupSchema
from broker.adapters.pg_rollups import PgRollups
from broker.adapters.pg_store import PgStore
from broker.aggregation.executor import WorkerPools
from broker.app.behind import behind
from broker.app.kept_samples import kept_samples
from broker.app.process import Process
from broker.app.rollup_options import mirror_options, verify_options
from broker.config.settings import Settings
from broker.domain.deadline import Deadline
from broker.domain.model import Dataset, Model
from broker.domain.pool import PoolName
from broker.domain.rollup import ALWAYS, Rollup
from broker.pipeline.both import Twice
from broker.pipeline.execute import Noted
from broker.pipeline.known_seals import KnownSeals
from broker.pipeline.noted import RollupNotes
from broker.pipeline.rolled import Rolled
from broker.pipeline.routes import Router
from broker.pipeline.stale_rollup import StaleRollup
from broker.ports.aggregator import Aggregator
from broker.ports.clock import Clock
from broker.ports.store import QueryStore
from broker.rollups.kept_samples import KeptSamples
from broker.rollups.mirror import Mirror
from broker.rollups.mirror_follow import Follower
from broker.rollups.recall import Recall
from broker.rollups.verify import SelfVerification, idle
from broker.rollups.watch import Watch
from broker.runtime.admission import Admission

READ_SECONDS = 5.0
"""Time that one look at what is covered gets."""


@dataclass(frozen=True, slots=True)
class Rollups:
    """The parts; ``store`` and ``mirror`` are None where the model declares no rollups. ``answers`` counts theirs.

    ``sealed`` is what is known to be sealed. ``kept`` is None where no dataset is to have a sample.
    """

    router: Router
    sealed: KnownSeals
    rolled: Rolled
    store: PgRollups | None = None
    mirror: Mirror | None = None
    answers: Counter[tuple[str, str]] = field(default_factory=Counter)
    kept: KeptSamples | None = None


@asynccontextmanager
async def rollups(
    settings: Settings, model: Model, queries: PgStore, workers: WorkerPools, own: Process
) -> AsyncIterator[Rollups]:
    """The parts, open, with a watch on the rollups of the model, and the samples beside them."""
    samples = kept_samples(settings, model, queries, workers, own)
    async with samples as kept, _rollups(settings, model, queries, own) as parts:
        yield replace(parts, kept=kept)


@asynccontextmanager
async def _rollups(
    settings: Settings, model: Model, queries: QueryStore, own: Process
) -> AsyncIterator[Rollups]:
    router, sealed = Router(model), KnownSeals(own.clock.monotonic)
    datasets = [dataset for dataset in model.datasets.values() if dataset.rollups]
    if not datasets:
        yield Rollups(router, sealed, Rolled(None, sealed))
        return

    async def look(dataset: Dataset) -> None:
        began = own.clock.monotonic()
        async with queries.snapshot(PoolName.ADMIN, Deadline.after(READ_SECONDS, began)) as snapshot:
            found, _ = await snapshot.coverage(dataset, tuple(dataset.rollups.values()), ALWAYS)
        lag = snapshot.replica_lag or 0.0
        router.learn(dataset, found, snapshot.as_of - timedelta(seconds=lag))
        sealed.learn(dataset, found, began - lag)

    async with open_rollups(settings, model, own.clock) as store:
        options = mirror_options(settings)
        mirror = Mirror(options, store, own.clock, own.telemetry)
        await mirror.open()
        recall = Recall(options.directory, options.scope, datasets, own.clock)
        watch = Watch(datasets, look, own.random, lambda: recall.write(router.looks))
        follower = Follower(mirror, store, lambda: rollups_of(datasets), own.clock, own.random, own.telemetry)
        await watch.look()
        recalled = _recalled(recall, router, mirror, datasets)
        work = {"rollup watch": watch.run(), "mirror": follower.run(), "recall": recalled}
        try:
            async with behind(work):
                yield Rollups(router, sealed, Rolled(mirror, sealed), store, mirror)
        finally:
            await mirror.close()


async def _recalled(recall: Recall, router: Router, mirror: Mirror, datasets: Iterable[Dataset]) -> None:
    """Takes over what the last process saw of datasets that cannot be looked at yet, with the files that are here."""
    unseen = {dataset.name: dataset for dataset in datasets if dataset.name not in router.looks}
    for name, look in (await recall.read()).items() if unseen else ():
        if name not in unseen:
            continue
        router.recall(name, look)
        for rollup, segment in look.segments(unseen[name]):
            await mirror.adopt(rollup, segment)


def stale_rollup(parts: Rollups, aggregator: Aggregator, clock: Clock) -> StaleRollup | None:
    """The rung that answers from local segments without the database; None where the model declares no rollups."""
    if parts.mirror is None:
        return None
    return StaleRollup(parts.router, parts.mirror, parts.rolled, aggregator, clock)


@asynccontextmanager
async def verifying(
    parts: Rollups,
    settings: Settings,
    queries: QueryStore,
    aggregator: Aggregator,
    admission: Admission,
    own: Process,
) -> AsyncIterator[Noted]:
    """Notes answers; some of those that rollups have a part in are computed again from the source, in idle seats."""
    if parts.store is None:
        yield RollupNotes(own.telemetry, parts.answers, lambda _: None)
        return
    twice = Twice(queries, parts.rolled, aggregator, admission, itertools.count())
    verification = SelfVerification(
        twice,
        parts.store,
        lambda: idle(admission.loads(), twice.pool),
        verify_options(settings),
        own.clock,
        own.random,
        own.telemetry,
    )
    async with behind({"rollup verification": verification.run()}):
        yield RollupNotes(own.telemetry, parts.answers, verification.offer)


def rollups_of(datasets: Iterable[Dataset]) -> Iterator[tuple[Dataset, Rollup]]:
    """All rollups, each with its dataset."""
    for dataset in datasets:
        for rollup in dataset.rollups.values():
            yield dataset, rollup


@asynccontextmanager
async def open_rollups(settings: Settings, model: Model, clock: Clock) -> AsyncIterator[PgRollups]:
    """The store of rollups, on connections of its own."""
    async with open_rollup_database(settings.database.dsn) as database:
        yield PgRollups(database, PgRollupSchema(database), model.datasets, clock)
