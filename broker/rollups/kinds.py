"""The kinds of job ``rollup_build`` and ``rollup_refresh``. An attempt goes on where the one before it ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from broker.domain.answer import Interval
from broker.domain.deadline import Deadline
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.job import Job, JobProgress, JobResult
from broker.domain.model import Dataset
from broker.domain.request import CallContext
from broker.domain.rollup import ALWAYS, FAR_FUTURE, FAR_PAST, Rollup, Span, Storage, instant, micros
from broker.domain.work import JobAsk, RollupBuildWork, RollupRefreshWork
from broker.rollups.refresh import Refresher, Refreshing, RefreshProgress

BUILD, REFRESH = "rollup_build", "rollup_refresh"
GRANT = "admin"
BUSY_SECONDS = 5.0
"""Pause before partitions are looked at again that other refreshers had."""


class Attempt(Protocol):
    """What the kinds use of an attempt's context."""

    @property
    def job(self) -> Job:
        """The job."""
        ...

    @property
    def deadline(self) -> Deadline:
        """When the attempt has to be over."""
        ...

    @property
    def report(self) -> Callable[[JobProgress], None]:
        """Tells how far the attempt is."""
        ...


@dataclass(frozen=True, slots=True)
class RollupChecks:
    """What the submission of such a job is checked by."""

    datasets: Mapping[str, Dataset]

    async def check(self, context: CallContext, ask: JobAsk) -> None:
        """Raises PERMISSION_DENIED, or ROLLUP_NOT_FOUND."""
        if not context.principal.has(GRANT):
            text = f"The grant {GRANT!r} is needed to build rollups. Ask the operator."
            raise BrokerError(ErrorReason.PERMISSION_DENIED, text, metadata={"grant": GRANT})
        find(self.datasets, ask)


@dataclass(frozen=True, slots=True)
class RollupKind:
    """Builds what was built before the job was submitted, and what is missing; or refreshes what has changed.

    ``decode`` reads the stored request.
    """

    name: str
    datasets: Mapping[str, Dataset]
    refresher: Refresher
    decode: Callable[[bytes], JobAsk]

    async def run(self, context: Attempt) -> JobResult:
        """Goes through the partitions until none is left; those of others are waited for."""
        job, ask = context.job, self.decode(context.job.spec)
        dataset, rollup, interval = find(self.datasets, ask)
        rebuild = job.create_time if self.name == BUILD else None
        asked = Refreshing(span=_span(interval), rebuild=rebuild)
        told = _Told(context.report)
        context.report(JobProgress("planning"))
        while True:
            made = await self.refresher.refresh(dataset, rollup, context.deadline, asked, told.tell)
            told.passed(made.progress)
            if not made.progress.busy:
                break
            context.report(
                JobProgress("waiting", message="Other refreshers have the partitions that are left.")
            )
            await asyncio.sleep(BUSY_SECONDS)
        context.report(JobProgress("done", 1.0, told.rows, told.rows, told.size))
        return JobResult(row_count=told.rows, byte_count=told.size)


def stored(datasets: Mapping[str, Dataset]) -> dict[str, Dataset]:
    """The datasets with rollups that the broker stores itself; where there are none, nothing is built."""
    return {
        name: dataset
        for name, dataset in datasets.items()
        if any(rollup.storage is not Storage.EXTERNAL for rollup in dataset.rollups.values())
    }


def find(datasets: Mapping[str, Dataset], ask: JobAsk) -> tuple[Dataset, Rollup, Interval | None]:
    """The rollup that is asked for. Raises ROLLUP_NOT_FOUND."""
    work = ask.work
    assert isinstance(work, RollupBuildWork | RollupRefreshWork), "the kinds are registered by name"
    dataset = datasets.get(work.dataset)
    rollup = dataset.rollups.get(work.rollup) if dataset is not None else None
    if dataset is None or rollup is None:
        name = f"datasets/{work.dataset}/rollups/{work.rollup}"
        known = ", ".join(sorted(dataset.rollups)) if dataset is not None else ""
        hint = f" The dataset has: {known}." if known else ""
        text = f"There is no rollup {name!r}.{hint}"
        raise BrokerError(ErrorReason.ROLLUP_NOT_FOUND, text, metadata={"rollup": name}, resource=name)
    return dataset, rollup, work.interval


class _Told:
    """Progress in partitions, as that of a job; the counts of earlier passes are added."""

    def __init__(self, report: Callable[[JobProgress], None]) -> None:
        self._report = report
        self.rows = self.size = self.partitions = 0

    def tell(self, now: RefreshProgress) -> None:
        """Something has happened."""
        done, total = self.partitions + now.done, self.partitions + now.total
        span = now.span
        self._report(
            JobProgress(
                phase=now.step.value if now.step is not None else "refreshing",
                fraction=min(0.99, done / total) if total else None,
                row_count=self.rows + now.row_count,
                byte_count=self.size + now.byte_count,
                message=f"{done} of {total} partitions",
                interval=None if span is None else Interval(instant(span.lo), instant(span.hi)),
            )
        )

    def passed(self, end: RefreshProgress) -> None:
        """All partitions were gone through."""
        self.partitions += end.done
        self.rows += end.row_count
        self.size += end.byte_count


def _span(interval: Interval | None) -> Span:
    if interval is None:
        return ALWAYS
    lo = FAR_PAST if interval.start is None else micros(interval.start)
    return Span(lo, FAR_FUTURE if interval.end is None else micros(interval.end))
