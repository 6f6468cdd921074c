"""The shared state of processes that divide the seats of backends: the interface of its store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from broker.domain.fleet import Beat, Reading


class FleetStore(Protocol):
    """Grants leases, by the rules of :class:`broker.policy.fleet_ledger.Ledger`.

    Both methods raise BrokerError: STORE_UNAVAILABLE when it cannot answer now, STORE_REJECTED when somebody has to
    act first. Neither takes longer than the store's own short time limits.
    """

    async def beat(self, beats: Sequence[Beat]) -> Mapping[str, Reading]:
        """Reports of one member, one for each backend, in one round trip; gives what it may use, by backend."""
        ...

    async def leave(self, member: str) -> None:
        """Gives back all leases of a member that ends."""
        ...
