"""Exports and reports are never short in silence of rows that were sealed and dropped."""

from __future__ import annotations

import pickle
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from broker.domain.answer import Exactness, Interval
from broker.domain.deadline import Deadline
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.job import Job, JobState
from broker.domain.model import Dataset
from broker.domain.plan import Plan, Rows
from broker.domain.principal import Principal
from broker.domain.query import AbsoluteRange, Query, TimeSelection
from broker.domain.request import CallContext
from broker.domain.rollup import Coverage, Rollup, Rule, Span, micros
from broker.domain.terms import AnswerPolicy, PartialMode
from broker.domain.work import ExportWork, JobAsk, ReportSection, ReportWork
from broker.jobs.export import ExportKind
from broker.jobs.kind import JobContext
from broker.jobs.order import Done
from broker.jobs.report import ReportKind
from broker.jobs.sources import Sources, reading_of
from broker.policy.resolve import resolve_query
from tests.support.datasets import flights
from tests.support.exports import no_sql
from tests.support.segments import BY_CARRIER, HandClock

NOW = datetime(2030, 1, 1, tzinfo=UTC)
JANUARY = datetime(2013, 1, 1, tzinfo=UTC), datetime(2013, 2, 1, tzinfo=UTC)
SEALED = Span(*map(micros, JANUARY))
LATER = datetime(2013, 2, 1, tzinfo=UTC), datetime(2013, 3, 1, tzinfo=UTC)


class Snapshot:
    """Says that the first month is sealed; counts what is read."""

    as_of, replica_lag = NOW, None

    def __init__(self) -> None:
        self.read = 0

    async def coverage(
        self, _: Dataset, rollups: Sequence[Rollup], __: Span
    ) -> tuple[tuple[Coverage, ...], str]:
        return tuple(Coverage(each.name, unusable=Rule.DEF, sealed=(SEALED,)) for each in rollups), ""

    async def stream(self, _: Plan) -> AsyncGenerator[Rows, None]:
        self.read += 1
        yield Rows((), ())


class Place:
    """The store, the children and the result store of an attempt, as far as an export uses them."""

    def __init__(self) -> None:
        self.reading = Snapshot()
        self.directory = Path()

    @asynccontextmanager
    async def snapshot(self, *_: object) -> AsyncIterator[Snapshot]:
        yield self.reading

    async def estimate(self, *_: object) -> None:
        raise BrokerError(ErrorReason.STORE_UNAVAILABLE, "nobody knows")

    @asynccontextmanager
    async def stage(self, _: str) -> AsyncIterator[Place]:
        yield self

    @asynccontextmanager
    async def child(self, *_: object) -> AsyncIterator[Place]:
        yield self

    async def send(self, _: object) -> None:
        """It is written."""

    async def receive(self) -> Done:
        return Done(1, 0, 1)


def plan(query: Query, context: CallContext, path: str) -> Plan:
    dataset = replace(flights(), rollups={BY_CARRIER.name: BY_CARRIER})
    return resolve_query(query, dataset, Principal("ada", "acme"), NOW)


def asked(bounds: tuple[datetime, datetime] | None) -> Query:
    time = TimeSelection(range=AbsoluteRange(*bounds)) if bounds is not None else None
    return Query("flights", ("flights",), ("carrier",), time=time)


def job(ask: JobAsk) -> Job:
    return Job("1", "acme", "ada", "export", pickle.dumps(ask), JobState.RUNNING, "r", 0, 1, 1, 3, NOW, NOW)


@pytest.mark.parametrize("kind", [ExportKind, ReportKind])
async def test_it_is_refused_before_anything_is_read(kind: type[ExportKind | ReportKind]) -> None:
    place: Any = Place()
    query = asked(JANUARY)
    work = ExportWork(query) if kind is ExportKind else ReportWork((ReportSection("a", query),))
    made = kind(Sources(plan, no_sql), place, pickle.loads, HandClock())
    ask = JobAsk(work, AnswerPolicy(), "", b"", "", path="spec")
    with pytest.raises(BrokerError) as caught:
        await made.run(JobContext(job(ask), Deadline(2000.0), place, place, lambda _: None))
    assert (caught.value.reason, caught.value.metadata["rule"]) == (ErrorReason.POLICY_UNSATISFIABLE, "SEAL")
    assert place.reading.read == 0


async def test_who_accepts_incomplete_answers_is_told_what_may_be_missing() -> None:
    place: Any = Place()
    kind = ExportKind(Sources(plan, no_sql), place, pickle.loads, HandClock())
    policy = AnswerPolicy(partial=PartialMode.ALLOW)
    ask = JobAsk(ExportWork(asked(JANUARY)), policy, "", b"", "", path="spec")
    result = await kind.run(JobContext(job(ask), Deadline(2000.0), place, place, lambda _: None))
    assert result.status is not None
    assert result.status.exactness is Exactness.PARTIAL
    assert result.status.sealed_intervals == (Interval(*JANUARY),)


async def test_a_range_beside_it_is_whole() -> None:
    snapshot: Any = Snapshot()
    source = plan(asked(LATER), None, "")  # type: ignore[arg-type] # nobody looks at the call
    assert (await reading_of(snapshot, [source], AnswerPolicy())).seals == {
        "flights": {"time_hour": (SEALED,)}
    }
