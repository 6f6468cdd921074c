"""Faults of everything at random moments: every answer is right or says in what it is not, and nothing is left over."""

from __future__ import annotations

import random

from tests.bench.parts.fault_place import broken

SEED, FAULTS, PACE = 7, 30, 0.08
"""Which faults come when; ``scripts/bench faults`` has many more, and other ones each time."""


async def test_every_answer_is_right_or_declared_through_faults_and_nothing_leaks() -> None:
    async with broken(random.Random(SEED)) as place:
        left = await place.play(FAULTS, PACE)
    load = place.load
    assert place.faults.count.total() >= FAULTS
    assert load.faults == []
    assert left == []
    assert not load.calm
    assert load.writer.ended, "rows were written meanwhile"
    assert load.answers >= FAULTS, "what was asked was answered, too"
