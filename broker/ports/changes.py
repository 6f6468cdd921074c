"""What is known of changes in the source, without asking it for every answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from broker.domain.held import Reach
from broker.domain.plan import Plan


class ChangeLog(Protocol):
    """Changes of datasets whose sources are tracked, as last looked at by one poller.

    Calls cost microseconds and never wait. A *moment* is text that names what had been seen; every replica can read it.
    """

    @property
    def generation(self) -> int:
        """Grows with every look that found a change or lost sight of one: until then no verdict changes but by age."""
        ...

    def moment(self, plan: Plan) -> str:
        """The last look at what a plan reads: whatever is read from now on has all changes until then.

        Empty where changes of something that the plan reads would not be seen: its answer goes by age.
        """
        ...

    def unchanged(self, reach: Reach, moment: str) -> float | None:
        """Age in seconds of the look by which nothing in reach had changed since the moment.

        None when something had, or nothing is known: not tracked, never looked, looked too long ago.
        """
        ...

    def extent(self) -> Mapping[str, float | None]:
        """For operators: age of the last look at each tracked dataset, None where it never succeeded."""
        ...
