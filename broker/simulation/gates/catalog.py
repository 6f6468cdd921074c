"""All studies, and how they are run over seeds and beside rivals, in several processes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

from broker.simulation.batch import factory
from broker.simulation.gates.adaptive import PREDICTIONS, STEPS
from broker.simulation.gates.demand import CRITICAL, LEAVING, PANELS, RECOVERY
from broker.simulation.gates.fairness import BACKLOGGED, CLASSES, NOISY
from broker.simulation.gates.overload import OVERLOAD, UNDERLOAD
from broker.simulation.gates.replicas import REPLICAS
from broker.simulation.gates.speed import HASHES, SPEED
from broker.simulation.gates.values import Figure, Run, Study
from broker.simulation.rivals.catalog import RIVALS

STUDIES: tuple[Study, ...] = (
    OVERLOAD, UNDERLOAD, NOISY, BACKLOGGED, STEPS, PREDICTIONS, RECOVERY, CRITICAL, CLASSES, LEAVING, PANELS, HASHES,
    SPEED, REPLICAS,
)  # fmt: skip
LIMITS = ("oracle", "vegas_core", "gradient2_core", "aimd_core")
"""Rivals beneath the broker's own queue: those that differ in the limit only."""


@dataclass(frozen=True, slots=True)
class Task:
    """One study with one core and one seed."""

    study: str
    core: str
    seed: int
    scale: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """A figure over seeds: the value in the middle, and the one that is worst for its goal."""

    figure: Figure
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle value, of an even number the worse one of the two."""
        return self._ordered()[len(self.values) // 2]

    @property
    def worst(self) -> float:
        """The value furthest on the wrong side."""
        return self._ordered()[-1]

    @property
    def holds(self) -> bool:
        """Whether the worst value is within the bound."""
        return self.figure.holds(self.worst)

    def _ordered(self) -> list[float]:
        return sorted(self.values, reverse=self.figure.relation == ">=")


def measure(task: Task) -> Mapping[str, float]:
    """The figures of a task."""
    study = next(study for study in STUDIES if study.name == task.study)
    return study.measure(Run(task.seed, factory(task.core), task.scale))


def rivals_of(study: Study) -> Sequence[str]:
    """The rivals that a study is run with."""
    match study.rivals:
        case "none":
            return ()
        case "limits":
            return LIMITS
        case "all":
            return [name for name in RIVALS if not name.endswith("_core")]


def measure_all(tasks: Iterable[Task], processes: int) -> Iterator[tuple[Task, Mapping[str, float]]]:
    """The figures of all tasks, in their order, on so many processes."""
    ordered = list(tasks)
    if processes == 1:
        yield from ((task, measure(task)) for task in ordered)
        return
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        yield from zip(ordered, pool.map(measure, ordered), strict=True)


def outcomes(study: Study, found: Sequence[Mapping[str, float]]) -> list[Outcome]:
    """The figures of a study over seeds."""
    return [Outcome(figure, tuple(figures[figure.name] for figures in found)) for figure in study.figures]
