"""The rivals by name.

`vegas`, `gradient2` and `aimd` refuse at their limit, as these limiters do by default. With `_core` they set the limit
beneath the queue and the wait budget of the admission core, so that only the limits differ; `oracle` does so as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from broker.policy.admission.backend import BackendSpec
from broker.policy.admission.events import Configuration, RecordedBackend
from broker.policy.admission.limit import LimitPolicy
from broker.policy.admission.scheduler import Scheduler
from broker.policy.admission.values import AdmissionCore
from broker.simulation.rivals.aimd import Aimd
from broker.simulation.rivals.clairvoyant import Clairvoyant
from broker.simulation.rivals.codel import Codel
from broker.simulation.rivals.gradient2 import Gradient2
from broker.simulation.rivals.oracle import OracleLimit
from broker.simulation.rivals.plain import Bare, fifo, no_control
from broker.simulation.rivals.truth import Rival, Truth
from broker.simulation.rivals.vegas import Vegas


def core(configuration: Configuration, limit: Callable[[RecordedBackend], LimitPolicy]) -> AdmissionCore:
    """The admission core with limit policies of one's choice."""
    return Scheduler(
        configuration.pools,
        configuration.seed,
        [
            BackendSpec(backend.name, backend.pools, backend.limits, limit(backend))
            for backend in configuration.backends
        ],
        configuration.tenants,
        configuration.default_tenant,
    )


def _oracle(configuration: Configuration, truth: Truth) -> AdmissionCore:
    return core(configuration, lambda backend: OracleLimit(truth, backend))


def _limiters(kind: str) -> Callable[[Configuration], Callable[[RecordedBackend], LimitPolicy]]:
    def make(configuration: Configuration) -> Callable[[RecordedBackend], LimitPolicy]:
        match kind:
            case "vegas":
                return lambda _: Vegas(configuration.seed)
            case "gradient2":
                return lambda _: Gradient2()
            case _:
                return lambda _: Aimd()

    return make


def _bare(kind: str) -> Rival:
    limiters = _limiters(kind)
    return lambda configuration, _: Bare(configuration, limiters(configuration))


def _beneath(kind: str) -> Rival:
    limiters = _limiters(kind)
    return lambda configuration, _: core(configuration, limiters(configuration))


RIVALS: Mapping[str, Rival] = MappingProxyType(
    {
        "no_control": lambda configuration, _: no_control(configuration),
        "fifo": lambda configuration, _: fifo(configuration),
        "codel": lambda configuration, _: Codel(configuration),
        "vegas": _bare("vegas"),
        "gradient2": _bare("gradient2"),
        "aimd": _bare("aimd"),
        "vegas_core": _beneath("vegas"),
        "gradient2_core": _beneath("gradient2"),
        "aimd_core": _beneath("aimd"),
        "oracle": _oracle,
        "clairvoyant": Clairvoyant,
    }
)
