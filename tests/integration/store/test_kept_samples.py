"""Samples that are kept in files, and what they tell while the database is away."""

from __future__ import annotations

import asyncio
import os
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from random import Random

from broker.adapters.pg_sample_rows import PgSampleSources
from broker.adapters.pg_samples import PgSamples
from broker.adapters.pg_store import PgStore
from broker.domain.answer import Answer, AnswerKind, LadderStep, Verdict
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.model import Dataset, RowPolicy
from broker.domain.pool import PoolName
from broker.domain.principal import Principal
from broker.domain.query import Grain, Query, TimeSelection
from broker.domain.sample import NoEstimate
from broker.pipeline.drawing import Asked, draw
from broker.pipeline.estimated import Estimated
from broker.policy.estimate_figures import figures
from broker.rollups.kept_samples import KeptSamples, SampleFiles
from broker.rollups.sample_keeper import SampleKeeper
from tests.integration.store.conftest import CLOCK, in_time
from tests.support.estimates import OWN, Inline, group_of, nothing_sealed, plan_of, truth
from tests.support.samples import DAYS, KIND, clustered, days, events, uniform

REGIONAL = RowPolicy(
    "own region", "shops.region = {attributes.region}", ("shops",), terms=(("region", "attributes.region"),)
)
KEPT = replace(events(), sample_blocks=600)
SECOND = Principal("bo", "acme", attributes={"region": "region 1", "shop": "3"})


def keeper_of(store: PgStore, dataset: Dataset, folder: Path, samples: KeptSamples) -> SampleKeeper:
    sources, files = PgSampleSources(store), SampleFiles(folder, "test")
    return SampleKeeper([dataset], sources, files, samples, Inline(), CLOCK, Random(5))  # type: ignore[arg-type] # of the aggregator only this is used


KEPT_QUESTIONS: list[tuple[Query, tuple[RowPolicy, ...]]] = [
    (uniform("events", "revenue", "per_piece"), ()),
    (clustered("pieces", "mean_amount", first=20, count=60), ()),
    (Query("events", ("pieces",), ("region",), filter=KIND), ()),
    (Query("events", ("events",), time=TimeSelection(range=days(0, DAYS).range, grain=Grain.MONTH)), ()),
    (Query("events", ("events", "mean_amount")), (REGIONAL,)),
]


async def test_kept_samples_hold_the_exact_values(events_store: PgStore, tmp_path: Path) -> None:
    samples = KeptSamples(Inline())
    keeper = keeper_of(events_store, KEPT, tmp_path, samples)
    plans = [plan_of(q, replace(KEPT, row_policies=policies), SECOND) for q, policies in KEPT_QUESTIONS]
    exact = [await truth(events_store, plan) for plan in plans]
    held = said = 0
    for _ in range(2):
        kept = await keeper.draw(KEPT)
        assert kept is not None
        samples.put(KEPT, kept)
        for plan, values in zip(plans, exact, strict=True):
            async with samples.table(PoolName.DASHBOARD, plan, in_time()) as table:
                found = await draw(table, Asked(figures(plan), 0.25, in_time()), lambda: 1, CLOCK)
            assert not isinstance(found, NoEstimate), plan.query
            for key, limits in found[0].groups.items():
                for each, value in zip(limits, values[key], strict=True):
                    said += 1
                    held += each.lower <= value <= each.upper
    assert said > 20
    assert held / said >= 0.8


async def test_what_killed_processes_left_is_removed(events_store: PgStore, tmp_path: Path) -> None:
    keeper = keeper_of(events_store, KEPT, tmp_path, KeptSamples(Inline()))
    first = await keeper.draw(KEPT)
    assert first is not None
    name = Path(first.pilot.path).name.partition("-")[0]
    old, young, other = (tmp_path / f"{name}-a.0.x", tmp_path / f"{name}-b.0.x", tmp_path / "other-a.0.x")
    for path in (old, young, other):
        path.write_bytes(b"")
    for path in (old, other):
        os.utime(path, (0, 0))
    second = await keeper.draw(KEPT)
    assert second is not None
    left = {Path(second.pilot.path), Path(second.main.path), tmp_path / f"{name}.sample.json", young, other}
    assert set(await asyncio.to_thread(lambda: list(tmp_path.iterdir()))) == left


async def test_a_kept_sample_answers_while_the_database_is_away(
    events_store: PgStore, tmp_path: Path
) -> None:
    def away(_: object) -> AbstractAsyncContextManager[object]:
        raise BrokerError(ErrorReason.STORE_UNAVAILABLE, "away")

    samples = KeptSamples(Inline())
    keeper = keeper_of(events_store, KEPT, tmp_path, samples)
    rung = Estimated(PgSamples(events_store), Inline(), away, CLOCK, lambda: 1, nothing_sealed, samples)  # type: ignore[arg-type] # as above
    group = group_of(plan_of(uniform("events"), KEPT))
    (question,) = group.questions
    step = await rung.answer(question, group, group.context.deadline)
    assert isinstance(step, LadderStep)
    assert (step.verdict, step.codes) == (Verdict.FAILED, ("STORE_UNAVAILABLE",))
    assert await keeper.look(KEPT) >= KEPT.sample_every
    kept = samples.get(KEPT)
    assert kept is not None
    answer = await rung.answer(question, group, group.context.deadline)
    assert isinstance(answer, Answer)
    assert (answer.status.kind, answer.status.as_of) == (AnswerKind.ESTIMATE, kept.as_of)
    assert answer.status.parts[0].source_name == "kept sample"
    refused = group_of(plan_of(uniform("events"), replace(KEPT, row_policies=(OWN,))))
    step = await rung.answer(refused.questions[0], refused, refused.context.deadline)
    assert isinstance(step, LadderStep)
    assert step.codes == (NoEstimate.NOT_KEPT.value,)

    other = KeptSamples(Inline())  # of another process, which finds it young enough
    await keeper_of(events_store, KEPT, tmp_path, other).look(KEPT)
    assert other.get(KEPT) == kept
    files = SampleFiles(tmp_path, "test")
    assert files.read(replace(KEPT, version="other")) is None
    await keeper.draw(KEPT)
    assert len(await asyncio.to_thread(lambda: list(tmp_path.iterdir()))) == 3  # those of the first are gone
    gone = await rung.answer(question, group, group.context.deadline)
    assert isinstance(gone, LadderStep)
    assert gone.verdict is Verdict.FAILED


async def test_what_cannot_be_kept_is_not(events_store: PgStore, tmp_path: Path) -> None:
    for table in ("few", "nothing", "seen"):
        dataset = replace(events(table), sample_blocks=500)
        assert await keeper_of(events_store, dataset, tmp_path, KeptSamples(Inline())).draw(dataset) is None
