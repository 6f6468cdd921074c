"""Reasons that are found only when somebody looks at them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import overload

from broker.domain.rollup import Rejection


class Reasons(Sequence[Rejection]):
    """Rejections in the order of names, computed at the first look; equal to a tuple of the same rejections."""

    __slots__ = ("_find", "_found")

    def __init__(self, find: Callable[[], Iterable[Rejection]]) -> None:
        self._find = find
        self._found: tuple[Rejection, ...] | None = None

    @property
    def all(self) -> tuple[Rejection, ...]:
        """All of them."""
        if self._found is None:
            self._found = tuple(sorted(self._find(), key=lambda rejection: rejection.rollup))
        return self._found

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
