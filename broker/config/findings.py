"""What is wrong with a configuration, or worth knowing about it, each with its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How much a finding matters. Only errors keep a broker from starting."""

    ERROR = "error"
    WARNING = "warning"
    HINT = "hint"


@dataclass(frozen=True, slots=True)
class Finding:
    """One remark: ``path`` in the configuration, and where it was given.

    ``source`` names the file, or the environment variable or option that set the value; ``line`` and ``column`` count
    from 1 and are 0 when the source is not a file.
    """

    message: str
    path: str = ""
    source: str = ""
    line: int = 0
    column: int = 0
    severity: Severity = Severity.ERROR

    def __str__(self) -> str:
        place = f"{self.source}:{self.line}:{self.column}" if self.line else self.source
        mark = "" if self.severity is Severity.ERROR else f"{self.severity}: "
        return ": ".join(part for part in (place, self.path, f"{mark}{self.message}") if part)


class ConfigError(Exception):
    """A configuration that cannot be used; ``findings`` names every error in it, in the order of the file."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings = tuple(findings)
        super().__init__("\n".join(map(str, self.findings)))

    def __reduce__(self) -> tuple[object, ...]:
        """Rebuild from the findings; the text follows from them."""
        return ConfigError, (self.findings,)
