"""Finds the datasets that jobs made, by the name and for the caller, in the one place that knows: the jobs.

A name means what the caller's job made that succeeded last under it. Only its owner has it, because the row policies of
the owner were applied when it was made. The query is planned again for whoever asks: where the definitions of the
source, or what the caller may see of it, are not what they were, the rows are no longer given out.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.fingerprint import fingerprint
from broker.domain.job import Job, JobState
from broker.domain.materialised import Materialised
from broker.domain.model import Dataset
from broker.domain.request import CallContext
from broker.domain.work import JobAsk, MaterializeWork
from broker.jobs.materialise import source_plan
from broker.pipeline.catalog import Beside
from broker.pipeline.planner import Planner
from broker.policy.materialised import dataset_of
from broker.ports.clock import Clock
from broker.ports.jobs import JobStore

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MaterialisedDatasets:
    """The datasets of callers. ``decode`` reads the stored request of a job."""

    store: JobStore
    planner: Planner
    decode: Callable[[bytes], JobAsk]
    clock: Clock

    async def find(self, context: CallContext, names: Sequence[str]) -> Beside:
        """Those of the names that the caller has, each with its dataset or with why it cannot be had.

        Raises:
            BrokerError: STORE_UNAVAILABLE when the job database cannot be reached.
        """
        found: dict[str, Dataset | BrokerError] = {}
        for job in await self._jobs(context, names):
            name = job.result.dataset if job.result is not None else ""
            if name in self.planner.catalog.model.datasets:  # it came into the model later
                continue
            try:
                found[name] = self._dataset(job, context)
            except BrokerError as error:
                found[name] = error
        return found

    async def every(self, context: CallContext) -> Sequence[Dataset]:
        """All datasets that the caller can query, by name; none while the job database cannot be reached."""
        try:
            found = await self.find(context, ())
        except BrokerError as error:
            _LOG.warning("datasets that jobs made are not listed: %s", error)
            return ()
        datasets = [each for each in found.values() if isinstance(each, Dataset)]
        return sorted(datasets, key=lambda each: each.name)

    async def one(self, context: CallContext, name: str) -> Dataset | None:
        """The dataset with the name; None where there is none. Raises why it cannot be had."""
        found = (await self.find(context, [name])).get(name)
        if isinstance(found, BrokerError):
            raise found
        return found

    async def _jobs(self, context: CallContext, names: Sequence[str]) -> Sequence[Job]:
        principal = context.principal
        try:
            return await self.store.datasets(principal.tenant, principal.name, names)
        except BrokerError as error:
            if error.reason is not ErrorReason.STORE_REJECTED:
                raise
            _LOG.debug("no datasets of jobs: %s", error)  # without tables there are no jobs
            return ()

    def _dataset(self, job: Job, context: CallContext) -> Dataset:
        """What the job made, as the caller may see it."""
        result = job.result
        assert result is not None, "only jobs that succeeded made one"
        name, expires = result.dataset, result.expire_time
        if job.state is JobState.EXPIRED or expires is None or expires <= self.clock.now():
            text = (
                f"The dataset {name!r} was kept until its time was over, and is deleted. "
                f"Submit the job again, with a longer retention if need be: {job.name} has its query."
            )
            raise _gone(job, name, text)
        work = self.decode(job.spec).work
        assert isinstance(work, MaterializeWork), "the kind of the job says so"
        changed = (
            f"The dataset {name!r} cannot be read any more: the definition of its source "
            f"{work.query.dataset!r}, or what you may see of it, has changed. Submit the job again."
        )
        try:
            plan = source_plan(self.planner, work.query, replace(context, received=job.create_time), "query")
        except BrokerError as error:
            raise _gone(job, name, changed) from error
        status = result.status
        assert status is not None, "every export says what it is worth"
        if (
            fingerprint(plan.fingerprint, status.as_of) != status.answer_version
            or plan.columns != result.columns
        ):
            raise _gone(job, name, changed)
        made = Materialised(
            job=job.name,
            version=f"{job.id}.{job.fence}",
            columns=result.columns,
            parts=result.parts,
            inline=result.inline,
            row_count=result.row_count,
            byte_count=result.byte_count,
            status=status,
            expire_time=expires,
        )
        return dataset_of(name, plan, made)


def _gone(job: Job, name: str, text: str) -> BrokerError:
    metadata = {"dataset": name, "job": job.name}
    return BrokerError(ErrorReason.RESULT_EXPIRED, text, metadata=metadata, resource=f"datasets/{name}")
