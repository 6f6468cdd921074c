"""Loads a configuration: defaults, the file, the environment and options become settings and a model.

Every problem is found at once: the YAML is read with its positions, the shape is checked and its wrong parts are left
out, and the rules across members are checked on what remains. :class:`ConfigError` carries all of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath

from broker.config.assemble import build_settings
from broker.config.document import Document, Path, read_document
from broker.config.findings import ConfigError, Finding, Severity
from broker.config.machine import Machine, this_machine
from broker.config.model import build_model
from broker.config.overlay import Layers, lay_over
from broker.config.settings import Settings
from broker.config.shape import read_shape
from broker.domain.model import Model

_NO_DATABASE = "there is no database: set `database.dsn`, QUERYBROKER__DATABASE__DSN or DATABASE_URL"


@dataclass(frozen=True, slots=True)
class Configuration:
    """Settings and model, with ``findings`` that are no errors. ``layers`` knows where every part was given."""

    settings: Settings
    model: Model
    findings: tuple[Finding, ...]
    layers: Layers

    def finding(self, path: Path, message: str, severity: Severity = Severity.ERROR) -> Finding:
        """A finding on the part of the configuration at the path, with its place."""
        return self.layers.finding(path, message, severity)


def load(
    file: FilePath,
    env: Mapping[str, str],
    overrides: Mapping[str, object] | None = None,
    *,
    machine: Machine | None = None,
    database_needed: bool = True,
) -> Configuration:
    """The configuration in a file, below environment variables, below ``overrides`` (``"server.port": 0``).

    ``machine`` sizes what the configuration leaves open (None: this one). With ``database_needed`` false, a
    configuration without an address of the database is complete.

    Raises:
        ConfigError: With every finding, in the order of the file.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        reason = f"cannot be read: {error.strerror}; `broker init` proposes a configuration for your database"
        raise ConfigError([Finding(reason, source=str(file))]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([Finding("is not UTF-8 text; save it as such", source=str(file))]) from error
    return load_text(
        text,
        env,
        overrides,
        source=str(file),
        folder=file.parent,
        machine=machine,
        database_needed=database_needed,
    )


def load_text(
    text: str,
    env: Mapping[str, str],
    overrides: Mapping[str, object] | None = None,
    *,
    source: str = "configuration",
    folder: FilePath | None = None,
    machine: Machine | None = None,
    database_needed: bool = True,
) -> Configuration:
    """The same for a text; ``folder`` is what relative paths in it are relative to (None: the current one).

    Raises:
        ConfigError: With every finding, in the order of the text.
    """
    document, findings = read_document(text, source, env)
    if findings and not document.keys:
        raise ConfigError(findings)  # not YAML: there is nothing to look into
    layers = Layers(document)
    findings += lay_over(layers, env, overrides or {})
    config, removed, wrong = read_shape(layers)
    findings += wrong

    def report(path: Path, message: str, severity: Severity = Severity.ERROR) -> None:
        findings.append(layers.finding(path, message, severity))

    model = build_model(config, removed, report)
    settings = build_settings(config, model, removed, folder or FilePath(), machine or this_machine(), report)
    if not config.datasets and not removed.may_hold(("datasets",)) and not removed.children(("datasets",)):
        report(("datasets",), "there is nothing to ask: declare a dataset, or let `broker init` propose some")
    if database_needed and not settings.database.dsn and not removed.within(("database",)):
        report(("database", "dsn"), _NO_DATABASE)
    ordered = _in_order(findings, document)
    if any(finding.severity is Severity.ERROR for finding in ordered):
        raise ConfigError(ordered)
    return Configuration(settings, model, ordered, layers)


def _in_order(findings: Sequence[Finding], document: Document) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda f: (f.source != document.source, f.line, f.column)))
