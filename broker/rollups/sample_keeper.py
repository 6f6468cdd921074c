"""Keeps samples: draws them again when they are due, and takes over what other processes of the host have drawn."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from contextlib import aclosing
from random import Random

from broker.domain.deadline import Deadline
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.model import Dataset
from broker.domain.plan import Block, CsvBlock, ScanResult
from broker.domain.pool import PoolName
from broker.domain.sample import Draw, NoEstimate
from broker.domain.values import ResultFormat
from broker.policy.estimate_design import PILOT
from broker.policy.estimate_kept import kept_finish
from broker.ports.aggregator import Aggregator
from broker.ports.clock import Clock
from broker.ports.samples import SampleSource, SampleSources
from broker.rollups.kept_samples import Kept, KeptSamples, SampleFiles

MOST_BYTES = 128 << 20
"""Rows of one draw, as the database sends them; a sample that would have more is not kept."""
SECONDS = 60.0
"""Time that drawing a sample gets."""
_SOON = 5.0
"""Least seconds between two looks at a dataset."""
_SEEDS = 2**31
_LOG = logging.getLogger(__name__)


class SampleKeeper:
    """Keeps the samples of datasets that are to have one."""

    def __init__(
        self,
        datasets: Iterable[Dataset],
        sources: SampleSources,
        files: SampleFiles,
        samples: KeptSamples,
        aggregator: Aggregator,
        clock: Clock,
        random: Random,
    ) -> None:
        self._datasets = [dataset for dataset in datasets if dataset.sample_blocks]
        self._sources, self._files, self._samples = sources, files, samples
        self._aggregator, self._clock, self._random = aggregator, clock, random

    async def run(self) -> None:
        """Goes on until it is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for dataset in self._datasets:
                tasks.create_task(self._keep(dataset))

    async def look(self, dataset: Dataset) -> float:
        """Takes over or draws a sample where that is due; the seconds until the next look.

        Raises:
            BrokerError: The database or a worker failed.
            OSError: The files cannot be written.
        """
        found = await asyncio.to_thread(self._files.read, dataset)
        left = self._left(dataset, found)
        if left <= 0:
            found = await self.draw(dataset)
            left = dataset.sample_every
        if found is not None:
            self._samples.put(dataset, found)
        return max(_SOON, left * self._random.uniform(1.0, 1.1))

    async def draw(self, dataset: Dataset) -> Kept | None:
        """Draws a sample now; None where there is nothing to draw, or too much to keep. Raises as :meth:`look` does."""
        deadline = Deadline.after(SECONDS, self._clock.monotonic())
        async with self._sources.source(PoolName.ADMIN, dataset, deadline) as source:
            blocks = await source.blocks()
            if isinstance(blocks, NoEstimate) or blocks < 2 * PILOT:
                return None
            parts: list[tuple[bytes, int, int]] = []
            for wanted in (PILOT, dataset.sample_blocks):
                draw = Draw(min(0.5, wanted / blocks), self._random.randrange(_SEEDS))
                drawn = await source.drawn(draw)
                rows = await _collected(source, draw)
                results = (ScanResult(rows),)
                table = await self._aggregator.table(
                    PoolName.EXPLORATION, results, kept_finish(dataset), ResultFormat.ARROW, deadline
                )
                parts.append((table.encoded, blocks, drawn))
        return await asyncio.to_thread(self._files.write, dataset, source.as_of, parts)

    async def _keep(self, dataset: Dataset) -> None:
        while True:
            try:
                wait = await self.look(dataset)
            except (BrokerError, OSError) as error:
                _LOG.warning("no new sample of %s: %s", dataset.name, error)
                wait = min(60.0, dataset.sample_every)
            except Exception:  # noqa: BLE001 - a fault here must not end the samples of all datasets unseen
                _LOG.exception("no new sample of %s", dataset.name)
                wait = min(60.0, dataset.sample_every)
            await asyncio.sleep(wait)

    def _left(self, dataset: Dataset, found: Kept | None) -> float:
        if found is None:
            return 0.0
        return dataset.sample_every - (self._clock.now() - found.as_of).total_seconds()


async def _collected(source: SampleSource, draw: Draw) -> tuple[Block, ...]:
    """The rows of a draw. Raises BrokerError RESULT_TOO_LARGE."""
    rows: list[Block] = []
    size = 0
    async with aclosing(source.rows(draw)) as blocks:
        async for block in blocks:
            size += len(block.data) if isinstance(block, CsvBlock) else 0
            if size > MOST_BYTES:
                text = f"A sample has more than {MOST_BYTES} bytes. Lower `sample.blocks` of the dataset."
                raise BrokerError(ErrorReason.RESULT_TOO_LARGE, text)
            rows.append(block)
    return tuple(rows)
