"""Decision logs of simulated brokers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from broker.policy.admission.assemble import core_of
from broker.policy.admission.events import Configuration
from broker.policy.admission.observed import ObservedCore
from broker.policy.admission.record import encode, encode_header
from broker.policy.admission.values import AdmissionCore
from broker.simulation.cores import configuration_of
from broker.simulation.result import Result
from broker.simulation.run import simulate
from broker.simulation.scenario import Scenario


class RecordingCore(ObservedCore):
    """An :class:`AdmissionCore` that writes down what another is told and decides.

    ``write`` is given one line at a time, in the order of events, and must not block; the head of the log is written
    at once.
    """

    def __init__(
        self, core: AdmissionCore, configuration: Configuration, write: Callable[[str], object]
    ) -> None:
        super().__init__(core, lambda entry: write(encode(entry)))
        write(encode_header(configuration))


def record(path: Path, scenario: Scenario, seed: int) -> Result:
    """Runs a scenario with the core of a broker and writes its decision log."""
    with path.open("w", encoding="utf-8") as file:

        def wrap(core: AdmissionCore) -> AdmissionCore:
            return RecordingCore(core, configuration_of(scenario, seed), file.write)

        return simulate(scenario, seed, lambda configuration, _: core_of(configuration), wrap=wrap)
