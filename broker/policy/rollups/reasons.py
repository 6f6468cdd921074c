"""Reasons that are found only when somebody looks at them, and no more of them than are looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from heapq import nsmallest
from typing import overload

from broker.domain.rollup import Rejection

Nearest = Callable[[int], Iterable[Rejection]]
"""Finds so many rejections, those of the fewest rules first, then by name; fewer when there are no more."""


class Reasons(Sequence[Rejection]):
    """Rejections in the order of names, computed at the first look; equal to a tuple of the same rejections.

    ``find`` gives those of one's own, ``others`` are added to them. ``nearest`` finds a few of one's own without the
    rest, where that is cheaper.
    """

    __slots__ = ("_find", "_found", "_nearest", "_others")

    def __init__(
        self,
        find: Callable[[], Iterable[Rejection]],
        others: Sequence[Rejection] = (),
        nearest: Nearest | None = None,
    ) -> None:
        self._find, self._others, self._nearest = find, others, nearest
        self._found: tuple[Rejection, ...] | None = None

    @property
    def all(self) -> tuple[Rejection, ...]:
        """All of them."""
        if self._found is None:
            self._found = tuple(
                sorted((*self._others, *self._find()), key=lambda rejection: rejection.rollup)
            )
        return self._found

    @property
    def own(self) -> tuple[Rejection, ...]:
        """One's own."""
        return tuple(self._find())

    def nearest(self, most: int) -> list[Rejection]:
        """So many of those of the fewest rules."""
        own = self._find() if self._nearest is None else self._nearest(most)
        none = isinstance(self._others, tuple) and not self._others
        found = [*own] if none else [*own, *nearest([self._others], most)]
        return nsmallest(most, found, key=_misses) if found else found

    @overload
    def __getitem__(self, index: int) -> Rejection: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Rejection]: ...
    def __getitem__(self, index: int | slice) -> Rejection | Sequence[Rejection]:
        return self.all[index]

    def __len__(self) -> int:
        return len(self.all)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and self.all == tuple(other)

    def __hash__(self) -> int:
        return hash(self.all)

    def __repr__(self) -> str:
        return repr(self.all)


def nearest(rejected: Iterable[Sequence[Rejection]], most: int | None = None) -> list[Rejection]:
    """Of several lists the nearest misses, one for each rollup: fewest failed rules first, then by name.

    Without ``most`` all of them, which has every reason computed.
    """
    found: dict[str, Rejection] = {}
    for each in rejected:
        few = each.nearest(most) if isinstance(each, Reasons) and most is not None else each
        for one in few:
            known = found.get(one.rollup)
            if known is None or len(one.rules) < len(known.rules):
                found[one.rollup] = one
    return sorted(found.values(), key=_misses)[:most]


def own(rejected: Sequence[Rejection]) -> Sequence[Rejection]:
    """Those that passed the rules, and were passed over all the same."""
    return rejected.own if isinstance(rejected, Reasons) else rejected


def told(rejected: Iterable[Sequence[Rejection]], most: int = 5) -> str:
    """The nearest misses for people; empty when there are none."""
    return "; ".join(
        f"{each.rollup}: {', '.join(each.rules)}{f' ({each.detail})' if each.detail else ''}"
        for each in nearest(rejected, most)
    )


def _misses(rejection: Rejection) -> tuple[int, str]:
    return len(rejection.rules), rejection.rollup
