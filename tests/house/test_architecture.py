"""The page about the architecture names what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text("utf-8")
PATHS = sorted(set(re.findall(r"`((?:broker|protos|scripts)/[\w./]+)", PAGE)))


@pytest.mark.parametrize("path", PATHS)
def test_what_is_named_is_there(path: str) -> None:
    assert (ROOT / path).exists()


def test_every_package_is_named() -> None:
    packages = {f"broker/{path.parent.name}" for path in ROOT.glob("broker/*/__init__.py")}
    assert packages <= set(PATHS)
