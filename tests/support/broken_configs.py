"""Broken configurations with their errors: a text in which `#! …` after a line is what must be said of that line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from broker.config.findings import ConfigError, Finding
from broker.config.loader import load_text
from broker.config.machine import Machine

BROKEN = Path(__file__).parents[1] / "unit" / "config" / "broken"
ENVIRONMENT = {"DB_USER": "me", "DB_PASSWORD": "hunter2", "DATABASE_URL": "postgresql://db/flights"}
_MARK = re.compile(r" *#!(?=!? )")


@dataclass(frozen=True, slots=True)
class Broken:
    """A configuration and, for each finding in order, its line and part of its text; line 0 is anywhere."""

    name: str
    text: str
    expected: tuple[tuple[int, str], ...]

    def findings(self) -> tuple[Finding, ...]:
        """What is said of the configuration; it must not load."""
        with pytest.raises(ConfigError) as caught:
            load_text(self.text, ENVIRONMENT, source="broker.yaml", machine=Machine(2))
        return caught.value.findings


def read_broken(file: str, *, frame: str = "", indent: int = 0) -> list[Broken]:
    """The cases of a file, parted by `=== name`; `frame` is put before each, which is indented to fit into it."""
    return list(_read((BROKEN / file).read_text(encoding="utf-8"), frame, " " * indent))


def _read(content: str, frame: str, indent: str) -> Iterator[Broken]:
    for part in content.split("=== ")[1:]:
        name, _, body = part.partition("\n")
        lines: list[str] = frame.splitlines()
        expected: list[tuple[int, str]] = []
        for line in body.splitlines():
            text, *marks = _MARK.split(line)
            here = len(lines) + 1
            expected += [(0 if mark.startswith("!") else here, mark.lstrip("! ")) for mark in marks]
            lines.append(indent + text if text else "")
        yield Broken(name, "\n".join(lines) + "\n", tuple(expected))
