"""Scenario files: YAML with the fields of :mod:`broker.simulation.scenario`, checked as a whole.

Pools are given by what differs from a pool without bounds but seats; ``expects`` maps figures to ``[least, most]``,
where null is no bound. Everything that is wrong with a file is told at once.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args, get_type_hints

import yaml
from pydantic import TypeAdapter, ValidationError

from broker.domain.pool import PoolLimits
from broker.domain.principal import Criticality
from broker.simulation.scenario import Scenario
from broker.simulation.scenario_rules import violations

POOL = PoolLimits(in_flight=100_000, queue=5_000, connections=0, workers=0, wait_fraction=0.15)
"""What a pool is unless a file says otherwise."""


NO_BOUNDS = (-math.inf, math.inf)


class ScenarioError(Exception):
    """A scenario that cannot be run; ``problems`` names all that is wrong with it."""

    def __init__(self, source: str, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(f"{source}: {problem}" for problem in problems))


def builtin() -> Mapping[str, str]:
    """The scenarios that come with the broker: their texts by name, in alphabetical order."""
    found = (entry for entry in files("broker.simulation").joinpath("scenarios").iterdir())
    texts = {
        e.name.removesuffix(".yaml"): e.read_text(encoding="utf-8") for e in found if e.name.endswith(".yaml")
    }
    return dict(sorted(texts.items()))


def load(name: str) -> Scenario:
    """A scenario by the name of one that comes with the broker, or by the path of a file.

    Raises:
        ScenarioError: With everything that is wrong with it.
    """
    known = builtin()
    if name in known:
        return parse(known[name], name)
    try:
        text = Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        there = ", ".join(known)
        raise ScenarioError(
            name, [f"is neither a file that can be read ({error}) nor one of {there}"]
        ) from error
    return parse(text, name)


def parse(text: str, source: str) -> Scenario:
    """The scenario in a text.

    Raises:
        ScenarioError: With everything that is wrong with it.
    """
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ScenarioError(source, [f"is not YAML: {error}"]) from error
    if not isinstance(document, dict):
        raise ScenarioError(source, ["has to be a mapping with `name`, `populations` and more"])
    problems = list(_unknown(Scenario, document, ""))
    document = _spelled_out(document, problems)
    try:
        scenario = TypeAdapter(Scenario).validate_python(document)
    except ValidationError as error:
        problems += [f"{_place(each['loc'])}: {each['msg']}" for each in error.errors()]
        raise ScenarioError(source, problems) from error
    problems += violations(scenario)
    if problems:
        raise ScenarioError(source, problems)
    return scenario


def _spelled_out(document: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
    """The document with short forms written out as the values have them."""
    full = dict(document)
    pools = full.get("pools")
    if isinstance(pools, dict):
        given = {name: {} if limits is None else limits for name, limits in pools.items()}
        base = dataclasses.asdict(POOL)
        full["pools"] = {name: base | limits for name, limits in given.items() if isinstance(limits, dict)}
        problems += [
            f"pools.{name}: has to be a mapping" for name, each in given.items() if not isinstance(each, dict)
        ]
    expects = full.get("expects")
    if isinstance(expects, dict):
        full["expects"] = []
        for metric, bounds in expects.items():
            if not isinstance(bounds, list) or len(bounds) != 2:
                problems.append(f"expects.{metric}: has to be [least, most], with null for no bound")
                continue
            least, most = (
                bound if bound is not None else end for bound, end in zip(bounds, NO_BOUNDS, strict=True)
            )
            full["expects"].append({"metric": metric, "least": least, "most": most})
    people = full.get("populations")
    if isinstance(people, list):
        full["populations"] = [_named_criticality(each, i, problems) for i, each in enumerate(people)]
    return full


def _named_criticality(population: Any, index: int, problems: list[str]) -> Any:
    if not isinstance(population, dict) or not isinstance(population.get("criticality"), str):
        return population
    name = population["criticality"].upper()
    if name in Criticality.__members__:
        return population | {"criticality": Criticality[name]}
    allowed = ", ".join(each.lower() for each in Criticality.__members__)
    problems.append(f"populations.{index}.criticality: is one of {allowed}")
    return {key: value for key, value in population.items() if key != "criticality"}


def _unknown(kind: Any, value: Any, place: str) -> Iterator[str]:
    """Fields that do not exist, at any depth."""
    if dataclasses.is_dataclass(kind) and isinstance(value, dict):
        hints = get_type_hints(kind)
        for key, inner in value.items():
            where = f"{place}.{key}" if place else str(key)
            if key not in hints:
                yield f"{where}: there is no such field; there are {', '.join(hints)}"
            else:
                yield from _unknown(hints[key], inner, where)
    elif isinstance(value, list):
        inner_kind = next(iter(get_args(kind)), None)
        for index, inner in enumerate(value):
            yield from _unknown(inner_kind, inner, f"{place}.{index}")
    elif isinstance(value, dict) and len(get_args(kind)) == 2:
        for key, inner in value.items():
            yield from _unknown(get_args(kind)[1], inner, f"{place}.{key}")


def _place(path: Sequence[object]) -> str:
    return ".".join(map(str, path))
