"""Where checks put what they find."""

from __future__ import annotations

from typing import Protocol

from broker.config.document import Path
from broker.config.findings import Severity


class Report(Protocol):
    """Takes a remark on the value at a path."""

    def __call__(self, path: Path, message: str, severity: Severity = Severity.ERROR) -> None:
        """Notes the remark."""
        ...
