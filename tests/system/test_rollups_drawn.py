"""Rollups of datasets that are drawn at random answer as their tables do, through random changes of rows and of
what the tables are, refreshes and seals.

A failure names the seed; the environment variable DRAWN_SEED asks for other datasets, DRAWN_QUESTIONS for more of them.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest
from google.protobuf import text_format

from tests.conftest import FreshDatabase
from tests.oracle.choosing import Seeded
from tests.oracle.zones import micros
from tests.support.drawn.asking import Tally, compare
from tests.support.drawn.models import DrawnDataset, draw
from tests.support.drawn.place import DrawnPlace, drawn_place
from tests.support.drawn.sealing import ask, judge
from tests.support.drawn.space import DrawnSpace

SEED = int(os.environ.get("DRAWN_SEED", "4"))
QUESTIONS = int(os.environ.get("DRAWN_QUESTIONS", "15"))
"""Of each dataset in each state."""
DATASETS = 5
SEALED = 2
"""Datasets in which partitions are sealed."""
REPORTS = 3
Drawn = tuple[DrawnDataset, DrawnSpace]


@pytest.fixture
async def place(fresh_database: FreshDatabase, tmp_path: Path) -> AsyncIterator[DrawnPlace]:
    """The datasets of the seed."""
    random = Random(SEED)
    drawn = [draw(random, f"d{i}") for i in range(DATASETS)]
    async with drawn_place(await fresh_database(), tmp_path, drawn, random) as made:
        yield made


async def test_drawn_rollups_answer_as_their_tables_do(place: DrawnPlace) -> None:
    random, chooser, tally = Random(SEED), Seeded(SEED), Tally()
    drawn = [(each, DrawnSpace.of(each, micros(datetime.now(UTC)))) for each in place.datasets]
    unbuilt = await _change(place, drawn, random, chooser, tally)
    rolled = sum(tally.kinds.values())
    drawn = random.sample(drawn, DATASETS)
    await _seal(place, drawn[:SEALED], random, chooser, tally)
    back = await _alter(place, drawn[SEALED:], random, chooser, tally)
    shown = [f"{text_format.MessageToString(query)}{what}" for query, what in tally.wrong[:REPORTS]]
    assert not tally.wrong, "\n\n".join([f"seed {SEED}: {len(tally.wrong)} of {tally.compared}", *shown])
    assert rolled > DATASETS * QUESTIONS, f"hardly anything was answered by rollups: {tally} {unbuilt}"
    assert back, f"no rollup came back after what the tables are had changed: {tally}"


async def _change(
    place: DrawnPlace, drawn: Sequence[Drawn], random: Random, chooser: Seeded, tally: Tally
) -> list[str]:
    """Changes rows and refreshes in turns; the rollups that cannot be refreshed."""
    unbuilt: list[str] = []
    for state in ("built", "changed", "refreshed", "changed again"):
        if state in ("built", "refreshed"):
            unbuilt = await place.refresh()  # values may be too odd for some
        else:
            for dataset, _ in drawn:
                await place.change(random, dataset)
        for _, space in drawn:
            queries = [space.query(chooser) for _ in range(QUESTIONS)]
            own = len(queries) * 2 // 5
            await compare(place.client, space.model, queries[own:], tally)
            await compare(place.limited, space.model, queries[:own], tally)
    await place.refresh()
    return unbuilt


async def _seal(
    place: DrawnPlace, drawn: Sequence[Drawn], random: Random, chooser: Seeded, tally: Tally
) -> None:
    """Deletes rows of sealed partitions: what is answered stays as it was."""
    for dataset, space in drawn:
        queries = [space.query(chooser) for _ in range(QUESTIONS)]
        before = await ask(place.client, queries, rollup="forbid")
        gone = await place.seal(random, dataset)
        if not gone:
            continue
        await place.until_sealed(dataset)
        for statement in gone:
            await place.connection.execute(statement)
        for refreshed in (False, True):
            if refreshed:
                await place.refresh()
            for partial in ("forbid", "allow"):
                after = await ask(place.client, queries, partial=partial)
                judge(space.model, queries, before, after, tally, partial=partial == "allow")


async def _alter(
    place: DrawnPlace, drawn: Sequence[Drawn], random: Random, chooser: Seeded, tally: Tally
) -> int:
    """Changes partitions, columns and triggers, and rows that no trigger tells of; how much rollups answer afterwards.

    A rollup whose source is not what it was built for is not used until it is installed and built again.
    """
    rolled = 0
    for state in ("altered", "installed", "refreshed"):
        if state == "altered":
            for dataset, _ in drawn:
                await place.alter(random, dataset)
        elif state == "installed":
            await place.install()
        else:
            await place.refresh()
        before = sum(tally.kinds.values())
        for _, space in drawn:
            await compare(place.client, space.model, [space.query(chooser) for _ in range(QUESTIONS)], tally)
        rolled = sum(tally.kinds.values()) - before
    return rolled
