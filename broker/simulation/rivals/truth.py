"""What no broker can know, for the rivals that measure how far knowing better would get."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from broker.policy.admission.events import Configuration
from broker.policy.admission.values import AdmissionCore


class Truth(Protocol):
    """The simulated world, seen from behind the scenes."""

    def slots(self, backend: str, now: float) -> float:
        """How many seats the database runs at full speed at this instant."""
        ...

    def work(self, id: str) -> float:
        """True seconds on an idle database of a request that has been offered and has not ended."""
        ...


Rival = Callable[[Configuration, Truth], AdmissionCore]
"""Makes a fresh core for a configuration; all but the oracle and the clairvoyant leave the truth alone."""
