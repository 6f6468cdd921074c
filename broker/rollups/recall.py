"""The last looks at rollups, kept beside the mirror's files: what those hold, for a start without the database.

One file for each database, replaced whole. What was seen of another definition of a rollup is not taken over, nor what
cannot be read: then nothing is known until the database answers.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from broker.domain.model import Dataset
from broker.domain.query import Grain
from broker.domain.rollup import Coverage, Rule, Segment, SegmentFile, Span
from broker.pipeline.looks import Look, Replaced
from broker.policy.rollups.definition import definition
from broker.ports.clock import Clock

logger = logging.getLogger(__name__)

EVERY = 10.0
"""Seconds between two writings when nothing but the age of the look, and what has changed, is new."""
RESTS = 20.0
"""A writing is followed by a rest of so many times its own length."""
_FORMAT = 1


class Recall:
    """Reads and writes the file of one database in ``directory``."""

    def __init__(self, directory: Path, scope: str, datasets: Iterable[Dataset], clock: Clock) -> None:
        self._path = directory / f"{scope or 'rollups'}.looks"
        self._datasets = {dataset.name: dataset for dataset in datasets}
        self._clock = clock
        self._written: dict[str, dict[str, _State]] = {}
        self._due = self._rest = 0.0
        self._failed = False

    async def read(self) -> dict[str, Look]:
        """The looks of the last process, by dataset; those that are of no use are left out."""
        try:
            data = await asyncio.to_thread(self._path.read_bytes)
        except OSError:
            return {}
        try:
            looks = await asyncio.to_thread(self._looks, data)
        except (ValueError, KeyError, TypeError) as error:  # broken, or of another version of the broker
            logger.warning("%s tells nothing until the database does: %s", self._path, error)
            return {}
        return {name: look for name, look in looks.items() if look.coverage}

    async def write(self, looks: Mapping[str, Look]) -> None:
        """Keeps them, soon when there are other segments or states, else now and then. A failure is logged once."""
        now = self._clock.monotonic()
        state = {name: _state(look) for name, look in looks.items()}
        if not looks or now < (self._due if state == self._written else self._rest):
            return
        try:
            await asyncio.to_thread(self._replace, dict(looks))
        except OSError as error:
            if not self._failed:
                logger.warning("what rollups cover cannot be kept in %s: %s", self._path, error)
            self._failed = True
            return
        after = self._clock.monotonic()
        self._failed, self._written = False, state
        self._due, self._rest = after + EVERY, after + RESTS * (after - now)

    def _replace(self, looks: Mapping[str, Look]) -> None:
        """One text for each rollup: the loop would stand still for the time that all of them take as one."""
        texts = (f"{json.dumps(name)}:{self._text(name, look)}" for name, look in looks.items())
        body = f'{{"format":{_FORMAT},"looks":{{{",".join(texts)}}}}}'.encode()
        _replace(self._path, hashlib.sha256(body).hexdigest().encode() + b"\n" + body)

    def _text(self, dataset: str, look: Look) -> str:
        kept = (f"{json.dumps(n)}:{json.dumps(self._kept(dataset, look, n))}" for n in look.coverage)
        return f'{{"as_of":{json.dumps(look.as_of.isoformat())},"rollups":{{{",".join(kept)}}}}}'

    def _looks(self, data: bytes) -> dict[str, Look]:
        digest, _, body = data.partition(b"\n")
        if hashlib.sha256(body).hexdigest().encode() != digest:
            raise ValueError("its checksum differs")
        kept = json.loads(body)
        if kept["format"] != _FORMAT:
            raise ValueError("it has another format")
        found = {name: each for name, each in kept["looks"].items() if name in self._datasets}
        return {name: self._look(name, each) for name, each in found.items()}

    def _kept(self, dataset: str, look: Look, rollup: str) -> dict[str, Any]:
        own, each = self._datasets[dataset], look.coverage[rollup]
        before = look.before.get(rollup, {}).values()
        return {
            "definition": definition(own, own.rollups[rollup]),
            "unusable": each.unusable,
            "lateness": each.lateness,
            "dirty": each.dirty,
            "sealed": each.sealed,
            "segments": [_segment(segment) for segment in each.segments],
            "before": [[_segment(segment) for segment in versions] for versions in before],
        }

    def _look(self, dataset: str, kept: Mapping[str, Any]) -> Look:
        own = self._datasets[dataset]
        coverage: dict[str, Coverage] = {}
        before: dict[str, Replaced] = {}
        for name, each in kept["rollups"].items():
            rollup = own.rollups.get(name)
            if rollup is None or definition(own, rollup) != each["definition"]:
                continue
            coverage[name] = Coverage(
                name,
                tuple(map(_read_segment, each["segments"])),
                tuple(Span(*span) for span in each["dirty"]),
                Rule(each["unusable"]) if each["unusable"] is not None else None,
                lateness=each["lateness"],
                sealed=tuple(Span(*span) for span in each["sealed"]),
            )
            versions = [tuple(map(_read_segment, found)) for found in each["before"]]
            if versions:
                before[name] = {found[0].span: found for found in versions}
        return Look(datetime.fromisoformat(kept["as_of"]), coverage, before)


@dataclass(frozen=True, slots=True)
class _State:
    """What of a rollup is to be kept at once."""

    unusable: Rule | None
    segments: tuple[Segment, ...]
    sealed: tuple[Span, ...]


def _state(look: Look) -> dict[str, _State]:
    return {name: _State(c.unusable, c.segments, c.sealed) for name, c in look.coverage.items()}


def _segment(segment: Segment) -> list[Any]:
    files = [[f.grain, f.row_count, f.byte_count, f.sha256] for f in segment.files]
    return [
        segment.id, *segment.span, segment.version, segment.as_of.isoformat(), segment.row_count, segment.byte_count,
        segment.sealed, files,
    ]  # fmt: skip


def _read_segment(kept: list[Any]) -> Segment:
    number, lo, hi, version, as_of, rows, size, sealed, files = kept
    made = tuple(SegmentFile(Grain(grain), *rest) for grain, *rest in files)
    return Segment(number, Span(lo, hi), version, datetime.fromisoformat(as_of), rows, size, sealed, made)


def _replace(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        temporary.write_bytes(data)
        temporary.rename(path)
    finally:
        with suppress(OSError):
            temporary.unlink()
