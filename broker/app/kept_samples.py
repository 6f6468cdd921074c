"""Samples beside the segments: opened, kept up, closed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from broker.adapters.pg_sample_rows import PgSampleSources
from broker.adapters.pg_store import PgStore
from broker.aggregation.executor import WorkerPools
from broker.app.behind import behind
from broker.app.process import Process
from broker.app.rollup_options import mirror_options
from broker.config.settings import Settings
from broker.domain.model import Model
from broker.rollups.kept_samples import KeptSamples, SampleFiles
from broker.rollups.sample_keeper import SampleKeeper


@asynccontextmanager
async def kept_samples(
    settings: Settings, model: Model, store: PgStore, workers: WorkerPools, own: Process
) -> AsyncIterator[KeptSamples | None]:
    """The samples, drawn again when they are due; None where the model asks for none."""
    datasets = [dataset for dataset in model.datasets.values() if dataset.sample_blocks]
    if not datasets:
        yield None
        return
    options = mirror_options(settings)
    files = SampleFiles(options.directory, options.scope)
    samples = KeptSamples(workers)
    for dataset in datasets:  # those of the last process, for a start without the database
        found = await asyncio.to_thread(files.read, dataset)
        if found is not None:
            samples.put(dataset, found)
    keeper = SampleKeeper(datasets, PgSampleSources(store), files, samples, workers, own.clock, own.random)
    async with behind({"kept samples": keeper.run()}):
        yield samples
