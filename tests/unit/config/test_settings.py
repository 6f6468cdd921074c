"""Nothing can be configured that has no effect: every setting is read by the program."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path

from broker.config import settings

BROKER = Path(__file__).parents[3] / "broker"
SECTIONS = [kind for kind in vars(settings).values() if isinstance(kind, type) and is_dataclass(kind)]


def read_names() -> Iterator[str]:
    """Names of all attributes that are read anywhere but in the configuration itself."""
    for path in BROKER.rglob("*.py"):
        if "config" not in path.relative_to(BROKER).parts:
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                    yield node.attr


def test_every_setting_is_read() -> None:
    names = set(read_names())
    unused = {f"{kind.__name__}.{f.name}" for kind in SECTIONS for f in fields(kind) if f.name not in names}
    assert unused == set()
