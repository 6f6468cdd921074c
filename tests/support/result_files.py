"""What lies in a directory of results."""

from __future__ import annotations

from pathlib import Path

from broker.ports.results import OWNER


def files_in(directory: Path) -> list[Path]:
    """Every file, staged or published, but the one that says whose the store is."""
    return [path for path in directory.rglob("*") if path.is_file() and path != directory / OWNER]
