"""Runs a scenario with a core and a seed."""

from __future__ import annotations

from collections.abc import Callable

from broker.policy.admission.values import AdmissionCore
from broker.simulation.cores import CoreFactory, own_core
from broker.simulation.engine import Engine
from broker.simulation.recorder import EventLog
from broker.simulation.result import Result, result_of
from broker.simulation.scenario import Scenario


def simulate(
    scenario: Scenario,
    seed: int,
    make: CoreFactory = own_core,
    *,
    logged: bool = False,
    wrap: Callable[[AdmissionCore], AdmissionCore] = lambda core: core,
) -> Result:
    """One run. ``make`` makes the core of each broker, ``wrap`` may put something around it.

    With ``logged`` the result has the hash of everything that happened; the same seed always gives the same.
    """
    log = EventLog() if logged else None
    engine = Engine(scenario, seed, make, log=log, wrap=wrap)
    engine.run()
    return result_of(engine, seed, log.hexdigest() if log is not None else "")
