"""How an estimate comes about: a pilot, the decision, a sample, and what that tells."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from broker.domain.deadline import Deadline
from broker.domain.sample import BlockSums, Draw, Figure, NoEstimate
from broker.policy.estimate_design import Pace, Told, design, pilot_rate, told, worth_it
from broker.ports.clock import Clock
from broker.ports.samples import SampledTable

SPEND = 0.6
"""Part of the time that is left after the pilot that the sample may take by what the pilot took."""

Seeds = Callable[[], int]
"""Fresh seeds of samples."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be estimated: the figures, within a relative half-width of ``limit``.

    ``live`` is what the exact answer takes, in seconds, if it is known.
    """

    figures: tuple[Figure, ...]
    limit: float
    deadline: Deadline
    live: float | None = None


async def draw(
    table: SampledTable, asked: Asked, seeds: Seeds, clock: Clock
) -> tuple[Told, BlockSums] | NoEstimate:
    """A pilot, the sample that it asks for, and what that tells. Raises BrokerError."""
    extent = await table.extent()
    if isinstance(extent, NoEstimate):
        return extent
    rate = pilot_rate(extent)
    if isinstance(rate, NoEstimate):
        return rate
    first = Draw(rate, seeds())
    cost = await table.cost(first)
    if not worth_it(extent, cost):
        return NoEstimate.EXACT_CHEAPER
    began = clock.monotonic()
    pilot = await table.read(first)
    if isinstance(pilot, NoEstimate):
        return pilot
    now = clock.monotonic()
    pace = Pace(cost, now - began, SPEND * asked.deadline.remaining(now), asked.live)
    # Thousands of groups take some hundred milliseconds, in which the loop goes on.
    drawing = await asyncio.to_thread(design, asked.figures, pilot, extent, asked.limit, pace)
    if isinstance(drawing, NoEstimate):
        return drawing
    sample = await table.read(Draw(drawing.rate, seeds()))
    if isinstance(sample, NoEstimate):
        return sample
    found = await asyncio.to_thread(told, asked.figures, sample, drawing, asked.limit)
    return (found, sample) if found.groups else NoEstimate.TOO_THIN
