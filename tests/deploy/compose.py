"""Reads the compose files the way ``docker compose`` does, as far as they go: variables, and one file over another."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parents[2] / "deploy"
BASE = FOLDER / "compose.yaml"
OVERLAY = FOLDER / "compose.observability.yaml"
OURS = ("migrate", "broker", "worker")
_VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)(:[-?])?([^}]*)\}")
_SECONDS = {"s": 1, "m": 60}


@dataclass(frozen=True)
class Service:
    """One service. ``mounts`` are sources by target; those that begin with a dot are files of this folder."""

    image: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    mounts: Mapping[str, str]
    ports: tuple[str, ...]
    needs: Mapping[str, str]
    raw: Mapping[str, Any]


def services(variables: Mapping[str, str], *files: Path) -> dict[str, Service]:
    """The services of the files, later ones laid over earlier ones.

    Raises:
        KeyError: A variable that is needed is not given.
    """
    merged: dict[str, dict[str, Any]] = {}
    for file in files or (BASE,):
        for name, raw in yaml.safe_load(_interpolate(file.read_text(), variables))["services"].items():
            below = merged.setdefault(name, {})
            environment = {**below.get("environment", {}), **raw.get("environment", {})}
            below.update({**raw, "environment": environment})
    return {name: _service(raw) for name, raw in merged.items()}


def _service(raw: dict[str, Any]) -> Service:
    mounts = [volume.split(":") for volume in raw.get("volumes", [])]
    return Service(
        image=raw["image"],
        command=tuple(raw.get("command", [])),
        environment=raw["environment"],
        mounts={parts[1]: parts[0] for parts in mounts},
        ports=tuple(raw.get("ports", [])),
        needs={name: needed["condition"] for name, needed in raw.get("depends_on", {}).items()},
        raw=raw,
    )


def _interpolate(text: str, variables: Mapping[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        name, kind, rest = match.groups()
        if kind == ":-":
            return variables.get(name) or rest
        return variables[name]

    return _VARIABLE.sub(value, text)


def seconds(duration: str) -> int:
    """Seconds of a duration such as ``60s``."""
    return int(duration[:-1]) * _SECONDS[duration[-1]]
