"""Scenarios with many seeds and several cores, on several processes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

from broker.policy.admission.values import AdmissionCore
from broker.simulation.cores import CoreFactory, configuration_of, own_core
from broker.simulation.invariants import Checked
from broker.simulation.result import Result
from broker.simulation.rivals.catalog import RIVALS
from broker.simulation.run import simulate
from broker.simulation.scenario import Scenario

OWN = "broker"
"""The name of the broker's own core, beside those of rivals."""


@dataclass(frozen=True, slots=True)
class Job:
    """One run; with ``check`` the invariants are looked at after every event."""

    scenario: Scenario
    core: str
    seed: int
    check: bool = False


def factory(core: str) -> CoreFactory:
    """A core by name."""
    return own_core if core == OWN else RIVALS[core]


def run(job: Job) -> Result:
    """The result of one run.

    Raises:
        InvariantError: The core has broken a rule.
    """
    configuration = configuration_of(job.scenario, job.seed)

    def wrapped(core: AdmissionCore) -> AdmissionCore:
        return Checked(core, configuration) if job.check else core

    return simulate(job.scenario, job.seed, factory(job.core), wrap=wrapped)


def run_all(jobs: Sequence[Job], processes: int | None = None) -> list[tuple[Job, Result]]:
    """All results in the order of the jobs, on so many processes (None: one for each processor)."""
    count = min(len(jobs), processes or os.cpu_count() or 1)
    if count <= 1:
        return [(job, run(job)) for job in jobs]
    with ProcessPoolExecutor(count, get_context("spawn")) as pool:
        return list(zip(jobs, pool.map(run, jobs), strict=True))
