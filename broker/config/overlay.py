"""Lays environment variables and options over the data of a file, and remembers where each value came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from broker.config.document import Document, Path, parse_value, show_path
from broker.config.findings import Finding, Severity
from broker.config.schema import Config
from broker.config.walk import is_collection, section_of, walk
from broker.policy.conditions import nearest

PREFIX = "QUERYBROKER__"
WELL_KNOWN: Mapping[str, Path] = {
    "DATABASE_URL": ("database", "dsn"),
    "OTEL_SERVICE_NAME": ("telemetry", "service_name"),
    "OTEL_EXPORTER_OTLP_ENDPOINT": ("telemetry", "otlp_endpoint"),
}
"""Variables that other programs use for the same; what a file says comes first."""
_LIBPQ = ("PGHOST", "PGDATABASE", "PGUSER", "PGSERVICE")


@dataclass(slots=True)
class Layers:
    """Data of all layers, and the origin of every part of it that is not from the file."""

    document: Document
    origins: dict[Path, str] = field(default_factory=dict)

    @property
    def data(self) -> dict[str, object]:
        """The data, all layers merged."""
        return self.document.data

    def finding(
        self, path: Path, message: str, severity: Severity = Severity.ERROR, *, at_key: bool = False
    ) -> Finding:
        """A finding at the place that gave the value at the path, or else at the nearest place above it."""
        shown = show_path(path)
        for length in range(len(path), 0, -1):
            part = path[:length]
            if part in self.origins:
                return Finding(message, shown, self.origins[part], severity=severity)
            place = self._place(part, at_key=at_key and length == len(path))
            if place is not None:
                return Finding(message, shown, self.document.source, *place, severity)
        return Finding(message, shown, self.document.source, severity=severity)

    def _place(self, path: Path, *, at_key: bool) -> tuple[int, int] | None:
        """The value, or the key when it is meant or the value begins on another line."""
        key, value = self.document.keys.get(path), self.document.values.get(path)
        return key if key is not None and (at_key or value is None or value[0] != key[0]) else value

    def put(self, path: Path, value: object, origin: str) -> Finding | None:
        """Sets the value at a path; what the file says there is replaced."""
        current: dict[str, object] = self.document.data
        for length, part in enumerate(path[:-1], 1):
            below = current.get(str(part))
            if below is None:
                below = current[str(part)] = {}
            if not isinstance(below, dict):
                what = f"cannot set {show_path(path)}: {show_path(path[:length])} is not a mapping"
                return Finding(what, source=origin)
            current = below
        current[str(path[-1])] = value
        self.origins[path] = origin
        return None


def lay_over(layers: Layers, env: Mapping[str, str], overrides: Mapping[str, object]) -> list[Finding]:
    """Lays the other layers over the file, later ones winning; returns what could not be laid.

    Well-known variables count only where the file is silent; then come the variables ``QUERYBROKER__…``, then options.
    """
    found: list[Finding | None] = []
    for name, path in WELL_KNOWN.items():
        if env.get(name) and not _given(layers.data, path):
            layers.put(path, env[name], f"environment variable {name}")
    if not _given(layers.data, ("database", "dsn")) and any(env.get(name) for name in _LIBPQ):
        layers.put(("database", "dsn"), "postgresql://", "environment variables PG…")
    found += [_from_variable(layers, name, env[name]) for name in sorted(env) if name.startswith(PREFIX)]
    for name, value in overrides.items():
        path = tuple(name.split("."))
        problem = _unknown(path)
        origin = f"option {name}"
        found.append(Finding(problem, source=origin) if problem else layers.put(path, value, origin))
    return [finding for finding in found if finding is not None]


def _from_variable(layers: Layers, name: str, text: str) -> Finding | None:
    path: Path = tuple(name.removeprefix(PREFIX).lower().split("__"))
    origin = f"environment variable {name}"
    problem = _unknown(path)
    if problem:
        return Finding(problem, source=origin)
    if not is_collection(walk(Config, path)):
        return layers.put(path, text, origin)
    try:
        return layers.put(path, parse_value(text), origin)
    except ValueError as error:
        return Finding(str(error), source=origin)


def _unknown(path: Path) -> str:
    for length in range(1, len(path) + 1):
        if walk(Config, path[:length]) is None:
            section = section_of(walk(Config, path[: length - 1]))
            keys = list(section.model_fields) if section is not None else []
            where = show_path(path[: length - 1]) or "the configuration"
            return f"{where} has no {path[length - 1]!r}{nearest(str(path[length - 1]), keys)}"
    return ""


def _given(data: Mapping[str, object], path: Path) -> bool:
    current: object = data
    for part in path:
        current = current.get(str(part)) if isinstance(current, Mapping) else None
    return current not in (None, "")
