"""Decision logs of simulated brokers."""

from __future__ import annotations

from pathlib import Path

from broker.policy.admission.assemble import core_of
from broker.policy.admission.record import RecordingCore
from broker.policy.admission.values import AdmissionCore
from broker.simulation.cores import configuration_of
from broker.simulation.result import Result
from broker.simulation.run import simulate
from broker.simulation.scenario import Scenario


def record(path: Path, scenario: Scenario, seed: int) -> Result:
    """Runs a scenario with the core of a broker and writes its decision log."""
    with path.open("w", encoding="utf-8") as file:

        def wrap(core: AdmissionCore) -> AdmissionCore:
            return RecordingCore(core, configuration_of(scenario, seed), file.write)

        return simulate(scenario, seed, lambda configuration, _: core_of(configuration), wrap=wrap)
