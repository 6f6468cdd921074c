"""Reads the dashboard: its panels, and the names in their queries."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from tests.deploy.compose import FOLDER

_GROUPING = re.compile(r"\bby \(([^)]*)\)")
_MATCHER = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
_NAME = re.compile(r"[a-zA-Z_]\w*")
_SELECTOR = re.compile(r"\b([a-zA-Z_]\w*)\b(?!\s*\()(?:\{([^}]*)\})?")
"""A metric and what it is chosen by; a name that a parenthesis follows is a function."""


@dataclass(frozen=True)
class Query:
    """Names in one query: its metrics, each with the labels that it is chosen by, the labels that all of them are
    grouped by, those that the result keeps, and those that the legend shows."""

    metrics: Mapping[str, set[str]]
    grouped: set[str]
    kept: set[str]
    legend: set[str]


@dataclass(frozen=True)
class Panel:
    """One panel, and the places of the grid that it takes."""

    title: str
    queries: tuple[Query, ...]
    places: frozenset[tuple[int, int]]


def panels() -> list[Panel]:
    """The panels that show something."""
    raw = json.loads((FOLDER / "observability/grafana/querybroker.json").read_text())
    found = []
    for panel in raw["panels"]:
        if panel["type"] == "row":
            continue
        at = panel["gridPos"]
        rows, columns = range(at["y"], at["y"] + at["h"]), range(at["x"], at["x"] + at["w"])
        places = frozenset((x, y) for x in columns for y in rows)
        queries = tuple(_query(target["expr"], target["legendFormat"]) for target in panel["targets"])
        found.append(Panel(panel["title"], queries, places))
    return found


def metrics() -> set[str]:
    """All metrics that are asked for."""
    return {metric for panel in panels() for query in panel.queries for metric in query.metrics}


def _query(expression: str, legend: str) -> Query:
    grouped = {label for group in _GROUPING.findall(expression) for label in _NAME.findall(group)}
    rest = re.sub(r"\[[^\]]*\]", "", _GROUPING.sub(" ", expression))
    return Query(
        metrics={name: set(_MATCHER.findall(chosen)) for name, chosen in _SELECTOR.findall(rest)},
        grouped=grouped,
        kept=grouped - {"le"} or {"job", "instance"},
        legend=set(re.findall(r"\{\{(\w+)\}\}", legend)),
    )
