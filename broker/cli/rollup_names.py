"""Names of rollups on the command line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import click

from broker.cli.exits import Exit, fail

if TYPE_CHECKING:
    from broker.domain.model import Dataset
    from broker.domain.rollup import Rollup

F = TypeVar("F", bound=Callable[..., object])
_NAME = re.compile(r"(?:datasets/)?([^/.]+)(?:(?:/rollups/|\.)([^/.]+))?")


@dataclass(frozen=True, slots=True)
class Target:
    """A rollup, or all rollups of a dataset when ``rollup`` is empty."""

    dataset: str
    rollup: str = ""

    def holds(self, dataset: str, rollup: str) -> bool:
        """Whether the rollup is meant."""
        return dataset == self.dataset and self.rollup in ("", rollup)

    def __str__(self) -> str:
        return f"{self.dataset}.{self.rollup}" if self.rollup else self.dataset


def targets_argument(*, required: bool) -> Callable[[F], F]:
    """Adds the argument NAME, any number of times, which the command takes as ``targets``."""
    return click.argument(
        "targets", metavar="NAME..." if required else "[NAME]...", nargs=-1, required=required, callback=_read
    )


def _read(_context: click.Context, _parameter: click.Parameter, given: tuple[str, ...]) -> tuple[Target, ...]:
    found = []
    for text in given:
        match = _NAME.fullmatch(text)
        if match is None:
            raise click.BadParameter(
                f"{text!r} is no rollup; write it as flights.hourly, or flights for all of them."
            )
        found.append(Target(match[1], match[2] or ""))
    return tuple(found)


def resource(dataset: str, rollup: str) -> str:
    """The resource name of a rollup."""
    return f"datasets/{dataset}/rollups/{rollup}"


def short_name(name: str) -> str:
    """The shortest text that stands for a rollup of this resource name."""
    match = _NAME.fullmatch(name)
    return f"{match[1]}.{match[2]}" if match is not None and match[2] else name


def chosen(datasets: Mapping[str, Dataset], targets: Iterable[Target]) -> list[tuple[Dataset, list[Rollup]]]:
    """The datasets with rollups, each with those that are meant; no targets mean all."""
    wanted = tuple(targets)
    for target in wanted:
        dataset = datasets.get(target.dataset)
        if dataset is None:
            fail(f"The configuration has no dataset {target.dataset!r}{_listed(datasets)}.", Exit.USAGE)
        if not dataset.rollups or (target.rollup and target.rollup not in dataset.rollups):
            fail(f"The configuration declares no rollup {target}{_listed(dataset.rollups)}.", Exit.USAGE)
    found = []
    for dataset in datasets.values():
        rollups = [
            rollup
            for rollup in dataset.rollups.values()
            if not wanted or any(target.holds(dataset.name, rollup.name) for target in wanted)
        ]
        if rollups:
            found.append((dataset, rollups))
    if not found:
        fail("The configuration declares no rollups; docs/rollups.md tells how.", Exit.USAGE)
    return found


def _listed(names: Iterable[str]) -> str:
    known = ", ".join(sorted(names))
    return f"; it has {known}" if known else ""
