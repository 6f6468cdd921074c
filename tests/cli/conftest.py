"""One demonstration for all tests of client commands."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli import Demo, serving_demo


@pytest.fixture(scope="session")
def demo() -> Iterator[Demo]:
    """A demonstration with 20,000 flights; nobody stops it."""
    with tempfile.TemporaryDirectory(prefix="demo-") as directory:
        Path(directory).chmod(0o755)  # PostgreSQL runs as another account under root
        with serving_demo(Path(directory), "--rows", "20000") as running:
            yield running
