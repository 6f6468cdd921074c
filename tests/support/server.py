"""A broker in a process of its own, as users run it, for tests over real gRPC channels."""

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
from typing import IO

import psutil

from tests.support.processes import left_of

ROOT = Path(__file__).parents[2]
FLIGHTS_MODEL = ROOT / "broker" / "demo" / "flights.yaml"
START_SECONDS = 60


@dataclass(frozen=True)
class RunningBroker:
    """A broker that answers at ``address``; its log is at ``log``."""

    address: str
    metrics: str
    process: subprocess.Popen[bytes]
    log: Path

    def workers(self) -> list[psutil.Process]:
        """The worker processes and what they started."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def stop(self) -> int:
        """Asks the broker to drain and waits for it; returns its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)


@contextmanager
def running_broker(
    dsn: str,
    home: Path,
    *,
    config: Path = FLIGHTS_MODEL,
    overrides: Mapping[str, object] | None = None,
    role: str = "serve",
) -> Iterator[RunningBroker]:
    """Starts a broker on a free port (or a worker) for the database, and ends it with everything that it started."""
    settings: dict[str, object] = {
        "database.dsn": dsn,
        "server.port": 0,
        "server.drain.notice": 0,
        "server.lag_limit": 10,  # tests share their machine, and are not about that
        "telemetry.prometheus_port": 0,
        "jobs.result_dir": str(home / "results"),
        "rollups.mirror_dir": str(home / "mirror"),
        "cache.memory": 0,  # what is asked is to be answered, not remembered; tests of the cache turn it on
        **(overrides or {}),
    }
    home.mkdir(parents=True, exist_ok=True)
    log = home / f"{role}.log"
    reader, writer = os.pipe()
    command = [
        sys.executable,
        "-m",
        "tests.support.serve_main",
        role,
        str(config),
        json.dumps(settings),
        str(writer),
    ]
    with log.open("wb") as output, os.fdopen(reader) as ready:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output, pass_fds=[writer])
        os.close(writer)
        try:
            info = json.loads(wait_ready(ready, process, log))
            yield RunningBroker(info["address"], info["metrics_address"], process, log)
        finally:
            end(process)


def wait_ready(ready: IO[str], process: subprocess.Popen[bytes], log: Path) -> str:
    """The line that a broker writes when it serves."""
    line = ready.readline()  # ends without a line when the process dies
    if not line:
        process.wait(timeout=START_SECONDS)
        raise RuntimeError(f"the broker did not start:\n{log.read_text()[-4000:]}")
    return line


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends a process in order, and by force what it leaves behind."""
    try:
        family = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for child in left_of(family, 10):
        child.kill()
