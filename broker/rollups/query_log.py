"""The log of questions: one line of JSON for each kind of question, with an example, how often, and how long it takes.

Questions of a kind have the same cost fingerprint: they differ in literals only. A line holds ``fingerprint``,
``dataset``, ``query`` (the last one of its kind, as ``policy.query_json`` writes it), ``policies`` (names of the row
policies that applied), ``count``, ``live_seconds`` (what all of them took, or would have taken, without rollups) and
``time`` of the last one. Every process writes a file of its own and goes on with it when it starts again; whoever reads
takes all of them. A file holds literals of queries, so only its owner may read it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from broker.domain.plan import Plan
from broker.domain.query import Query
from broker.pipeline.stage import Question
from broker.policy.classify import Run
from broker.policy.cost_key import cost_fingerprint
from broker.policy.query_json import decode, encode
from broker.ports.clock import Clock

logger = logging.getLogger(__name__)
_LONGEST_LINE = 1 << 16


@dataclass(frozen=True, slots=True)
class Record:
    """The questions of one kind."""

    fingerprint: str
    query: Query
    policies: tuple[str, ...]
    count: int
    live_seconds: float
    time: datetime

    def joined(self, other: Record) -> Record:
        """Both together, with the example of the later one."""
        later = max(self, other, key=lambda record: record.time)
        count, seconds = self.count + other.count, self.live_seconds + other.live_seconds
        return replace(later, count=count, live_seconds=seconds)


class QueryLog:
    """Takes questions at little cost; :meth:`save` counts and writes them, in a thread.

    At most ``limit`` kinds are kept, those that take longest, and at most ``waiting`` questions between two saves.
    """

    def __init__(self, path: Path, clock: Clock, limit: int = 2000, waiting: int = 20_000) -> None:
        self._path = path
        self._clock = clock
        self._limit = limit
        self._waiting: deque[tuple[Plan, float, datetime]] = deque(maxlen=waiting)
        self._records = {record.fingerprint: record for record in read_records([path])}
        self._failing = False
        self._saving = threading.Lock()

    def observe(self, question: Question, run: Run) -> None:
        """A question was read, which took so long. One that rollups answered counts with what it would have taken."""
        live = question.live
        if live is not None and question.classified is not live:
            self._waiting.append((question.plan, live.predicted.duration_p50, self._clock.now()))
        elif not run.cut_short:
            self._waiting.append((question.plan, run.seconds, self._clock.now()))

    async def run(self, every: float = 60.0) -> None:
        """Saves from time to time, and once more when it is cancelled."""
        try:
            while True:
                await asyncio.sleep(every)
                await asyncio.to_thread(self.save)
        finally:
            await asyncio.shield(asyncio.to_thread(self.save))

    def _count(self) -> bool:
        """Counts what waits; says whether there was anything."""
        count = len(self._waiting)
        for _ in range(count):
            plan, seconds, at = self._waiting.popleft()
            policies = tuple(policy.name for policy in plan.main.policies)
            record = Record(cost_fingerprint(plan), plan.query, policies, 1, seconds, at)
            known = self._records.get(record.fingerprint)
            self._records[record.fingerprint] = record if known is None else known.joined(record)
        if len(self._records) > self._limit:
            kept = sorted(self._records.values(), key=lambda each: each.live_seconds, reverse=True)
            self._records = {each.fingerprint: each for each in kept[: self._limit]}
        return count > 0

    def save(self) -> None:
        """Writes what has come since the last time. It blocks, so an event loop calls it in a thread."""
        with self._saving:
            if self._count() or self._failing:
                self._write()

    def _write(self) -> None:
        lines = [line for record in self._records.values() if (line := _line(record))]
        temporary = self._path.with_suffix(".tmp")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            temporary.unlink(missing_ok=True)
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
                opened.writelines(lines)
            temporary.rename(self._path)
        except OSError as error:
            if not self._failing:
                logger.warning("questions are not recorded for `broker rollup advise`: %s", error)
            self._failing = True
        else:
            self._failing = False


def log_path(folder: Path, process: int | None) -> Path:
    """The file of a process, counted from 0; None where there is one."""
    return folder / f"queries.{process or 0}.jsonl"


def read_records(paths: Iterable[Path]) -> list[Record]:
    """The records of all files, one for each kind of question, those that take longest first.

    Files that are missing are skipped, and so are lines that are broken or of another version.
    """
    found: dict[str, Record] = {}
    for path in paths:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (FileNotFoundError, NotADirectoryError):
            continue
        for line in lines:
            record = _record(line)
            if record is not None:
                known = found.get(record.fingerprint)
                found[record.fingerprint] = record if known is None else known.joined(record)
    return sorted(found.values(), key=lambda record: record.live_seconds, reverse=True)


def _line(record: Record) -> str:
    body = {
        "fingerprint": record.fingerprint,
        "dataset": record.query.dataset,
        "query": encode(record.query),
        "policies": list(record.policies),
        "count": record.count,
        "live_seconds": round(record.live_seconds, 6),
        "time": record.time.isoformat(),
    }
    line = json.dumps(body, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return line + "\n" if len(line) <= _LONGEST_LINE else ""


def _record(line: str) -> Record | None:
    try:
        body = json.loads(line)
        query = decode(body["query"])
        if not isinstance(query, Query):
            return None
        return Record(
            fingerprint=str(body["fingerprint"]),
            query=query,
            policies=tuple(map(str, body["policies"])),
            count=int(body["count"]),
            live_seconds=float(body["live_seconds"]),
            time=datetime.fromisoformat(body["time"]),
        )
    except (ValueError, KeyError, TypeError):
        return None
