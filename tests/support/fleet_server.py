"""Several brokers on one port, started as users start them: ``broker serve --processes N``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.support.server import ROOT, end, wait_ready


@dataclass(frozen=True)
class RunningFleet:
    """A parent whose children answer at ``address``; ``metrics`` has an address for each of them."""

    address: str
    metrics: tuple[str, ...]
    pids: tuple[int, ...]
    process: subprocess.Popen[bytes]
    log: Path

    def children(self) -> list[psutil.Process]:
        """The brokers that run now, by their start."""
        return sorted(psutil.Process(self.process.pid).children(), key=lambda child: child.create_time())

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Asks the parent to stop and waits for it; returns its exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout=60)


@contextmanager
def running_fleet(
    dsn: str, home: Path, config: Path, processes: int, overrides: Mapping[str, object] | None = None
) -> Iterator[RunningFleet]:
    """Starts the processes on a free port, and ends them with everything that they started."""
    settings: dict[str, object] = {
        "server.port": 0,
        "server.drain.notice": 0,
        "jobs.result_dir": str(home / "results"),
        "rollups.mirror_dir": str(home / "mirror"),
        "cache.memory": 0,
        **(overrides or {}),
    }
    home.mkdir(parents=True, exist_ok=True)
    log = home / "fleet.log"
    reader, writer = os.pipe()
    command = [
        *(sys.executable, "-m", "broker", "serve", "-c", str(config), "--processes", str(processes)),
        *(part for key, value in settings.items() for part in ("--set", f"{key}={value}")),
        *("--ready-fd", str(writer)),
    ]
    environment = {**os.environ, "DATABASE_URL": dsn}
    with log.open("wb") as output, os.fdopen(reader) as ready:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=output, stderr=output, pass_fds=[writer]
        )
        os.close(writer)
        try:
            told = json.loads(wait_ready(ready, process, log))
            metrics = tuple(filter(None, told["metrics"].split(",")))
            yield RunningFleet(told["address"], metrics, tuple(told["processes"]), process, log)
        finally:
            end(process)
