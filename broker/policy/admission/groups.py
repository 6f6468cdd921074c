"""Load groups: requests of one dashboard load stand or fall together.

Ten panels that are admitted each with a chance of nine in ten make a whole dashboard one time in three. So the first
request of a group decides for the others until its deadline: they are refused with it, or wait as long as it takes.
How many will follow is not known when the first arrives; the mean size of the tenant's earlier groups is assumed.
"""

from __future__ import annotations

from collections import OrderedDict

from broker.policy.admission.fair_queue import Entry
from broker.policy.admission.values import AdmissionRequest, Refused

LEARNING_RATE = 0.2
CAPACITY = 4096
"""Groups that are remembered; older ones are forgotten first."""

Key = tuple[str, str]


class Group:
    """One load: whether it was let in, and who of it waits."""

    __slots__ = ("refused", "size", "until", "waiting")

    def __init__(self, until: float) -> None:
        self.until = until
        self.size = 0
        self.refused: Refused | None = None
        self.waiting: dict[str, Entry] = {}


class LoadGroups:
    """The loads of late."""

    def __init__(self, lifetime: float) -> None:
        self._lifetime = lifetime
        self._groups: OrderedDict[Key, Group] = OrderedDict()
        self._sizes: OrderedDict[str, float] = OrderedDict()

    def join(self, request: AdmissionRequest, now: float) -> tuple[Group, bool]:
        """The group of a request, and whether it has been decided by an earlier one."""
        self._forget(now)
        key = request.tenant, request.load_group
        group = self._groups.get(key)
        decided = group is not None and group.until > now
        if group is None or not decided:
            group = self._groups[key] = Group(min(request.deadline_at, now + self._lifetime))
        group.size += 1
        return group, decided

    def followers(self, tenant: str) -> float:
        """How many requests probably follow the first of a tenant's group."""
        return max(0.0, self._sizes.get(tenant, 1.0) - 1.0)

    def fall(self, entry: Entry, refused: Refused) -> list[Entry]:
        """A member was refused after all: those of its group that wait go with it."""
        key = entry.request.tenant, entry.request.load_group
        group = self._groups.get(key)
        if group is None:
            return []
        group.refused = refused
        group.waiting.pop(entry.request.id, None)
        waiting = list(group.waiting.values())
        group.waiting.clear()
        return waiting

    def left(self, entry: Entry) -> None:
        """A member waits no more."""
        group = self._groups.get((entry.request.tenant, entry.request.load_group))
        if group is not None:
            group.waiting.pop(entry.request.id, None)

    def _forget(self, now: float) -> None:
        while self._groups:
            key, group = next(iter(self._groups.items()))
            if group.until > now and len(self._groups) < CAPACITY:
                return
            del self._groups[key]
            tenant = key[0]
            known = self._sizes.pop(tenant, float(group.size))
            self._sizes[tenant] = known + LEARNING_RATE * (group.size - known)
            if len(self._sizes) > CAPACITY:
                self._sizes.popitem(last=False)
