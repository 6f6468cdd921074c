"""A study: scenarios run with one core and one seed, and what its figures should be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from broker.simulation.cores import CoreFactory


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of a study, the gate that it belongs to, and its bound; a figure without a bound is told only."""

    name: str
    gate: str
    relation: Literal["<=", ">="] = "<="
    bound: float | None = None

    def holds(self, value: float) -> bool:
        """Whether a value is on the right side."""
        return self.bound is None or (value <= self.bound if self.relation == "<=" else value >= self.bound)


@dataclass(frozen=True, slots=True)
class Run:
    """What a study is run with. ``scale`` shortens its scenarios, 1 for the full length."""

    seed: int
    make: CoreFactory
    scale: float = 1.0

    @property
    def warmup(self) -> float:
        """Seconds before anything is measured: queues have filled and limits have settled by then."""
        return 20.0 if self.scale >= 1 else 10.0


@dataclass(frozen=True, slots=True)
class Study:
    """``measure`` gives a value for each of ``figures``. ``rivals`` run it too, all of them or some.

    Of ``seeds`` one is enough where nothing is random, or everything is measured within one run.
    """

    name: str
    about: str
    figures: tuple[Figure, ...]
    measure: Callable[[Run], Mapping[str, float]]
    rivals: Literal["all", "limits", "none"] = "all"
    seeds: int = 20
